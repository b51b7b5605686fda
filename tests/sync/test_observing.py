"""A client's side of observing: callbacks that hold up no other, iteration, and what is told when the line is gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest

import gateway
from gateway.errors import AccessDenied, BadRequest, LinkDown, NotFound, OutOfRange
from gateway.service.reading import Reading
from gateway.sync import observing
from gateway.sync.observing import observe, reading, subscribe
from tests.behaviour.lines import cut
from tests.server.observed import PATIENCE_S, Meter, Root


def until(true: Callable[[], bool]) -> None:
    """Wait for what other threads do."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def root(meter: Meter) -> Iterator[Root]:
    made = Root(dmm1=meter)
    yield made
    made.all_observers.close()


@pytest.fixture
def server(root: Root) -> Iterator[gateway.Server]:
    with gateway.Server(root, "tcp://127.0.0.1:0", strict=True) as made:
        yield made


@pytest.fixture
def conn(server: gateway.Server) -> Iterator[gateway.Connection]:
    with gateway.connect(server.url) as made:
        yield made


def test_a_reading_comes_with_its_names(conn: gateway.Connection, meter: Meter) -> None:
    seen = reading(conn, "dmm1.voltage", max_age=60.0)
    assert (seen.value, seen.unit, seen.device, seen.lease) == (1.0, "V", "dmm1", 7)
    assert reading(conn, "dmm1.voltage", max_age=60.0) == seen
    assert meter.reads["voltage"] == 1


def test_a_callback_gets_readings_in_their_order(conn: gateway.Connection) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    subscription = subscribe(conn, "dmm1.voltage", came.put, every=0.005)
    values = [came.get(timeout=PATIENCE_S).value for _ in range(50)]
    assert values == sorted(set(values))
    assert (subscription.dropped, subscription.ended) == (0, None)


def test_what_can_not_go_as_a_value_goes_as_a_copy(conn: gateway.Connection, meter: Meter) -> None:
    meter.wave = {"points": [1, 2]}
    came: SimpleQueue[Reading] = SimpleQueue()
    subscribe(conn, "dmm1.waveform", came.put, every=0.01)
    assert came.get(timeout=PATIENCE_S).value == {"points": [1, 2]}


def test_a_callback_that_is_held_up_holds_up_no_other(conn: gateway.Connection) -> None:
    stuck, entered = Event(), Event()
    late: SimpleQueue[Reading] = SimpleQueue()
    lively: SimpleQueue[Reading] = SimpleQueue()

    def slow(each: Reading) -> None:
        entered.set()
        assert stuck.wait(PATIENCE_S)
        late.put(each)

    held = [subscribe(conn, "dmm1.voltage", slow, every=0.005, max_queue=5) for _ in range(3)]
    subscribe(conn, "dmm1.voltage", lively.put, every=0.005)
    assert entered.wait(PATIENCE_S)
    values = [lively.get(timeout=PATIENCE_S).value for _ in range(50)]
    assert values == sorted(set(values))
    assert all(each.dropped >= 30 for each in held)
    stuck.set()
    first, second = late.get(timeout=PATIENCE_S).value, [late.get(timeout=PATIENCE_S).value for _ in range(12)]
    assert max(second) > first + 30, "the newest wait, and the oldest are dropped"


def test_a_callback_may_use_its_connection(conn: gateway.Connection) -> None:
    came: SimpleQueue[Any] = SimpleQueue()
    subscribe(conn, "dmm1.voltage", lambda each: came.put(conn.root.names()), every=0.01)
    assert came.get(timeout=PATIENCE_S) == ["dmm1"]


