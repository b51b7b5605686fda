"""The device policy: every operation on every kind of object, with nothing but the exposure table to open it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pytest

from gateway.errors import AccessDenied
from gateway.limits import Limits
from gateway.protocol.constants import Handler
from gateway.protocol.netref import Netref
from gateway.service.device_policy import DevicePolicy, ItemStream, MappingView, Member, plain
from gateway.service.exposure import Exposable, exposed
from gateway.service.handlers import HANDLERS
from tests.protocol.proxies import FakeConnection, KnownProxy

LIMITS: Final = Limits(buffiter_items=5, buffiter_bytes=100)


class Supply(Exposable):
    """A device with a member of each kind, and much that nobody is to reach."""

    secret = "the secret"

    def __init__(self, name: str = "psu1") -> None:
        self.name = name
        self.volts = 0.0
        self.reads = 0
        self.left: list[Any] = []

    @exposed(unit="V")  # type: ignore[prop-decorator]
    @property
    def voltage(self) -> float:
        """The set voltage."""
        self.reads += 1
        return self.volts

    @voltage.setter
    def voltage(self, volts: float) -> None:
        self.volts = volts

    @exposed  # type: ignore[prop-decorator]
    @property
    def fixed(self) -> int:
        return 1

    @exposed
    def add(self, a: int, b: int = 0) -> int:
        """Add."""
        return a + b

    @exposed
    def trace(self) -> Iterator[int]:
        yield from range(20)

    @exposed
    def __enter__(self) -> Self:
        return self

    @exposed
    def __exit__(self, *exc_info: object) -> None:
        self.left.append(exc_info)

    def exposed_by_name(self) -> str:
        return "by name"

    def hidden(self) -> str:
        return self.secret

    def __call__(self) -> str:
        return self.secret

    def __len__(self) -> int:
        return 42

    def __getitem__(self, key: Any) -> str:
        return self.secret

    def __iter__(self) -> Iterator[str]:
        return iter([self.secret])

    def __next__(self) -> str:
        return self.secret

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __repr__(self) -> str:
        raise AssertionError("shown")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("pickled")

    def __dir__(self) -> list[str]:
        raise AssertionError("listed")


@pytest.fixture
def policy() -> DevicePolicy:
    return DevicePolicy(LIMITS)


EXPOSED: Final = {"voltage", "fixed", "add", "trace", "by_name", "__enter__", "__exit__"}
HIDDEN: Final = (
    "hidden secret name volts left reads exposures gateway_lane __exposure__ __class__ __dict__ __init__ __call__ "
    "__len__ __getitem__ __iter__ __next__ __eq__ __reduce_ex__ __getattribute__ __doc__ __module__ __subclasshook__ "
    "no_such_name exposed_hidden exposed_ exposed_exposed_add"
).split()


# -- what the table holds ----------------------------------------------------------------------------------------------


def test_a_property_is_read_once_per_read(policy: DevicePolicy) -> None:
    supply = Supply()
    assert policy.get(supply, "voltage") == 0.0
    assert supply.reads == 1
    assert policy.get(supply, "exposed_voltage") == 0.0
    assert supply.reads == 2


def test_a_method_is_given_as_a_handle_and_called_through_it(policy: DevicePolicy) -> None:
    handle_of_add = policy.get(Supply(), "add")
    assert type(handle_of_add) is Member
    assert policy.call(handle_of_add, (1,), {"b": 2}) == 3
    assert policy.call_attr(handle_of_add, "__call__", (1, 2), {}) == 3
    assert policy.methods(handle_of_add) == (("__call__", "add(a: int, b: int = 0) -> int\n\nAdd."),)


@pytest.mark.parametrize("name", ["add", "exposed_add"])
def test_a_method_is_called_in_one_go(policy: DevicePolicy, name: str) -> None:
    assert policy.call_attr(Supply(), name, (1,), {"b": 2}) == 3


def test_a_settable_property_is_set_and_nothing_else_is(policy: DevicePolicy) -> None:
    supply = Supply()
    policy.set(supply, "voltage", 3.3)
    assert (supply.volts, supply.reads) == (3.3, 0)
    for name in [*(EXPOSED - {"voltage"}), *HIDDEN, "exposed_voltage"]:
        with pytest.raises(AccessDenied):
            policy.set(supply, name, 5.0)
    assert supply.volts == 3.3


def test_nothing_is_ever_deleted(policy: DevicePolicy) -> None:
    supply = Supply()
    for name in [*EXPOSED, *HIDDEN]:
        with pytest.raises(AccessDenied):
            policy.delete(supply, name)


def test_what_is_listed_is_what_can_be_reached(policy: DevicePolicy) -> None:
    supply = Supply()
    assert set(policy.dir_of(supply)) == EXPOSED
    assert {name for name, _ in policy.methods(supply)} == EXPOSED - {"voltage", "fixed"}
    assert dict(policy.methods(supply))["add"] == "add(a: int, b: int = 0) -> int\n\nAdd."


def test_where_each_byte_takes_long_methods_are_named_only() -> None:
    supply = Supply()
    brief = DevicePolicy(Limits())
    brief.brief = True
    assert set(brief.methods(supply)) == {(name, None) for name in EXPOSED - {"voltage", "fixed"}}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_not_in_the_table_is_not_there(policy: DevicePolicy, name: str) -> None:
    supply = Supply()
    reads: list[Callable[[], Any]] = [
        lambda: policy.get(supply, name),
        lambda: policy.call_attr(supply, name, (), {}),
    ]
    for read in reads:
        with pytest.raises(AccessDenied) as denied:
            read()
        assert str(denied.value) == f"psu1: {name!r} is not exposed for read; dir() lists what is"
        assert (denied.value.rule, denied.value.member) == ("exposure-table", name)
        assert isinstance(denied.value, AttributeError)


def test_a_property_can_not_be_called_in_one_go(policy: DevicePolicy) -> None:
    supply = Supply()
    with pytest.raises(AccessDenied):
        policy.call_attr(supply, "voltage", (), {})
    assert supply.reads == 0


# -- operations that ask no name ---------------------------------------------------------------------------------------


def test_an_object_is_shown_by_its_class_and_name(policy: DevicePolicy) -> None:
    assert policy.repr_of(Supply()) == policy.str_of(Supply()) == "<Supply psu1>"
    assert policy.repr_of(Supply(name=5)) == "<Supply>"  # type: ignore[arg-type]
    assert policy.repr_of(policy.get(Supply(), "add")) == "<method>"


def test_objects_compare_by_identity_only(policy: DevicePolicy) -> None:
    one, other = Supply(), Supply()
    assert policy.compare(one, one, "__eq__") is True
    assert policy.compare(one, other, "__eq__") is False
    assert policy.compare(one, other, "__ne__") is True
    for operator in ("__lt__", "__gt__", "__cmp__", "hidden", "add", "__class__"):
        with pytest.raises(AccessDenied):
            policy.compare(one, other, operator)


def test_a_hash_is_the_same_for_the_same_object_and_tells_no_address(policy: DevicePolicy) -> None:
    supply = Supply()
    assert policy.hash_of(supply) == policy.hash_of(supply) != policy.hash_of(Supply())
    assert policy.hash_of(supply) not in (id(supply), id(supply) >> 4)


def test_a_context_is_left_through_the_table(policy: DevicePolicy) -> None:
    supply = Supply()
    policy.exit_context(supply, None)
    assert supply.left == [(None, None, None)]
    policy.exit_context(supply, ValueError("theirs"))
    kind, error, _ = supply.left[1]
    assert kind is ValueError
    assert error.args == (), "the peer's exception stays with the peer"
    with pytest.raises(AccessDenied):
        policy.exit_context(ItemStream(iter(())), None)


@pytest.mark.parametrize("protocol", [0, 4, 5])
def test_nothing_is_pickled(policy: DevicePolicy, protocol: int) -> None:
    with pytest.raises(AccessDenied):
        policy.pickled(Supply(), protocol)


def test_nothing_is_sliced_or_tested_for_its_class(policy: DevicePolicy) -> None:
    with pytest.raises(AccessDenied):
        policy.slice_of(Supply(), "__getitem__", "__getslice__", slice(0, 1), ())
    with pytest.raises(AccessDenied):
        policy.is_instance(Supply, Supply(), ("a.Supply", 1, 2))


def test_an_object_is_not_called_and_not_iterated(policy: DevicePolicy) -> None:
    with pytest.raises(AccessDenied):
        policy.call(Supply(), (), {})
    with pytest.raises(AccessDenied):
        policy.take(Supply(), 1)


# -- targets that are no devices ---------------------------------------------------------------------------------------

TARGETS: Final = {
    "a class": Supply,
    "a handle": Member(Supply(), Supply.__exposure__["add"]),
    "a proxy": KnownProxy(FakeConnection(2), ("bench.Supply", 7, 8)),
    "a number": 5,
    "a list": [1, 2],
    "a module": np,
    "a function": len,
    "a bound method": Supply().hidden,
    "an exception": ValueError("x"),
    "nothing": None,
}
OPERATIONS: Final[dict[Handler, tuple[Any, ...]]] = {
    Handler.GETATTR: ("voltage",),
    Handler.SETATTR: ("voltage", 5),
    Handler.DELATTR: ("voltage",),
    Handler.CALL: ((), {}),
    Handler.CALLATTR: ("voltage", (), {}),
    Handler.CMP: (5, "__lt__"),
    Handler.PICKLE: (4,),
    Handler.BUFFITER: (3,),
    Handler.OLDSLICING: ("__getitem__", "__getslice__", 0, 1, ()),
    Handler.CTXEXIT: (None,),
}


@pytest.mark.parametrize("handler", OPERATIONS, ids=lambda handler: handler.name)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_handler_opens_what_has_no_table(policy: DevicePolicy, target: Any, handler: Handler) -> None:
    if type(target) is Member and handler is Handler.CALL:
        assert policy.call(target, (1, 2), {}) == 3
        return
    with pytest.raises(AccessDenied):
        HANDLERS[handler](policy, target, *OPERATIONS[handler])
    assert isinstance(vars(Supply)["voltage"], property)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_has_no_table_lists_nothing_and_shows_its_class_only(policy: DevicePolicy, target: Any) -> None:
    assert HANDLERS[Handler.DIR](policy, target) == ()
    assert (
        HANDLERS[Handler.REPR](policy, target) == HANDLERS[Handler.STR](policy, target) == f"<{type(target).__name__}>"
    )
    assert isinstance(HANDLERS[Handler.HASH](policy, target), int)
    if type(target) is not Member:
        assert policy.methods(target) == ()


def test_every_handler_that_reaches_an_object_is_covered_here() -> None:
    assert set(HANDLERS) == {*OPERATIONS, Handler.DIR, Handler.REPR, Handler.STR, Handler.HASH}


# -- results -----------------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: int


def test_containers_go_as_they_are_to_peers_that_take_them(policy: DevicePolicy) -> None:
    policy.peer_takes_copies = True
    for value in ([1], {"a": 1}, {1}, np.arange(3), (1, [2])):
        assert policy.result(value) is value


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ([1, [2]], (1, (2,))),
        ((1, [2]), (1, (2,))),
        (np.arange(3), (0, 1, 2)),
        ({1}, frozenset((1,))),
        (bytearray(b"ab"), b"ab"),
        ("text", "text"),
        (None, None),
    ],
    ids=repr,
)
def test_containers_become_values_for_peers_that_do_not(policy: DevicePolicy, value: Any, sent: Any) -> None:
    assert policy.result(value) == sent
    assert type(policy.result(value)) is type(sent)


def test_a_dict_becomes_a_view_that_reads_like_one(policy: DevicePolicy) -> None:
    view = policy.result({"a": [1, 2], "b": {"c": 3}})
    assert type(view) is MappingView
    assert type(view).__qualname__ == "MappingView"
    assert f"{type(view).__module__}.{type(view).__name__}" == "builtins.dict", "a stock client knows that name"
    assert policy.call_attr(view, "__getitem__", ("a",), {}) == (1, 2)
    assert policy.call_attr(view, "get", ("x", 7), {}) == 7
    assert policy.call_attr(view, "keys", (), {}) == ("a", "b")
    assert policy.call_attr(view, "__len__", (), {}) == 2
    assert policy.call_attr(view, "__contains__", ("b",), {}) is True
    assert policy.call_attr(view, "values", (), {})[0] == (1, 2)
    assert policy.call_attr(view, "items", (), {})[0] == ("a", (1, 2))
    assert type(policy.call_attr(view, "__getitem__", ("b",), {})) is MappingView
    assert policy.take(policy.call_attr(view, "__iter__", (), {}), 9) == ("a", "b")
    assert policy.repr_of(view) == "{'a': (1, 2), 'b': {'c': 3}}"
    for name in ("__setitem__", "pop", "update", "_mapping", "clear"):
        with pytest.raises(AccessDenied):
            policy.call_attr(view, name, (), {})


def test_a_dict_in_a_list_becomes_a_view_too() -> None:
    (view,) = plain([{"a": 1}])
    assert type(view) is MappingView


@pytest.mark.parametrize("items", [iter([1, 2]), (item for item in (1, 2)), map(int, "12"), zip((1, 2), strict=False)])
def test_an_iterator_becomes_a_stream_that_can_be_read_in_blocks(policy: DevicePolicy, items: Any) -> None:
    stream = policy.result(items)
    assert type(stream) is ItemStream
    assert policy.call_attr(stream, "__iter__", (), {}) is stream
    policy.call_attr(stream, "__next__", (), {})
    assert len(policy.take(stream, 9)) == 1
    assert policy.take(stream, 9) == ()
    with pytest.raises(StopIteration):
        policy.call_attr(stream, "__next__", (), {})


def test_a_stream_that_is_closed_ends_its_generator(policy: DevicePolicy) -> None:
    ended: list[bool] = []

    def readings() -> Iterator[int]:
        try:
            yield from count()
        finally:
            ended.append(True)

    stream = policy.result(readings())
    assert policy.take(stream, 2) == (0, 1)
    policy.call_attr(stream, "close", (), {})
    assert ended == [True]
    policy.call_attr(policy.result(iter([1])), "close", (), {})


def test_blocks_of_a_stream_are_bounded(policy: DevicePolicy) -> None:
    stream = policy.result(count())
    assert policy.take(stream, 10**9) == (0, 1, 2, 3, 4)
    assert policy.take(stream, 0) == ()
    assert policy.take(stream, 1) == (5,)
    large = policy.result(iter(["x" * 60] * 5))
    assert len(policy.take(large, 5)) == 2, "100 bytes are enough for one reply"
    assert len(policy.take(large, 5)) == 2


def test_proxies_and_exposed_objects_are_no_streams(policy: DevicePolicy) -> None:
    proxy: Netref = KnownProxy(FakeConnection(2), ("builtins.list_iterator", 7, 8))
    supply = Supply()
    assert policy.result(proxy) is proxy
    assert policy.result(supply) is supply


def test_a_list_that_holds_itself_is_that_calls_error(policy: DevicePolicy) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        policy.result(endless)


def test_no_traceback_leaves(policy: DevicePolicy) -> None:
    assert policy.shows_traceback() is False
