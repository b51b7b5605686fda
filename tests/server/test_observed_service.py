"""`conn.root.observers` under the strict policy: for clients of ours, stock ones, and one that stands still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import pytest

import gateway
from gateway.errors import AccessDenied, Busy, DeviceUnavailable, GatewayError, NotFound, OutOfRange
from gateway.limits import Limits
from gateway.server.observed_service import ObservedService
from gateway.server.observing import Bounds
from gateway.service.reading import Reading
from tests.server.observed import PATIENCE_S, Meter, Root, client

BOUNDS = Bounds(subscriptions_per_client=3, inboxes_per_client=2)


def until(true: Callable[[], bool]) -> None:
    """Wait for what other threads and processes do."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def root(meter: Meter) -> Iterator[Root]:
    made = Root(dmm1=meter, slow1=Meter())
    yield made
    made.all_observers.close()


@pytest.fixture
def url(root: Root) -> Iterator[str]:
    with gateway.Server(root, "tcp://127.0.0.1:0", strict=True) as server:
        yield server.url


@pytest.fixture
def conn(url: str) -> Iterator[gateway.Connection]:
    with gateway.connect(url) as made:
        yield made


def test_a_reading_says_what_when_where_and_under_whom(conn: gateway.Connection) -> None:
    before = time.time()
    reading = Reading(*conn.root.observers.read("dmm1.voltage"))
    assert before <= reading.time_s <= time.time()
    assert reading == Reading(1.0, "V", reading.time_s, "dmm1", "voltage", "ACME,34401A,42", 7)


def test_readers_who_permit_an_age_share_a_read(conn: gateway.Connection, meter: Meter) -> None:
    observers = conn.root.observers
    assert {observers.read("dmm1.voltage", 60.0)[0] for _ in range(20)} == {1.0}
    assert meter.reads["voltage"] == 1
    assert observers.read("dmm1.voltage")[0] > 1.0


def test_the_error_of_a_read_is_raised(conn: gateway.Connection, meter: Meter) -> None:
    meter.broken = "dmm1 is away"
    with pytest.raises(DeviceUnavailable, match="dmm1 is away"):
        conn.root.observers.read("dmm1.voltage", 1.0)


def test_a_read_that_waits_for_its_instrument_holds_up_no_other_one(conn: gateway.Connection, root: Root) -> None:
    slow: Meter = root.slow1
    slow.free.clear()
    observers = conn.root.observers
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(observers.read, "slow1.voltage")
        until(lambda: root.all_observers._board._busy == {"slow1"})
        assert pool.submit(observers.read, "dmm1.voltage").result(PATIENCE_S)[0] == 1.0
        assert not held.done()
        slow.free.set()
        assert held.result(PATIENCE_S)[0] == 1.0


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("nobody.voltage", NotFound),
        ("dmm1.volts", NotFound),
        ("dmm1.reset", NotFound),
        ("dmm1.__class__", NotFound),
        ("dmm1", NotFound),
        ("", NotFound),
        ("dmm1.current", AccessDenied),
        ("x" * 1000, GatewayError),
        (5, GatewayError),
        (None, GatewayError),
    ],
)
def test_what_the_caller_may_not_read_can_be_neither_read_nor_subscribed(
    conn: gateway.Connection, root: Root, target: Any, error: type[Exception]
) -> None:
    observers = conn.root.observers
    inbox = observers.attach(print)
    for refused in (
        lambda: observers.read(target, 1.0),
        lambda: observers.subscribe(target, print),
        lambda: inbox.subscribe(1, target),
    ):
        with pytest.raises(error):
            refused()
    assert root.all_observers.subscriptions == 0


def test_only_functions_of_the_clients_own_are_called_back(conn: gateway.Connection, root: Root) -> None:
    observers = conn.root.observers
    for wrong in (None, "print", observers, observers.read, conn.root.dmm1.reset, (1, 2)):
        with pytest.raises(GatewayError, match="a callback is a function of the client's own"):
            observers.subscribe("dmm1.voltage", wrong)
        with pytest.raises(GatewayError, match="a callback is a function of the client's own"):
            observers.attach(wrong)
    assert root.all_observers.subscriptions == 0


