"""What crosses both hops: callbacks, objects, streams, exceptions, containers; and what must not cross."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import gateway
from gateway.errors import (
    AccessDenied,
    Busy,
    DeviceError,
    DeviceUnavailable,
    LinkDown,
    OutcomeUnknown,
    OutOfRange,
)
from gateway.server.bridge import Host
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from tests.server.bridged import Bench, Meter, Trace, wait_until


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, "tcp://127.0.0.1:0")


@pytest.fixture
def root(bench: Bench) -> Any:
    return bench.start().client().root


@pytest.fixture
def dmm(root: Any) -> Any:
    return root.bench2.dmm1


def loans(server: gateway.Server) -> int:
    """Objects that the server's peers hold."""
    return sum(len(conn._peer.boxing.loans) for conn in list(server._connections))


# -- values ----------------------------------------------------------------------------------------------------------

VALUES = [
    None,
    -(2**70),
    1.5,
    2j,
    "ä\n",
    b"\x00\xff",
    (1, (2, ("x",))),
    [1, [2.5, [b"x"]]],
    {"a": [1, {"b": (2,)}], 5: None},
    {1, 2},
    frozenset({"x"}),
    bytearray(b"abc"),
    slice(1, None, 2),
    ...,
    [(), [], {}, set()],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_stay_what_they_are(dmm: Any, value: Any) -> None:
    back = dmm.echo(value)
    assert (type(back), back) == (type(value), value)


def test_arrays_stay_arrays(dmm: Any) -> None:
    numpy = pytest.importorskip("numpy")
    sent = numpy.arange(12, dtype="<f4").reshape(3, 4)
    back, inside = dmm.echo([sent, {"x": sent}])
    assert (type(back), back.dtype, back.shape) == (numpy.ndarray, sent.dtype, (3, 4))
    assert (inside["x"] == sent).all()
    assert dmm.echo(numpy.float32(1.5)) == 1.5


def test_a_message_of_megabytes_crosses(dmm: Any) -> None:
    sent = bytes(range(256)) * 4 * 4096
    assert dmm.echo(sent) == sent


# -- objects of the host ---------------------------------------------------------------------------------------------


def test_an_object_that_a_device_returned_can_be_used(dmm: Any) -> None:
    trace = dmm.trace(1.0, 2.0)
    assert (trace.size, trace.total(), repr(trace)) == (2, 3.0, "<Trace>")
    assert sorted(dir(trace)) == ["__enter__", "__exit__", "size", "total"]
    assert trace.total.__doc__ == "total() -> float\n\nTheir sum."
    for name in ("points", "secret", "alive", "far", "border", "__init__", "__reduce__"):
        with pytest.raises(AttributeError):
            trace.____conn__.get_attribute(trace, name)
    with pytest.raises(AttributeError):
        trace.size = 5


def test_the_same_object_is_the_same_proxy(bench: Bench, dmm: Any) -> None:
    kept = Trace([1.0])
    bench.devices["dmm1"].listener = kept
    assert dmm.listened() is dmm.listened()
    assert dmm.listened() == dmm.listened()
    assert dmm.trace() != dmm.listened()


def test_an_object_comes_home_as_itself(bench: Bench, dmm: Any) -> None:
    trace = dmm.trace(1.0)
    assert dmm.kind_of(trace) == "Trace"
    assert dmm.echo([trace])[0] is trace
    dmm.listen(trace)
    assert type(bench.devices["dmm1"].listener) is Trace


def test_an_object_of_one_device_can_be_used_by_another_of_the_same_host(bench: Bench, root: Any) -> None:
    root.bench2.psu1.listen(root.bench2.dmm1.trace(1.0, 2.0))
    assert bench.devices["psu1"].listener.total() == 3.0


def test_a_device_of_the_same_host_arrives_there_as_itself(bench: Bench, root: Any) -> None:
    root.bench2.psu1.listen({"meter": root.bench2.dmm1})
    assert bench.devices["psu1"].listener == {"meter": bench.devices["dmm1"]}


def test_a_with_block_crosses(bench: Bench, dmm: Any) -> None:
    kept = bench.devices["dmm1"].listener = Trace([])
    with dmm.listened() as trace:
        assert trace.size == 0
    with pytest.raises(ValueError, match="no"), dmm.listened():
        raise ValueError("no")
    with dmm.listened():
        raise KeyError("swallowed there")
    assert kept.points == [-1.0] * 3


def test_a_stream_crosses_item_by_item_and_in_blocks(bench: Bench, dmm: Any) -> None:
    meter = bench.devices["dmm1"]
    stream = dmm.samples(50)
    assert (next(stream), next(stream), meter.calls) == (0, 1, 2)  # nothing is made ahead of being asked for
    assert list(stream) == list(range(2, 50))
    with pytest.raises(StopIteration):
        next(stream)
    assert list(gateway.buffiter(dmm.samples(300), chunk=100)) == list(range(300))
    closed = dmm.samples(5)
    closed.close()
    assert list(closed) == []


# -- callbacks -------------------------------------------------------------------------------------------------------


def test_a_callback_is_called_across_both_hops(dmm: Any) -> None:
    assert dmm.each(lambda number: number * number, 4) == [0, 1, 4, 9]


def test_a_callback_can_be_kept_and_called_later(bench: Bench, dmm: Any) -> None:
    heard: list[Any] = []
    dmm.listen(heard.append)
    bench.devices["dmm1"].listener({"event": [1, 2]})
    assert heard == [{"event": [1, 2]}]


def test_what_a_callback_is_given_and_returns_crosses_too(bench: Bench, dmm: Any) -> None:
    class Answer:
        def exposed_double(self, value: int) -> int:
            return 2 * value

    totals = dmm.each(lambda number: [dmm.trace(float(number)), Answer()][number % 2], 0)
    assert totals == []
    seen: list[Any] = []

    def judge(trace: Any) -> Any:
        seen.append((trace.total(), repr(trace)))
        return Answer()

    dmm.listen(judge)
    answer = bench.devices["dmm1"].listener(Trace([1.0, 2.0]))
    assert seen == [(3.0, "<Trace>")]
    assert answer.double(21) == 42


def test_an_object_of_the_client_is_used_under_the_clients_own_rules(bench: Bench) -> None:
    class Observer:
        exposed_threshold = 3.5
        hidden = 1

        def exposed_on_data(self, value: int) -> int:
            return value + 1

        def private(self) -> int:
            return 0

    bench.start()
    bench.client().root.bench2.dmm1.listen(Observer())
    observer = bench.devices["dmm1"].listener
    assert (observer.on_data(1), observer.threshold) == (2, 3.5)
    for name in ("hidden", "private", "__dict__"):
        with pytest.raises(AttributeError):
            getattr(observer, name)() if name == "private" else observer.____conn__.get_attribute(observer, name)


def test_an_exception_of_a_callback_reaches_the_driver_and_the_client(bench: Bench, dmm: Any) -> None:
    def refuse(number: int) -> None:
        raise ValueError(f"not {number}")

    with pytest.raises(ValueError, match="not 0"):
        dmm.each(refuse, 2)
    dmm.listen(refuse)
    with pytest.raises(ValueError, match="not 7"):
        bench.devices["dmm1"].listener(7)


def test_a_callback_that_calls_its_own_device_is_refused_at_once(root: Any) -> None:
    with pytest.raises(Busy, match="nothing was done"):
        root.bench2.dmm1.each(lambda number: root.bench2.dmm1.count(), 1)
    assert root.bench2.dmm1.count() == 1
    assert root.bench2.dmm1.each(lambda number: root.bench2.psu1.count(), 2) == [1, 2]


def test_a_callback_of_a_client_that_left_fails_and_harms_nobody(bench: Bench, root: Any) -> None:
    other = bench.client()
    other.root.bench2.dmm1.listen(print)
    other.close()
    with pytest.raises(LinkDown):
        bench.devices["dmm1"].listener(1)
    assert root.bench2.dmm1.count() == 1


def test_the_same_callback_is_the_same_object_at_the_host(bench: Bench, dmm: Any) -> None:
    def callback() -> None: ...

    dmm.listen([callback])
    first = bench.devices["dmm1"].listener[0]
    dmm.listen([callback, print])
    again, other = bench.devices["dmm1"].listener
    assert first == again
    assert first != other


def test_a_callback_comes_home_as_itself(dmm: Any) -> None:
    def callback() -> None: ...

    dmm.listen(callback)
    assert dmm.listened() is callback


# -- exceptions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cls", "text", "facts"),
    [
        ("value", ValueError, "no such range", {}),
        ("zero", ZeroDivisionError, "division by zero", {}),
        ("os", OSError, "[Errno 5] it smokes", {}),
        ("range", OutOfRange, "psu1.voltage must be from 0 to 12 V", {"highest": 12.0}),
        ("device", DeviceError, "-222 Data out of range", {"number": -222}),
        ("unknown", OutcomeUnknown, "the instrument's own line broke", {}),
        ("away", DeviceUnavailable, "dmm1 is unplugged", {}),
    ],
)
def test_exceptions_keep_type_code_text_and_facts(
    dmm: Any, kind: str, cls: type[Exception], text: str, facts: dict[str, Any]
) -> None:
    with pytest.raises(cls) as caught:
        dmm.fail(kind)
    assert (type(caught.value), str(caught.value)) == (cls, text)
    for name, fact in facts.items():
        assert getattr(caught.value, name) == fact
    assert dmm.count() == 1  # and the line is as it was


