"""The front: real threads, an instrument that can be held up, and nobody who waits for a client."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

import pytest

from gateway.errors import BadRequest, CallTimeout, DeviceUnavailable, LimitExceeded, OutOfRange
from gateway.server.observing import Bounds, Observers
from gateway.server.observing.outlet import Outlet
from gateway.service.reading import Reading

PATIENCE_S = 20.0


class Instruments:
    """Devices whose reading takes as long as a test wants."""

    def __init__(self) -> None:
        self.reads: Counter[tuple[str, str]] = Counter()
        self.held: dict[str, Event] = {}
        self.begun: SimpleQueue[str] = SimpleQueue()
        self.error: Exception | None = None
        self.entered: Counter[str] = Counter()
        self.crowd = 0
        self._lock = Lock()

    def hold(self, device: str) -> Event:
        """Reading it takes until the event is set."""
        self.held[device] = Event()
        return self.held[device]

    def __call__(self, device: str, name: str) -> Reading:
        with self._lock:
            self.reads[device, name] += 1
            count = self.reads[device, name]
            self.entered[device] += 1
            self.crowd = max(self.crowd, self.entered[device])
        self.begun.put(device)
        if device in self.held:
            assert self.held[device].wait(PATIENCE_S)
        with self._lock:
            self.entered[device] -= 1
        if self.error is not None:
            raise self.error
        return Reading(count, "V", time.time(), device, name)


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


@pytest.fixture
def observers(instruments: Instruments) -> Iterator[Observers]:
    made = Observers(instruments)
    yield made
    made.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as made:
        yield made


def until(true: Callable[[], bool]) -> None:
    """Wait for what other threads do."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_twenty_who_ask_at_once_cost_the_instrument_one_read(
    observers: Observers, instruments: Instruments, pool: ThreadPoolExecutor
) -> None:
    free = instruments.hold("psu1")
    first = pool.submit(observers.get, "psu1", "voltage", 60.0)
    instruments.begun.get(timeout=PATIENCE_S)
    others = [pool.submit(observers.get, "psu1", "voltage", 60.0) for _ in range(19)]
    free.set()
    assert {each.result(PATIENCE_S) for each in [first, *others]} == {first.result()}
    assert instruments.reads["psu1", "voltage"] == 1


def test_an_error_is_everybodys_who_asked(
    observers: Observers, instruments: Instruments, pool: ThreadPoolExecutor
) -> None:
    free = instruments.hold("psu1")
    instruments.error = DeviceUnavailable("psu1 is away")
    asked = [pool.submit(observers.get, "psu1", "voltage", 60.0) for _ in range(5)]
    free.set()
    for each in asked:
        with pytest.raises(DeviceUnavailable, match="psu1 is away"):
            each.result(PATIENCE_S)
    assert instruments.reads["psu1", "voltage"] == 1
    instruments.error = None


def test_a_lone_reader_reads_in_its_own_thread(instruments: Instruments) -> None:
    threads: list[int] = []

    def read(device: str, name: str) -> Reading:
        threads.append(threading.get_ident())
        return instruments(device, name)

    Observers(read).get("psu1", "voltage")
    assert threads == [threading.get_ident()]


def test_who_waits_too_long_is_told_so(
    observers: Observers, instruments: Instruments, pool: ThreadPoolExecutor
) -> None:
    free = instruments.hold("psu1")
    slow = pool.submit(observers.get, "psu1", "voltage")
    instruments.begun.get(timeout=PATIENCE_S)
    with pytest.raises(CallTimeout, match=r"psu1\.voltage: no reading within 0\.01 s"):
        observers.get("psu1", "voltage", 60.0, timeout_s=0.01)
    free.set()
    assert slow.result(PATIENCE_S).value == 1


def test_a_slow_instrument_does_not_delay_another_one(observers: Observers, instruments: Instruments) -> None:
    free = instruments.hold("slow1")
    came: SimpleQueue[Reading] = SimpleQueue()
    observers.subscribe("slow1", "voltage", came.put, 0.01)
    observers.subscribe("quick1", "voltage", came.put, 0.01)
    for _ in range(20):
        assert came.get(timeout=PATIENCE_S).device == "quick1"
    assert observers.get("quick1", "current").value == 1
    free.set()
    until(lambda: came.get(timeout=PATIENCE_S).device == "slow1")