def test_a_callback_that_raises_is_logged_and_called_again(
    conn: gateway.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()

    def broken(each: Reading) -> None:
        came.put(each)
        raise ValueError("in the callback")

    subscribe(conn, "dmm1.voltage", broken, every=0.005)
    for _ in range(3):
        came.get(timeout=PATIENCE_S)
    until(lambda: "the callback for dmm1.voltage failed" in caplog.text)


def test_nothing_comes_after_cancelling(conn: gateway.Connection, root: Root) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    subscription = subscribe(conn, "dmm1.voltage", came.put, every=0.005)
    other = subscribe(conn, "dmm1.voltage", lambda each: None, every=0.005)
    came.get(timeout=PATIENCE_S)
    subscription.cancel()
    subscription.cancel()
    assert root.all_observers.subscriptions == 1
    assert "cancelled" in repr(subscription)
    other.cancel()
    assert root.all_observers.subscriptions == 0


def test_readings_are_iterated_until_the_loop_is_left(conn: gateway.Connection, root: Root) -> None:
    values = []
    with observe(conn, "dmm1.voltage", every=0.005) as readings:
        for each in readings:
            values.append(each.value)
            if len(values) == 20:
                break
    assert values == sorted(set(values))
    assert root.all_observers.subscriptions == 0
    assert list(readings) == []


def test_only_changes_are_told_where_only_they_are_wanted(conn: gateway.Connection) -> None:
    with observe(conn, "dmm1.voltage", every=0.005, on_change=True, deadband=9.5) as readings:
        first, second = next(readings).value, next(readings).value
    assert second - first >= 10


def test_an_error_is_a_reading_that_raises_when_it_is_used(conn: gateway.Connection, meter: Meter) -> None:
    meter.broken = "dmm1 is away"
    with observe(conn, "dmm1.voltage", every=0.005) as readings:
        failed = next(readings)
        assert failed.error_code == "device-unavailable"
        with pytest.raises(ConnectionError, match="dmm1 is away"):
            failed.checked()
        meter.broken = ""
        assert next(readings).checked() > 0


def test_a_lost_line_is_told_to_callbacks_and_raised_in_loops(conn: gateway.Connection) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    subscription = subscribe(conn, "dmm1.voltage", came.put, every=60.0)
    readings = observe(conn, "dmm1.voltage", every=60.0)
    assert came.get(timeout=PATIENCE_S).value == next(readings).value
    cut(conn)
    last = came.get(timeout=PATIENCE_S)
    assert (last.error_code, last.device, last.property) == ("link-down", "dmm1", "voltage")
    assert subscription.ended == last.error
    with pytest.raises(LinkDown):
        next(readings)
    subscription.cancel()


def test_whoever_closes_a_connection_is_told_nothing(server: gateway.Server) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    with gateway.connect(server.url) as conn:
        subscription = subscribe(conn, "dmm1.voltage", came.put, every=60.0)
        readings = observe(conn, "dmm1.voltage", every=60.0)
        came.get(timeout=PATIENCE_S)
        next(readings)
    assert subscription.ended is not None
    assert came.empty()
    with pytest.raises(LinkDown):
        next(readings)
    assert conn not in observing._inboxes


def test_a_subscription_on_a_closed_connection_is_refused(server: gateway.Server) -> None:
    with gateway.connect(server.url) as conn:
        reading(conn, "dmm1.voltage")
    with pytest.raises(LinkDown):
        subscribe(conn, "dmm1.voltage", print)
    assert conn not in observing._inboxes


@pytest.mark.parametrize(
    ("target", "how", "error"),
    [
        ("dmm1.nothing", {}, NotFound),
        ("dmm1.current", {}, AccessDenied),
        ("dmm1.voltage", {"every": 0.0001}, OutOfRange),
        ("dmm1.voltage", {"max_queue": 0}, OutOfRange),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    conn: gateway.Connection, root: Root, target: str, how: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        subscribe(conn, target, print, **how)
    assert root.all_observers.subscriptions == 0
    assert observing._inboxes[conn]._subscriptions == {}


def test_a_peer_without_observers_is_no_gateway() -> None:
    class Other(gateway.Service):
        """Something else."""

    with gateway.Server(Other, "tcp://127.0.0.1:0") as server, gateway.connect(server.url) as conn:
        with pytest.raises(NotFound, match="no observers"):
            subscribe(conn, "dmm1.voltage", print)


def test_the_callback_of_one_can_not_be_iterated(conn: gateway.Connection) -> None:
    with pytest.raises(TypeError, match="callback"):
        next(subscribe(conn, "dmm1.voltage", lambda each: None))


@pytest.mark.parametrize(
    "items",
    [
        None,
        5,
        ((),),
        (((1,), ()),),
        ((Reading(1, None, 1.0, "a", "b").as_tuple(), ((1, 0),)),),
        ((None, ((1, 0, True),)),),
    ],
)
def test_what_no_gateway_sends_is_refused(conn: gateway.Connection, items: Any) -> None:
    reading(conn, "dmm1.voltage")
    with pytest.raises(BadRequest):
        observing._inboxes[conn].deliver(items)


def test_the_gateways_last_word_ends_a_subscription(conn: gateway.Connection, caplog: pytest.LogCaptureFixture) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    with caplog.at_level(logging.ERROR):
        subscription = subscribe(conn, "dmm1.voltage", came.put, every=60.0)
        came.get(timeout=PATIENCE_S)
        last = Reading(None, None, 1.0, "dmm1", "voltage", error_code="busy", error="it was ended")
        number = subscription._number
        observing._inboxes[conn].deliver(((last.as_tuple(), ((number, 3, True),)),))
        assert came.get(timeout=PATIENCE_S) == last
    assert (subscription.ended, subscription.dropped) == ("it was ended", 3)
