"""The seed's attribute policy: its decisions over all config keys are stock's, and a property runs once per read."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from rpyc.core.protocol import Connection as StockConnection  # type: ignore[import-untyped]

from gateway.limits import Limits
from gateway.protocol.constants import Handler
from gateway.protocol.netref import IdPack
from gateway.protocol.vinegar import GenericException
from gateway.service.handlers import HANDLERS
from gateway.service.seed_policy import SeedPolicy
from gateway.sync.config import DEFAULT_CONFIG
from tests.protocol.proxies import FakeConnection, KnownProxy

LIMITS: Final = Limits(buffiter_items=5, buffiter_bytes=100)


def policy(**config: Any) -> SeedPolicy:
    return SeedPolicy({**DEFAULT_CONFIG, **config}, LIMITS)


class Plain:
    """Attributes on the class and on the instance, prefixed and not."""

    public = "class public"
    exposed_both = "exposed both"
    both = "plain both"
    _private = "private"
    exposed_only = "exposed only"

    def __init__(self) -> None:
        self.own = "own"
        self.exposed_own_only = "exposed own only"
        self.own_both = "plain own both"
        self.exposed_own_both = "exposed own both"

    def __len__(self) -> int:
        return 1


class MadeUp:
    """Attributes that exist when they are asked for."""

    def __getattr__(self, name: str) -> str:
        if name in ("public", "both", "exposed_both", "exposed_only", "_private"):
            return f"made up {name}"
        raise AttributeError(name)


class Slotted:
    __slots__ = ("exposed_only", "own")

    def __init__(self) -> None:
        self.own = "own"
        self.exposed_only = "exposed only"


OBJECTS: Final[dict[str, Callable[[], Any]]] = {
    "plain": Plain,
    "made-up": MadeUp,
    "slotted": Slotted,
    "class": lambda: Plain,
    "value": lambda: "text",
}
NAMES: Final = (
    "public both only own own_only own_both _private exposed_only exposed_both exposed_own_only exposed_ __len__ "
    "__class__ __init__ __dict__ missing exposed_missing _missing __missing__ upper"
).split()
SWITCHES: Final = ("allow_exposed_attrs", "allow_safe_attrs", "allow_public_attrs", "allow_all_attrs")
CONFIGS: Final = [dict(zip(SWITCHES, values, strict=True)) for values in itertools.product((True, False), repeat=4)]


def by_stock(obj: Any, name: str, config: dict[str, Any]) -> Any:
    """What stock reads under `name`, or "refused"."""
    decider = SimpleNamespace(_config={**DEFAULT_CONFIG, **config})
    try:
        return getattr(obj, StockConnection._check_attr(decider, obj, name, "allow_getattr"))
    except AttributeError:
        return "refused"


def by_us(obj: Any, name: str, config: dict[str, Any]) -> Any:
    try:
        return policy(**config).get(obj, name)
    except AttributeError:
        return "refused"


def told(config: dict[str, Any]) -> str:
    return "+".join(switch.split("_")[1] for switch in SWITCHES if config[switch]) or "nothing"


@pytest.mark.parametrize("config", CONFIGS, ids=told)
@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_under_every_config_a_name_reads_what_stock_reads(make: Callable[[], Any], config: dict[str, Any]) -> None:
    obj = make()
    ours = {name: repr(by_us(obj, name, config)) for name in NAMES}
    assert ours == {name: repr(by_stock(obj, name, config)) for name in NAMES}


@pytest.mark.parametrize("permission", ["allow_getattr", "allow_setattr", "allow_delattr"])
def test_an_operation_that_is_off_is_off_for_every_name(permission: str) -> None:
    open_otherwise = dict.fromkeys(SWITCHES, True) | {
        key: key != permission for key in ("allow_getattr", "allow_setattr", "allow_delattr")
    }
    gate, obj = policy(**open_otherwise), Plain()
    operation: Callable[[str], Any] = {
        "allow_getattr": lambda name: gate.get(obj, name),
        "allow_setattr": lambda name: gate.set(obj, name, 5),
        "allow_delattr": lambda name: gate.delete(obj, name),
    }[permission]
    for name in NAMES:
        with pytest.raises(AttributeError, match=f"{permission} off"):
            operation(name)


def test_setting_and_deleting_follow_the_same_rules_as_reading() -> None:
    gate, obj = policy(allow_setattr=True, allow_delattr=True), Plain()
    gate.set(obj, "own_only", 5)
    assert vars(obj)["exposed_own_only"] == 5
    gate.set(obj, "exposed_new", 6)
    assert obj.exposed_new == 6  # type: ignore[attr-defined]
    gate.delete(obj, "own_only")
    assert not hasattr(obj, "exposed_own_only")
    for name in ("own", "public", "_private", "missing"):
        with pytest.raises(AttributeError, match="only exposed names"):
            gate.set(obj, name, 5)
        with pytest.raises(AttributeError, match="only exposed names"):
            gate.delete(obj, name)


def test_a_config_that_changes_is_obeyed_at_once() -> None:
    config = dict(DEFAULT_CONFIG)
    gate, obj = SeedPolicy(config, LIMITS), Plain()
    with pytest.raises(AttributeError):
        gate.get(obj, "public")
    config["allow_public_attrs"] = True
    assert gate.get(obj, "public") == "class public"


@pytest.mark.parametrize("prefix", ["", "remote_", "exposed_"])
def test_the_prefix_is_the_configs(prefix: str) -> None:
    obj = SimpleNamespace(remote_x=1, exposed_x=2, x=3)
    assert policy(exposed_prefix=prefix).get(obj, "x") == {"": 3, "remote_": 1, "exposed_": 2}[prefix]


# -- a property runs once ----------------------------------------------------------------------------------------------


class Meter:
    """Counts its readings."""

    def __init__(self) -> None:
        self.reads = 0

    @property
    def exposed_volts(self) -> float:
        self.reads += 1
        return 3.3

    @property
    def amps(self) -> float:
        self.reads += 1
        return 0.1

    @property
    def exposed_broken(self) -> float:
        self.reads += 1
        raise AttributeError("the meter is off")


class MadeUpMeter:
    """Counts its readings, which are attributes it makes up."""

    def __init__(self) -> None:
        self.reads = 0

    def __getattr__(self, name: str) -> float:
        if name in ("exposed_volts", "amps"):
            self.reads += 1
            return 3.3
        raise AttributeError(name)


class MeterOfAThird(KnownProxy):
    """A proxy of a third party: each reading is a question to its owner."""

    __slots__ = ("reads",)

    def __init__(self) -> None:
        super().__init__(FakeConnection(2), ("bench.Meter", 7, 8))
        self.reads = 0

    def __getattr__(self, name: str) -> float:
        if name in ("exposed_volts", "amps"):
            self.reads += 1
            return 3.3
        raise AttributeError(name)


@pytest.mark.parametrize("make", [Meter, MadeUpMeter, MeterOfAThird])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("volts", {}),
        ("exposed_volts", {}),
        ("volts", {"allow_public_attrs": True}),
        ("amps", {"allow_public_attrs": True}),
    ],
    ids=["by-short-name", "by-full-name", "either-name", "public"],
)
def test_a_reading_is_taken_once_per_read(make: Callable[[], Any], name: str, config: dict[str, Any]) -> None:
    meter = make()
    assert policy(**config).get(meter, name) in (3.3, 0.1)
    assert meter.reads == 1


def test_no_reading_is_taken_to_refuse_set_list_or_inspect() -> None:
    meter, gate = Meter(), policy(allow_setattr=True)
    with pytest.raises(AttributeError):
        gate.get(meter, "amps")
    with pytest.raises(AttributeError):
        gate.set(meter, "amps", 1)
    with pytest.raises(AttributeError):
        gate.set(meter, "volts", 1)
    gate.dir_of(meter)
    gate.methods(meter)
    assert meter.reads == 0


@pytest.mark.parametrize("name", ["broken", "exposed_broken"])
def test_an_error_inside_a_property_is_told_and_not_called_a_refusal(name: str) -> None:
    meter = Meter()
    with pytest.raises(AttributeError, match="the meter is off"):
        policy().get(meter, name)
    assert meter.reads == 1


# -- objects that decide themselves ------------------------------------------------------------------------------------


class Hooked:
    """Lets exactly one name through, whatever the config says."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"open": 1}

    def _rpyc_getattr(self, name: str) -> Any:
        if name not in self.values:
            raise AttributeError(name)
        return self.values[name]

    def _rpyc_setattr(self, name: str, value: Any) -> None:
        self.values[name] = value

    def _rpyc_delattr(self, name: str) -> None:
        del self.values[name]

    def __lt__(self, other: object) -> bool:
        raise AssertionError("compared past the object's own hook")

    __eq__ = __lt__
    __hash__ = None  # type: ignore[assignment]

    def exposed_method(self) -> None: ...


