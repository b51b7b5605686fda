"""Which names a peer reaches: the attribute keys of the config, hooks, and the forms a name may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import ProtocolError
from tests.behaviour.differences import differs

GETATTR = 4

Connect = Callable[..., Any]


class Instrument:
    """One member of every sort that the attribute policy tells apart."""

    label = "public"
    _secret = "private"
    exposed_range = 10

    def __init__(self) -> None:
        self.exposed_gain = 1.0

    def __len__(self) -> int:
        return 3

    def __add__(self, other: str) -> str:
        return self.measure() + other

    def measure(self) -> str:
        return "public measure"

    def _calibrate(self) -> str:
        return "private calibrate"

    def exposed_zero(self) -> str:
        return "exposed zero"

    def reset(self) -> str:
        return "plain reset"

    def exposed_reset(self) -> str:
        return "exposed reset"

    def rpc_status(self) -> str:
        return "prefixed status"


class Bench:
    """Hands the instrument out by reference."""

    def __init__(self) -> None:
        self.instrument = Instrument()

    def exposed_get(self) -> Instrument:
        return self.instrument

    def rpc_get(self) -> Instrument:
        return self.instrument

    get = exposed_get


@pytest.fixture
def bench(as_service: Callable[[type], type]) -> Any:
    return as_service(Bench)()


@pytest.fixture
def instrument(connect: Connect, bench: Any) -> Callable[..., Any]:
    """The instrument's netref, seen through a peer with the given config."""

    def instrument(**remote_config: Any) -> Any:
        return connect(bench, remote_config=remote_config).root.get()

    return instrument


def reachable(obj: Any, *names: str) -> set[str]:
    """The names of `names` that can be read, and called if they are methods."""
    found = set()
    for name in names:
        try:
            member = getattr(obj, name)
            if callable(member):
                member()
        except AttributeError:
            continue
        found.add(name)
    return found


NAMES = ("zero", "exposed_zero", "gain", "measure", "label", "_calibrate", "_secret")


def test_by_default_exposed_and_safe_names_are_reached(instrument: Callable[..., Any]) -> None:
    device = instrument()
    assert reachable(device, *NAMES) == {"zero", "exposed_zero", "gain"}
    assert device.zero() == "exposed zero"
    assert device.exposed_zero() == "exposed zero"
    assert device.gain == 1.0
    assert len(device) == 3
    assert device + " volts" == "public measure volts"


def test_a_refused_name_reads_like_an_attribute_error(instrument: Callable[..., Any]) -> None:
    device = instrument()
    with pytest.raises(AttributeError, match="measure"):
        device.measure()
    assert not hasattr(device, "_calibrate")
    assert getattr(device, "missing", "default") == "default"


def test_allow_safe_attrs_off_refuses_operators(instrument: Callable[..., Any]) -> None:
    device = instrument(allow_safe_attrs=False)
    assert reachable(device, *NAMES) == {"zero", "exposed_zero", "gain"}
    with pytest.raises(AttributeError):
        len(device)
    with pytest.raises(AttributeError):
        device + " volts"


def test_safe_attrs_is_the_set_of_safe_names(instrument: Callable[..., Any]) -> None:
    device = instrument(safe_attrs={"measure"})
    assert device.measure() == "public measure"
    with pytest.raises(AttributeError):
        len(device)


def test_allow_exposed_attrs_off_refuses_exposed_names(connect: Connect, bench: Any) -> None:
    conn = connect(bench, remote_config={"allow_exposed_attrs": False, "allow_safe_attrs": True})
    assert reachable(conn.root, "get", "exposed_get") == set()


def test_allow_public_attrs_adds_names_without_underscore(instrument: Callable[..., Any]) -> None:
    device = instrument(allow_public_attrs=True)
    assert reachable(device, *NAMES) == {"zero", "exposed_zero", "gain", "measure", "label"}
    assert device.measure() == "public measure"


def test_allow_all_attrs_adds_private_names(instrument: Callable[..., Any]) -> None:
    device = instrument(allow_all_attrs=True)
    assert reachable(device, *NAMES) == set(NAMES)
    assert device._calibrate() == "private calibrate"


def test_the_exposed_name_answers_for_a_hidden_plain_one(instrument: Callable[..., Any]) -> None:
    assert instrument().reset() == "exposed reset"


def test_the_plain_name_wins_where_it_is_allowed(instrument: Callable[..., Any]) -> None:
    device = instrument(allow_public_attrs=True)
    assert device.reset() == "plain reset"
    assert device.exposed_reset() == "exposed reset"


def test_exposed_prefix_names_what_is_exposed(instrument: Callable[..., Any]) -> None:
    device = instrument(exposed_prefix="rpc_")
    assert device.status() == "prefixed status"
    assert device.rpc_status() == "prefixed status"
    assert reachable(device, "zero", "exposed_zero") == set()


def test_allow_getattr_off_refuses_every_name(connect: Connect, bench: Any) -> None:
    conn = connect(bench, remote_config={"allow_getattr": False, "allow_all_attrs": True})
    assert reachable(conn.root, "get", "exposed_get", "__doc__") == set()


def test_allow_setattr_lets_exposed_names_be_set(instrument: Callable[..., Any], bench: Any) -> None:
    device = instrument(allow_setattr=True)
    device.gain = 2.5
    device.exposed_range = 20
    assert bench.instrument.exposed_gain == 2.5
    assert bench.instrument.exposed_range == 20
    with pytest.raises(AttributeError):
        device.label = "changed"
    assert bench.instrument.label == "public"