# -- what must not cross ---------------------------------------------------------------------------------------------


def test_another_clients_object_shows_nothing(bench: Bench) -> None:
    bench.start()
    called: list[Any] = []

    class Secret:
        def exposed_reveal(self) -> str:
            called.append(1)
            return "secret"

    owner, stranger = bench.client().root.bench2.dmm1, bench.client().root.bench2.dmm1
    for mine in (called.append, Secret()):
        owner.listen(mine)
        found = stranger.listened()
        for attempt in (
            lambda found=found: found(1),
            lambda found=found: found.reveal(),
            lambda found=found: found.____conn__.get_attribute(found, "exposed_reveal"),
            lambda found=found: found.____conn__.sync_request(7, found, (1,), ()),
            lambda found=found: stranger.listen(found),
            lambda found=found: stranger.each(found, 1),
        ):
            with pytest.raises((AttributeError, TypeError)):
                attempt()
    assert called == []
    assert owner.listened().exposed_reveal() == "secret"


def test_a_method_of_another_clients_object_shows_nothing_either(bench: Bench) -> None:
    bench.start()

    class Secret:
        def exposed_reveal(self) -> str:
            raise AssertionError("it was reached")

    owner, stranger = bench.client().root.bench2.dmm1, bench.client().root.bench2.dmm1
    owner.listen(Secret())
    meter = bench.devices["dmm1"]
    secret = meter.listener
    meter.listener = secret.____conn__.get_attribute(secret, "reveal")  # a handle that the gateway made for the host
    with pytest.raises(AccessDenied, match="not its own"):
        stranger.listened()


