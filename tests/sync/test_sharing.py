"""Several threads share a connection and each gets its own reply: by the thousand, with limits, with interrupts."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

import gateway
from gateway.errors import CallTimeout
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from tests.behaviour.conditions import eventually

Serve = Callable[..., gateway.Server]
Connect = Callable[..., Any]
Pair = Callable[..., tuple[Any, Any]]

THREADS: Final = 16
CALLS: Final = 500
PATIENCE_S: Final = 60


class Meter(Exposable):
    """A device whose calls take as long as they are told."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()

    @exposed
    def echo(self, value: Any, seconds: float = 0.0) -> Any:
        if seconds:
            threading.Event().wait(seconds)
        return value

    @exposed
    def call(self, function: Callable[[Any], Any], value: Any) -> Any:
        return function(value)

    @exposed
    def hold(self, value: Any) -> Any:
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        return value


class Bench(gateway.Service):
    """The same under the seed's profile."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.exposed_echo, self.exposed_call, self.exposed_hold = self.meter.echo, self.meter.call, self.meter.hold


def run_all(work: Callable[[int], None], count: int = THREADS) -> None:
    """Run `work(0)`, `work(1)` ... in threads; raises the first error, or if one of them never ends."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a reply or a wake-up was lost"
    if errors:
        raise errors[0]


def call_a_lot(*echoes: Callable[..., Any], callbacks: Callable[..., Any] | None = None) -> None:
    """From all threads, calls of all durations; each must get its own answer."""

    def work(number: int) -> None:
        choose = random.Random(number)
        for count in range(CALLS):
            token, echo = (number, count), choose.choice(echoes)
            seconds = choose.choice((0.0005, 0.002)) if choose.random() < 0.01 else 0.0
            assert echo(token, seconds) == token
            if callbacks is not None and choose.random() < 0.05:
                assert callbacks(lambda value: (value, value), token) == (token, token)

    run_all(work)


@pytest.mark.parametrize(
    "config", [{}, {"nested_callbacks": True}, {"connid": "again"}], ids=["once", "nested", "again"]
)
def test_16_threads_with_500_calls_each_get_their_own_replies(serve: Serve, connect: Connect, config: Any) -> None:
    root = connect(serve(Bench()), config=config).root
    call_a_lot(root.echo, callbacks=root.call)


def test_they_do_while_a_slow_call_is_under_way_and_other_devices_answer(serve: Serve, connect: Connect) -> None:
    meters = {name: Meter() for name in ("slow", "a", "b")}
    conn = connect(serve(GatewayService(meters), strict=True), config={"sync_request_timeout": PATIENCE_S})
    root = conn.root
    slow = gateway.async_(root.slow.hold)("held")
    assert meters["slow"].entered.wait(5)
    call_a_lot(root.a.echo, root.b.echo)
    assert not slow.done
    meters["slow"].gate.set()
    assert slow.value == "held"


def test_they_do_when_nobody_serves_the_connection_but_they(pair: Pair) -> None:
    conn, _ = pair(there=Bench())
    call_a_lot(conn.root.echo)


def test_no_wake_up_is_lost_where_waits_end_at_any_moment(serve: Serve, connect: Connect) -> None:
    meters = {name: Meter() for name in ("a", "b", "c")}
    root = connect(serve(GatewayService(meters), strict=True)).root
    devices = [root.a, root.b, root.c]
    late = [0]

    def work(number: int) -> None:
        choose = random.Random(number)
        for count in range(120):
            token, device = (number, count), choose.choice(devices)
            if choose.random() < 0.5:
                try:
                    assert gateway.timed(device.echo, choose.uniform(0.0, 0.004))(token).value == token
                except CallTimeout:
                    late[0] += 1
            else:
                assert device.echo(token, choose.uniform(0.0, 0.001)) == token

    run_all(work, 10)
    assert late[0] > 0, "no wait ended early: the test tested nothing"
    assert root.a.echo("after") == "after"


@pytest.mark.parametrize("served", [True, False], ids=["served-by-a-thread", "served-by-the-waiters"])
def test_all_threads_that_wait_for_one_result_get_it(pair: Pair, served: bool) -> None:
    bench = Bench()
    conn, _ = pair(there=bench)
    result = gateway.async_(conn.root.hold)("for all")
    if served:
        threading.Thread(target=conn.serve_all, daemon=True).start()
    waiting = threading.Barrier(6)
    answers: list[Any] = []

    def work(number: int) -> None:
        waiting.wait(5)
        answers.append(result.value)

    def open_when_all_wait() -> None:
        waiting.wait(5)
        bench.meter.gate.set()

    opener = threading.Thread(target=open_when_all_wait)
    opener.start()
    began = time.monotonic()
    run_all(work, 5)
    opener.join()
    assert answers == ["for all"] * 5
    assert time.monotonic() - began < 5


@pytest.fixture
def held(serve: Serve, connect: Connect) -> Any:
    """A client of two devices, `slow.hold` and `quick.echo`, that nobody serves but its callers."""
    meters = {name: Meter() for name in ("slow", "quick")}
    conn = connect(serve(GatewayService(meters), strict=True), background=False)
    conn.meters = meters
    return conn


def test_who_gives_up_waiting_leaves_the_reading_to_the_next(held: Any) -> None:
    root = held.root
    slow, quick = root.slow, root.quick
    gave_up = threading.Event()

    def leader() -> None:
        with pytest.raises(CallTimeout):
            gateway.timed(slow.hold, 0.7)("never").wait()
        gave_up.set()

    leading = threading.Thread(target=leader)
    leading.start()
    assert held.meters["slow"].entered.wait(5)
    assert eventually(lambda: held._reading.taken())
    assert quick.echo("answered after the leader left", 1.0) == "answered after the leader left"
    assert gave_up.is_set()
    leading.join(5)
    held.meters["slow"].gate.set()


def test_who_is_interrupted_while_it_reads_leaves_the_reading_to_the_next(held: Any) -> None:
    root = held.root
    slow, quick = root.slow, root.quick
    answers: list[Any] = []

    def follower() -> None:
        assert held.meters["slow"].entered.wait(5)
        assert eventually(lambda: held._reading.taken())
        answers.append(quick.echo("follower", 0.3))

    def interrupter() -> None:
        assert eventually(lambda: len(held._reading._followers) > 0)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threads = [threading.Thread(target=target) for target in (follower, interrupter)]
    for thread in threads:
        thread.start()
    with pytest.raises(KeyboardInterrupt):
        slow.hold("interrupted")
    for thread in threads:
        thread.join(10)
    assert answers == ["follower"]
    held.meters["slow"].gate.set()
    assert quick.echo("usable") == "usable"


def test_who_is_interrupted_while_it_sleeps_disturbs_nobody(held: Any) -> None:
    root = held.root
    slow, quick = root.slow, root.quick
    answers: list[Any] = []
    leader = threading.Thread(target=lambda: answers.append(slow.hold("leader")))
    leader.start()
    assert held.meters["slow"].entered.wait(5)
    assert eventually(lambda: held._reading.taken())

    def interrupter() -> None:
        assert eventually(lambda: len(held._reading._followers) > 0)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupting = threading.Thread(target=interrupter)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        quick.echo("interrupted", 0.5)
    interrupting.join(5)
    held.meters["slow"].gate.set()
    leader.join(5)
    assert answers == ["leader"]
    assert quick.echo("usable") == "usable"