@pytest.mark.parametrize("config", CONFIGS, ids=told)
def test_hooks_decide_instead_of_the_config(config: dict[str, Any]) -> None:
    gate, obj = policy(**config, allow_getattr=False), Hooked()
    assert gate.get(obj, "open") == 1
    gate.set(obj, "new", 2)
    assert gate.get(obj, "new") == 2
    gate.delete(obj, "new")
    with pytest.raises(AttributeError):
        gate.get(obj, "new")
    with pytest.raises(AttributeError):
        gate.call_attr(obj, "exposed_method", (), {})


def test_comparisons_do_not_go_past_a_hook() -> None:
    gate, obj = policy(), Hooked()
    assert gate.compare(obj, obj, "__eq__") is True
    assert gate.compare(obj, 5, "__ne__") is True
    with pytest.raises(AttributeError):
        gate.compare(obj, 5, "__lt__")
    obj.values["__lt__"] = lambda other: "asked"
    assert gate.compare(obj, 5, "__lt__") == "asked"


def test_a_hook_on_an_instance_or_a_third_partys_proxy_does_not_count() -> None:
    instance = SimpleNamespace(_rpyc_getattr=lambda name: "hooked", exposed_x=1)
    assert policy().get(instance, "x") == 1


# -- the other operations ----------------------------------------------------------------------------------------------