@pytest.mark.parametrize("what", ["device", "method", "stream", "root", "other host", "its object"])
def test_what_is_neither_the_clients_nor_the_hosts_is_not_given_to_a_host(bench: Bench, what: str) -> None:
    bench.start_host()
    local, third = Meter(), gateway.Server(GatewayService({"dmm3": Meter()}), "tcp://127.0.0.1:0", strict=True)
    with third:
        host3, host2 = Host("bench3", third.url), Host("bench2", bench.url)
        service = GatewayService({"local": local}, hosts=[host2, host3])
        with gateway.Server(service, "tcp://127.0.0.1:0", strict=True) as front, gateway.connect(front.url) as conn:
            for host in (host2, host3):
                bench.stack.callback(host.close)
                host.start()
                assert host.wait_up(5)
            root = conn.root
            given = {
                "device": lambda: root.local,
                "method": lambda: root.local.count,
                "stream": lambda: root.local.samples(3),
                "root": lambda: root,
                "other host": lambda: root.bench3.dmm3,
                "its object": lambda: root.bench3.dmm3.trace(1.0),
            }[what]()
            with pytest.raises(AccessDenied, match="can be given values, objects of your own"):
                root.bench2.dmm1.listen([given])
            assert bench.devices["dmm1"].listener is None


def test_the_host_reaches_nothing_of_the_gateway(bench: Bench, root: Any) -> None:
    root.bench2.dmm1.listen(print)
    peer = bench.devices["dmm1"].listener.____conn__  # the gateway, as the host sees it
    assert set(dir(peer.root)) == {"get_service_name", "get_service_aliases"}
    for name in ("names", "bench2", "_devices", "__class__", "on_connect"):
        with pytest.raises(AttributeError):
            peer.get_attribute(peer.root, name)
    callback = bench.devices["dmm1"].listener
    for name in ("far", "table", "_border", "_lane", "__class__", "__globals__", "__init__"):
        with pytest.raises(AttributeError):
            peer.get_attribute(callback, name)


# -- giving back -----------------------------------------------------------------------------------------------------


def test_what_a_client_held_at_the_host_is_given_back_when_it_leaves(bench: Bench) -> None:
    bench.start()
    assert bench.client().root.bench2.dmm1.count() == 1
    gc.collect()
    before, traces = loans(bench.host), bench.devices["dmm1"].traces
    other = bench.client()
    held = [other.root.bench2.dmm1.trace(float(number)) for number in range(20)]
    held.append(other.root.bench2.dmm1.samples(5))
    assert len(traces) == 20
    assert loans(bench.host) >= before + 21
    other.close()
    del held
    wait_until(lambda: not traces, "the host's objects are gone")
    wait_until(lambda: loans(bench.host) == before, "nothing is lent but the device")


def test_what_a_client_drops_is_given_back_while_it_stays(bench: Bench, dmm: Any) -> None:
    for _ in range(50):
        dmm.trace(1.0)
    dmm.count()
    wait_until(lambda: not bench.devices["dmm1"].traces, "the host's objects are gone")


def test_what_a_host_drops_is_given_back_to_the_client(bench: Bench) -> None:
    bench.start()
    conn = bench.client()
    dmm = conn.root.bench2.dmm1
    for _ in range(20):
        dmm.listen(lambda: None)
    dmm.listen(None)
    wait_until(lambda: len(conn._peer.boxing.loans) <= 1, "the client's functions are given back")


# -- stock peers -----------------------------------------------------------------------------------------------------


class Odd(Exposable):
    """A device with a dict that no value can be made of."""

    @exposed
    def table(self) -> Any:
        return {(1, 2): [1]}

    @exposed
    def opaque(self) -> Any:
        return {Trace([]): 1}


def test_a_dict_that_can_not_go_by_value_shows_nothing(bench: Bench) -> None:
    bench.devices = {"odd": Odd()}
    odd = bench.start().client().root.bench2.odd
    assert odd.table() == {(1, 2): [1]}
    opaque = odd.opaque()
    with pytest.raises(AttributeError):
        len(opaque)