def test_allow_setattr_is_off_by_default(instrument: Callable[..., Any], bench: Any) -> None:
    device = instrument(allow_all_attrs=True)
    with pytest.raises(AttributeError):
        device.gain = 2.5
    assert bench.instrument.exposed_gain == 1.0


def test_allow_delattr_lets_exposed_names_be_deleted(instrument: Callable[..., Any], bench: Any) -> None:
    device = instrument(allow_delattr=True)
    del device.gain
    assert not hasattr(bench.instrument, "exposed_gain")


def test_allow_delattr_is_off_by_default(instrument: Callable[..., Any], bench: Any) -> None:
    device = instrument(allow_all_attrs=True, allow_setattr=True)
    with pytest.raises(AttributeError):
        del device.gain
    assert bench.instrument.exposed_gain == 1.0


def test_a_service_refuses_to_be_changed_whatever_the_config_allows(connect: Connect, bench: Any) -> None:
    everything = {"allow_all_attrs": True, "allow_setattr": True, "allow_delattr": True}
    conn = connect(bench, remote_config=everything)
    with pytest.raises(AttributeError):
        conn.root.instrument = None
    with pytest.raises(AttributeError):
        del conn.root.instrument
    assert isinstance(bench.instrument, Instrument)


class Guarded:
    """Decides by itself, beside every config."""

    def __init__(self) -> None:
        self.value = 1

    def _rpyc_getattr(self, name: str) -> Any:
        if name in {"denied", "exposed_measure"}:
            raise AttributeError(name)
        return f"got {name}"

    def exposed_measure(self) -> None:
        raise AssertionError("reached from outside")

    def _rpyc_setattr(self, name: str, value: Any) -> None:
        self.value = value

    def _rpyc_delattr(self, name: str) -> None:
        self.value = 0


class Keeper:
    def __init__(self) -> None:
        self.guarded = Guarded()

    def exposed_get(self) -> Guarded:
        return self.guarded


@pytest.mark.parametrize("config", [{}, {"allow_getattr": False}], ids=["default", "getattr-off"])
def test_an_objects_own_hooks_decide_instead_of_the_config(
    connect: Connect, as_service: Callable[[type], type], config: dict[str, Any]
) -> None:
    class Open(Keeper):
        def _rpyc_getattr(self, name: str) -> Any:
            return getattr(self, f"exposed_{name}")

    keeper = as_service(Open)()
    guarded = connect(keeper, remote_config=config).root.get()
    assert guarded.anything == "got anything"
    assert guarded._private == "got _private"
    with pytest.raises(AttributeError):
        guarded.denied  # noqa: B018 - reading the attribute is the test
    guarded.anything = 5
    assert keeper.guarded.value == 5
    del guarded.anything
    assert keeper.guarded.value == 0


def test_a_method_that_a_hook_refuses_can_be_seen_or_not_but_never_called(rpc: Any, connect: Connect) -> None:
    guarded = connect(Keeper).root.get()
    assert hasattr(guarded, "exposed_measure") == differs(rpc, "methods-are-bound-without-asking")
    with pytest.raises(AttributeError):
        guarded.exposed_measure()


def test_a_name_may_come_as_utf8_bytes(connect: Connect, bench: Any) -> None:
    conn = connect(bench)
    device = conn.root.get()
    assert conn.sync_request(GETATTR, device, b"range") == 10


@pytest.mark.parametrize("name", [5, None, ("gain",)], ids=repr)
def test_a_name_that_is_no_text_is_refused(rpc: Any, connect: Connect, bench: Any, name: Any) -> None:
    conn = connect(bench)
    device = conn.root.get()
    with pytest.raises(ProtocolError if differs(rpc, "requests-have-a-schema") else TypeError):
        conn.sync_request(GETATTR, device, name)
    assert device.gain == 1.0


class Counter:
    """A property with a side effect shows every read."""

    def __init__(self) -> None:
        self.reads = 0

    @property
    def count(self) -> int:
        self.reads += 1
        return self.reads

    @property
    def broken(self) -> float:
        return 1 / 0


class Counters:
    def __init__(self) -> None:
        self._counter = Counter()

    def exposed_counter(self) -> Counter:
        return self._counter


def test_each_read_of_a_property_runs_it_once(connect: Connect, as_service: Callable[[type], type]) -> None:
    conn = connect(as_service(Counters)(), remote_config={"allow_public_attrs": True})
    counter = conn.root.counter()
    assert [counter.count for _ in range(4)] == [1, 2, 3, 4]


def test_looking_at_an_object_does_not_run_its_properties(connect: Connect, as_service: Callable[[type], type]) -> None:
    counters = as_service(Counters)()
    conn = connect(counters, remote_config={"allow_public_attrs": True})
    counter = conn.root.counter()
    assert "count" in dir(counter)
    repr(counter)
    assert counters._counter.reads == 0


def test_an_error_inside_a_property_reaches_the_reader(connect: Connect) -> None:
    conn = connect(Counters, remote_config={"allow_public_attrs": True})
    counter = conn.root.counter()
    with pytest.raises(ZeroDivisionError):
        counter.broken  # noqa: B018 - reading the property is the test