class Number:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return self.value == other

    def __hash__(self) -> int:
        return self.value

    def __lt__(self, other: int) -> bool:
        return self.value < other

    def __repr__(self) -> str:
        return f"Number({self.value})"

    def __str__(self) -> str:
        return f"number {self.value}"

    def exposed_secret(self, other: object) -> str:
        return "secret"


def test_a_comparison_runs_the_operator_of_the_class() -> None:
    gate, number = policy(), Number(5)
    assert gate.compare(number, 5, "__eq__") is True
    assert gate.compare(number, 6, "__lt__") is True
    with pytest.raises(AttributeError, match="__lt__"):
        policy(allow_safe_attrs=False).compare(number, 6, "__lt__")


@pytest.mark.parametrize("operator", ["exposed_secret", "secret", "__class__", "__init__", "__hash__", ""])
def test_only_a_comparison_is_one(operator: str) -> None:
    with pytest.raises(AttributeError, match="no comparison"):
        policy(allow_all_attrs=True).compare(Number(5), 5, operator)


def test_text_hash_and_names_are_the_objects_own() -> None:
    gate, number = policy(), Number(5)
    assert (gate.repr_of(number), gate.str_of(number), gate.hash_of(number)) == ("Number(5)", "number 5", 5)
    assert set(gate.dir_of(number)) == set(dir(number))


def test_a_call_is_a_call() -> None:
    gate = policy()
    assert gate.call(divmod, (7, 2), {}) == (3, 1)
    with pytest.raises(AttributeError):
        gate.call_attr("a-b", "split", ("-",), {})
    assert policy(allow_public_attrs=True).call_attr("a-b", "split", ("-",), {"maxsplit": 1}) == ["a", "b"]


def test_the_method_table_lists_exposed_methods_that_may_be_called_only() -> None:
    assert "exposed_secret" in dict(policy().methods(Number(5)))
    assert "exposed_secret" not in dict(policy(allow_getattr=False).methods(Number(5)))
    assert "exposed_secret" not in dict(policy(allow_exposed_attrs=False).methods(Number(5)))
    assert "__len__" in dict(policy(allow_getattr=False).methods(Plain())), "Python looks it up on the proxy's class"
    assert "exposed_method" in dict(policy(allow_getattr=False).methods(Hooked()))


def test_a_third_partys_proxy_shows_the_table_its_owner_gave() -> None:
    class Known(KnownProxy):
        __slots__ = ()
        ____methods__ = (("volts", "The voltage."),)

    assert policy().methods(Known(FakeConnection(2), ("bench.Meter", 7, 8))) == (("volts", "The voltage."),)


@pytest.mark.parametrize("protocol", [0, 4])
def test_pickling_needs_the_configs_consent(protocol: int) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        policy().pickled([1, 2], protocol)
    assert pickle.loads(policy(allow_pickle=True).pickled([1, 2], protocol)) == [1, 2]


def test_items_are_taken_in_bounded_blocks_and_none_is_lost() -> None:
    gate, numbers = policy(), iter(range(12))
    blocks = [gate.take(numbers, 10**9) for _ in range(4)]
    assert blocks == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11), ()]
    texts = iter(["x" * 60] * 3)
    assert [len(gate.take(texts, 9)) for _ in range(3)] == [2, 1, 0]
    assert gate.take(iter([1]), 0) == ()
    assert gate.take([1, 2, 3], 2) == (1, 2)


class OldSequence:
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            raise TypeError("no slices")
        return key

    def __getslice__(self, start: int, stop: int) -> tuple[int, int]:
        return start, stop