def test_nothing_but_what_is_exposed_can_be_reached(conn: gateway.Connection) -> None:
    observers = conn.root.observers
    assert set(dir(observers)) == {"read", "subscribe", "attach"}
    subscription = observers.subscribe("dmm1.voltage", print, 60.0)
    assert set(dir(subscription)) == {"cancel", "dropped", "ended"}
    assert set(dir(observers.attach(print))) == {"subscribe", "cancel"}
    with pytest.raises(AccessDenied):
        _ = subscription._subscriber


def test_a_plain_callback_gets_tuples_until_it_is_cancelled(conn: gateway.Connection, root: Root) -> None:
    came: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    subscription = conn.root.observers.subscribe("dmm1.voltage", came.put, 0.01)
    values = [came.get(timeout=PATIENCE_S)[0] for _ in range(10)]
    assert values == sorted(set(values))
    assert (subscription.dropped, subscription.ended) == (0, False)
    subscription.cancel()
    subscription.cancel()
    assert subscription.ended
    assert root.all_observers.subscriptions == 0


def test_an_error_is_delivered_once_and_so_is_its_end(conn: gateway.Connection, meter: Meter) -> None:
    came: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    meter.broken = "dmm1 is away"
    conn.root.observers.subscribe("dmm1.voltage", came.put, 0.005)
    assert Reading(*came.get(timeout=PATIENCE_S)).error_code == "device-unavailable"
    meter.broken = ""
    assert Reading(*came.get(timeout=PATIENCE_S)).error_code is None


def test_what_is_no_plain_value_comes_as_one_to_a_plain_callback(conn: gateway.Connection, meter: Meter) -> None:
    came: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    observers = conn.root.observers
    subscription = observers.subscribe("dmm1.waveform", came.put, 0.01)
    assert came.get(timeout=PATIENCE_S)[0] == (1, 2, 3)
    subscription.cancel()
    assert observers.read("dmm1.waveform")[0] == [1, 2, 3], "a list by value, to a client of ours"


def test_everything_of_a_connection_ends_with_it(url: str, root: Root) -> None:
    with gateway.connect(url) as conn:
        conn.root.observers.subscribe("dmm1.voltage", print, 60.0)
        conn.root.observers.attach(print).subscribe(1, "dmm1.voltage", 60.0)
        assert root.all_observers.subscriptions == 2
    until(lambda: root.all_observers.subscriptions == 0)
    assert root.observers._clients == {}


def test_one_connection_has_a_bounded_number_of_everything(meter: Meter) -> None:
    root = Root(BOUNDS, dmm1=meter)
    with gateway.Server(root, "tcp://127.0.0.1:0", strict=True) as server, gateway.connect(server.url) as conn:
        observers = conn.root.observers
        held = [observers.subscribe("dmm1.voltage", print, 60.0) for _ in range(3)]
        with pytest.raises(Busy, match="3 subscriptions already"):
            observers.subscribe("dmm1.voltage", print, 60.0)
        inbox = observers.attach(print)
        with pytest.raises(Busy, match="3 subscriptions already"):
            inbox.subscribe(1, "dmm1.voltage", 60.0)
        observers.attach(print)
        with pytest.raises(Busy, match="2 inboxes already"):
            observers.attach(print)
        held[0].cancel()
        inbox.subscribe(1, "dmm1.voltage", 60.0)
        with pytest.raises(GatewayError):
            inbox.subscribe(1, "dmm1.voltage", 60.0)
        inbox.cancel(1)
        inbox.cancel(1)
        inbox.subscribe(1, "dmm1.voltage", 60.0)
    root.all_observers.close()


@pytest.mark.parametrize("every", [0.0001, 0, "1", float("nan")])
def test_a_period_that_no_instrument_could_bear_is_refused(conn: gateway.Connection, every: Any) -> None:
    with pytest.raises((OutOfRange, GatewayError), match="every"):
        conn.root.observers.subscribe("dmm1.voltage", print, every)