def test_a_device_is_never_entered_twice(
    observers: Observers, instruments: Instruments, pool: ThreadPoolExecutor
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        observers.subscribe("psu1", name, lambda reading: None, 0.005)
    asked = [pool.submit(observers.get, "psu1", names[turn % 3], 0.0) for turn in range(300)]
    for each in asked:
        each.result(PATIENCE_S)
    assert instruments.crowd == 1


def test_a_subscriber_who_stands_still_delays_nobody(
    observers: Observers,
) -> None:
    stuck, entered = Event(), Event()
    late: list[int] = []
    lively: SimpleQueue[Reading] = SimpleQueue()

    def slow(reading: Reading) -> None:
        entered.set()
        assert stuck.wait(PATIENCE_S)
        late.append(reading.value)

    held = observers.subscribe("psu1", "voltage", slow, 0.005, max_queue=5)
    assert entered.wait(PATIENCE_S)
    observers.subscribe("psu1", "voltage", lively.put, 0.005)
    values = [lively.get(timeout=PATIENCE_S).value for _ in range(50)]
    assert values == sorted(set(values))
    assert held.dropped >= 40
    observers.cancel([held])
    dropped = held.dropped
    stuck.set()
    until(lambda: len(late) == 1)
    assert held.dropped == dropped


def test_fifty_subscribers_cost_the_instrument_one_client(observers: Observers, instruments: Instruments) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    subscribers = [observers.subscribe("psu1", "voltage", came.put, 0.05) for _ in range(50)]
    for _ in range(500):
        came.get(timeout=PATIENCE_S)
    observers.cancel(subscribers)
    assert instruments.reads["psu1", "voltage"] <= 13
    assert observers.subscriptions == 0


def test_polling_ends_with_the_last_subscriber(observers: Observers, instruments: Instruments) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    subscriber = observers.subscribe("psu1", "voltage", came.put, 0.005)
    came.get(timeout=PATIENCE_S)
    observers.cancel([subscriber])
    until(lambda: not instruments.entered["psu1"])
    before = instruments.reads["psu1", "voltage"]
    observers.subscribe("dmm1", "voltage", came.put, 0.005)
    until(lambda: instruments.reads["dmm1", "voltage"] > 20)
    assert instruments.reads["psu1", "voltage"] <= before + 1


def test_what_the_config_keeps_is_there_without_waiting(instruments: Instruments) -> None:
    observers = Observers(instruments, {("psu1", "voltage"): 0.02})
    until(lambda: instruments.reads["psu1", "voltage"] > 3)
    observers.close()
    until(lambda: not instruments.entered["psu1"])
    before = instruments.reads["psu1", "voltage"]
    assert observers.get("psu1", "voltage", 60.0).value == before


def test_an_unexpected_error_is_logged_once_and_told_once(
    observers: Observers, instruments: Instruments, caplog: pytest.LogCaptureFixture
) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()
    instruments.error = ZeroDivisionError("in the driver")
    with caplog.at_level(logging.ERROR):
        observers.subscribe("psu1", "voltage", came.put, 0.005)
        reading = came.get(timeout=PATIENCE_S)
        until(lambda: instruments.reads["psu1", "voltage"] > 5)
        instruments.error = None
        assert came.get(timeout=PATIENCE_S).error_code is None
    assert reading.error == "unexpected ZeroDivisionError in psu1; the gateway's log has all of it"
    assert [record.message for record in caplog.records] == ["psu1.voltage could not be read"]


def test_a_callback_that_raises_goes_on_being_called(observers: Observers, caplog: pytest.LogCaptureFixture) -> None:
    came: SimpleQueue[Reading] = SimpleQueue()

    def broken(reading: Reading) -> None:
        came.put(reading)
        raise ValueError("in the callback")

    observers.subscribe("psu1", "voltage", broken, 0.005)
    assert [came.get(timeout=PATIENCE_S).value for _ in range(3)] == [1, 2, 3]
    until(lambda: "a reading could not be sent" in caplog.text)


def test_a_reading_that_is_too_large_is_told_instead_of_sent(observers: Observers) -> None:
    sent: SimpleQueue[Reading] = SimpleQueue()

    def send(items: Any, done: Callable[[], None]) -> None:
        for _, reading, _ in items:
            if reading.error_code is None:
                raise LimitExceeded("frame", actual=2, allowed=1)
            sent.put(reading)
        done()

    outlet: Outlet = observers.outlet(send)
    observers.subscribe("psu1", "voltage", outlet, 60.0)
    told = sent.get(timeout=PATIENCE_S)
    assert (told.error_code, told.value) == ("limit-exceeded", None)


def test_no_more_calls_are_unanswered_than_the_window_permits(instruments: Instruments) -> None:
    observers = Observers(instruments, bounds=Bounds(window=3))
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    outlet = observers.outlet(lambda items, done: waiting.put(done))
    subscriber = observers.subscribe("psu1", "voltage", outlet, 0.005, max_queue=4)
    until(lambda: subscriber.dropped > 5)
    assert waiting.qsize() == 3
    waiting.get()()
    until(lambda: waiting.qsize() == 3)
    observers.close()


@pytest.mark.parametrize("every", [0, -1, 0.001, 1e9, float("nan"), float("inf")])
def test_a_period_out_of_bounds_is_refused(observers: Observers, every: float) -> None:
    with pytest.raises(OutOfRange, match="every="):
        observers.subscribe("psu1", "voltage", print, every)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"every_s": "1"}, BadRequest),
        ({"every_s": True}, BadRequest),
        ({"deadband": -1.0}, OutOfRange),
        ({"deadband": float("inf")}, OutOfRange),
        ({"max_queue": 0}, OutOfRange),
        ({"max_queue": 10**9}, OutOfRange),
        ({"max_queue": 1.5}, BadRequest),
    ],
)
def test_other_wrong_wishes_are_refused(observers: Observers, wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        observers.subscribe("psu1", "voltage", print, **wrong)
    assert observers.subscriptions == 0


@pytest.mark.parametrize("age", [-1, float("nan"), float("inf")])
def test_a_wrong_age_is_refused(observers: Observers, age: float) -> None:
    with pytest.raises(OutOfRange, match="max_age="):
        observers.get("psu1", "voltage", age)