def test_old_slicing_falls_back_where_slices_are_unknown() -> None:
    gate = policy()
    assert gate.slice_of([1, 2, 3], "__getitem__", "__getslice__", slice(0, 2), ()) == [1, 2]
    assert gate.slice_of(OldSequence(), "__getitem__", "__getslice__", slice(1, 2), ()) == (1, 2)
    assert gate.slice_of(OldSequence(), "__getitem__", "__getslice__", slice(1, None), ()) == (1, 2**63 - 1)


class Context:
    def __init__(self) -> None:
        self.left_with: Any = None

    def __exit__(self, *exc_info: object) -> str:
        self.left_with = exc_info
        return "handled"


class ErrorOfThePeer(KnownProxy):
    def __init__(self, name: str) -> None:
        super().__init__(None, (name, 1, 2))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ErrorOfThePeer("builtins.KeyError"), KeyError),
        (ErrorOfThePeer("bench.Overload"), GenericException),
        (ErrorOfThePeer("builtins.SystemExit"), GenericException),
        (ErrorOfThePeer("builtins.print"), GenericException),
        (ValueError("by value"), ValueError),
        ("text", GenericException),
    ],
    ids=["builtin", "custom", "ending", "no-error", "value", "text"],
)
def test_a_context_is_left_with_a_stand_in_for_the_peers_error(error: Any, kind: type[Exception]) -> None:
    context = Context()
    assert policy().exit_context(context, error) == "handled"
    assert context.left_with[0] is kind
    assert type(context.left_with[1]) is kind
    assert context.left_with[2] is not None
    if kind is GenericException and isinstance(error, KnownProxy):
        assert context.left_with[1].remote_class == error.____id_pack__[0]


def test_a_context_is_left_without_an_error_and_only_where_that_is_allowed() -> None:
    context = Context()
    policy().exit_context(context, None)
    assert context.left_with == (None, None, None)
    with pytest.raises(AttributeError):
        policy(allow_safe_attrs=False).exit_context(context, None)


@pytest.mark.parametrize(
    ("cls", "other", "id_pack", "is_one"),
    [
        (Number, Number(1), ("a.Number", 1, 2), True),
        (Number, Plain(), ("a.Plain", 1, 2), False),
        (object, None, ("builtins.list", 1, 2), True),
        (list, None, ("builtins.list", 1, 2), True),
        (int, None, ("builtins.list", 1, 2), False),
        (Number, None, ("a.Number", 1, 2), False),
        (Number, None, ("tests.service.test_seed_policy.Number", 1, 2), False),
        (5, None, ("builtins.int", 1, 2), False),
    ],
)
def test_an_instance_is_known_by_itself_or_by_a_builtin_name(
    cls: Any, other: Any, id_pack: IdPack, is_one: bool
) -> None:
    assert policy().is_instance(cls, other, id_pack) is is_one


def test_results_go_as_they_are_and_tracebacks_as_the_config_says() -> None:
    value = [1, {"a": 2}]
    assert policy().result(value) is value
    assert policy().shows_traceback() is True
    assert policy(include_local_traceback=False).shows_traceback() is False


# -- handlers ----------------------------------------------------------------------------------------------------------


def numbers() -> Iterator[int]:
    yield from (1, 2, 3)


@pytest.mark.parametrize(
    ("handler", "args", "answer"),
    [
        (Handler.GETATTR, [Plain(), "only"], "exposed only"),
        (Handler.CALL, [divmod, (7, 2), {}], (3, 1)),
        (Handler.CALLATTR, [[3], "__len__", (), {}], 1),
        (Handler.REPR, [Number(5)], "Number(5)"),
        (Handler.STR, [Number(5)], "number 5"),
        (Handler.HASH, [Number(5)], 5),
        (Handler.CMP, [Number(5), 5, "__eq__"], True),
        (Handler.BUFFITER, [numbers(), 2], (1, 2)),
        (Handler.OLDSLICING, [[1, 2, 3], "__getitem__", "__getslice__", 1, None, ()], [2, 3]),
        (Handler.CTXEXIT, [Context(), None], "handled"),
    ],
    ids=lambda value: value.name if isinstance(value, Handler) else "",
)
def test_each_handler_asks_the_policy_its_one_question(handler: Handler, args: list[Any], answer: Any) -> None:
    assert HANDLERS[handler](policy(), *args) == answer


def test_setting_and_deleting_answer_nothing() -> None:
    gate, obj = policy(allow_setattr=True, allow_delattr=True), SimpleNamespace()
    assert HANDLERS[Handler.SETATTR](gate, obj, "exposed_x", 1) is None
    assert obj.exposed_x == 1
    assert HANDLERS[Handler.DELATTR](gate, obj, "x") is None
    assert not hasattr(obj, "exposed_x")