def test_a_gateway_without_observers_says_so() -> None:
    class Bare(ObservedService, gateway.Service):
        """Mixed in, and given nothing."""

    with gateway.Server(Bare, "tcp://127.0.0.1:0", strict=True) as server, gateway.connect(server.url) as conn:
        with pytest.raises(GatewayError, match="no observers"):
            _ = conn.root.observers


@pytest.mark.interop
def test_a_stock_client_reads_and_subscribes(url: str, meter: Meter) -> None:
    rpyc = pytest.importorskip("rpyc")
    host, port = url.removeprefix("tcp://").split(":")
    came: SimpleQueue[Any] = SimpleQueue()
    meter.wave = {"points": [1, 2]}
    conn = rpyc.connect(host, int(port))
    serving = rpyc.BgServingThread(conn)
    try:
        assert conn.root.observers.read("dmm1.voltage", 1.0)[:2] == (1.0, "V")
        volts = conn.root.observers.subscribe("dmm1.voltage", came.put, 0.01)
        values = [came.get(timeout=PATIENCE_S)[0] for _ in range(5)]
        assert values == sorted(set(values))
        volts.cancel()
        conn.root.observers.subscribe("dmm1.waveform", lambda each: came.put(each[0]["points"]), 0.01)
        until(lambda: came.get(timeout=PATIENCE_S) == (1, 2))
    finally:
        serving.stop()
        conn.close()


@pytest.mark.parametrize("kind", ["ours", "simple"])
def test_a_client_that_stands_still_delays_nobody_and_is_ended(kind: str, meter: Meter) -> None:
    bounds = Bounds(overflow_s=0.5, window=4)
    root = Root(bounds, dmm1=meter)
    with ExitStack() as stack:
        server = stack.enter_context(gateway.Server(root, "tcp://127.0.0.1:0", strict=True))
        stack.callback(root.all_observers.close)
        first = stack.enter_context(client(kind, server.url, "dmm1.voltage", "0.01", "5"))
        frozen = stack.enter_context(client(kind, server.url, "dmm1.voltage", "0.01", "5"))
        first.reading()
        frozen.reading()
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            # 100 readings, of which some waited in the pipe, while the other one stands still.
            late = [first.reading()["late_s"] for _ in range(500)]
            assert sorted(late[-250:])[125] < 0.5
            until(lambda: root.all_observers.subscriptions == 5)
            assert first.reading()
            reads = meter.reads["voltage"]
            until(lambda: meter.reads["voltage"] > reads + 5)
        finally:
            os.kill(frozen.pid, signal.SIGCONT)


def test_a_client_that_was_killed_is_forgotten(url: str, root: Root) -> None:
    with client("ours", url, "dmm1.voltage", "0.01", "5") as killed:
        killed.reading()
        until(lambda: root.all_observers.subscriptions == 5)
        os.kill(killed.pid, signal.SIGKILL)
        until(lambda: root.all_observers.subscriptions == 0)


def test_a_hundred_subscriptions_of_many_clients_cost_the_instrument_one(url: str, meter: Meter) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(client("ours", url, "dmm1.voltage", "0.1", "34")) for _ in range(3)]
        for each in clients:
            each.reading()
        before, since = meter.reads["voltage"], time.monotonic()
        for _ in range(34 * 10):
            clients[0].reading()
        took_s = time.monotonic() - since
        assert meter.reads["voltage"] - before <= took_s / 0.1 + 2


def test_limits_of_calls_hold_for_reads_that_wait(meter: Meter) -> None:
    root = Root(dmm1=meter)
    meter.free.clear()
    limits = Limits(pending_calls=4)
    with gateway.Server(root, "tcp://127.0.0.1:0", strict=True, limits=limits) as server:
        with gateway.connect(server.url) as conn:
            read = gateway.async_(conn.root.observers.read)
            results = [read("dmm1.voltage") for _ in range(6)]
            with pytest.raises(Busy):
                _ = results[-1].value
            meter.free.set()
            assert results[0].value[0] >= 1.0
