"""The order of the wire: of calls, of events, and of releases among the messages that name what they release."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from gateway.sync.workers import WORKERS
from tests.behaviour.conditions import eventually

Serve = Callable[..., gateway.Server]
Connect = Callable[..., Any]
Pair = Callable[..., tuple[Any, Any]]


@pytest.fixture
def late_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker begins its work after a pause of its own, as on a machine that has much else to do."""
    submit, choose = WORKERS.submit, random.Random(1)

    def late(function: Callable[..., Any], *args: Any) -> None:
        pause_s = choose.uniform(0.0, 0.004)

        def begin() -> None:
            threading.Event().wait(pause_s)
            function(*args)

        submit(begin)

    monkeypatch.setattr(WORKERS, "submit", late)


class Meter(Exposable):
    def __init__(self) -> None:
        self.noted: list[int] = []

    @exposed
    def note(self, number: int) -> None:
        self.noted.append(number)

    exposed_also_note = note


class Source(gateway.Service):
    def exposed_fire(self, tell: Callable[[int], None], count: int) -> None:
        event = gateway.async_(tell)
        for number in range(count):
            event(number)


@pytest.mark.usefixtures("late_threads")
def test_events_arrive_in_the_order_in_which_they_were_sent(serve: Serve, connect: Connect) -> None:
    conn, seen = connect(serve(Source)), list[int]()
    conn.root.fire(seen.append, 60)
    assert eventually(lambda: len(seen) == 60)
    assert seen == list(range(60))


@pytest.mark.usefixtures("late_threads")
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "seed"])
def test_calls_to_one_device_run_in_the_order_in_which_they_were_made(
    serve: Serve, connect: Connect, strict: bool
) -> None:
    meter = Meter()
    conn = connect(serve(GatewayService({"meter": meter, "other": Meter()}), strict=strict))
    remote = conn.root.device("meter")
    note, also = gateway.async_(remote.note), gateway.async_(remote.also_note)
    results = [(note if number % 2 else also)(number) for number in range(60)]
    for result in results:
        result.value  # noqa: B018
    assert meter.noted == list(range(60))


class Store(gateway.Service):
    """Keeps what it is given, and gives it away."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def exposed_keep(self, thing: Any) -> None:
        self.kept.append(thing)

    def exposed_take(self) -> Any:
        return self.kept.pop()

    def exposed_take_in_a_tuple(self) -> tuple[Any, int]:
        return self.kept.pop(), 5

    def exposed_drop(self) -> None:
        self.kept.clear()
        gc.collect()

    def exposed_echo(self, value: Any) -> Any:
        return value


class Thing:
    """What the client lends."""


@pytest.mark.parametrize("take", ["take", "take_in_a_tuple"])
def test_an_object_whose_last_proxy_is_in_the_answer_comes_home(pair: Pair, take: str) -> None:
    """The proxy dies with the call: its release must not leave in front of the answer that names it."""
    conn, _ = pair(there=Store)
    root = conn.root
    for _ in range(20):
        thing = Thing()
        root.keep(thing)
        taken = getattr(root, take)()
        assert (taken if take == "take" else taken[0]) is thing


def test_an_object_that_came_home_can_be_lent_again_and_is_let_go_in_the_end(pair: Pair) -> None:
    conn, remote = pair(there=Store)
    root, thing = conn.root, Thing()
    alive = weakref.ref(thing)
    for _ in range(5):
        root.keep(thing)
        assert root.take() is thing
    root.keep(thing)
    del thing
    gc.collect()
    assert alive() is not None
    root.drop()

    def released() -> bool:
        remote.housekeep(time.monotonic())
        conn.poll_all(0)
        gc.collect()
        return alive() is None

    assert eventually(released)


def test_a_release_leaves_in_front_of_the_next_message(pair: Pair) -> None:
    class Maker(gateway.Service):
        def exposed_make(self) -> Thing:
            return Thing()

    conn, remote = pair(there=Maker)
    root = conn.root
    lent = remote._peer.boxing.loans
    for _ in range(20):
        proxy = root.make()
        assert len(lent) == 2
        del proxy
        conn.ping()
        assert len(lent) == 1


def test_what_finalizers_note_leaves_with_the_housekeeping_where_nothing_else_is_sent(pair: Pair) -> None:
    class Maker(gateway.Service):
        def exposed_make(self) -> Thing:
            return Thing()

    conn, remote = pair(there=Maker)
    proxy = conn.root.make()
    del proxy
    conn.housekeep(time.monotonic())
    assert eventually(lambda: len(remote._peer.boxing.loans) == 1)


@pytest.mark.parametrize("held", ["the send lock", "a send in progress", "the reading"])
def test_a_proxy_that_dies_while_something_is_held_does_no_input_or_output(pair: Pair, held: str) -> None:
    conn, _ = pair(there=Store)
    root = conn.root
    doomed = [conn.sync_request(3)]  # the root once more
    lock = {"the send lock": conn._outbox._sending, "the reading": conn._reading._lock}.get(held)
    if lock is not None:
        with lock:
            doomed.clear()
            gc.collect()
    else:
        send = conn._channel._write

        def write(data: bytes, progress_s: float) -> None:
            doomed.clear()
            gc.collect()
            send(data, progress_s)

        conn._channel._write = write
        conn.ping()
        conn._channel._write = send
    conn.ping()
    assert root.echo(5) == 5


def test_proxies_may_die_by_the_collector_in_any_thread_at_any_moment(serve: Serve, connect: Connect) -> None:
    class Maker(gateway.Service):
        def exposed_make(self) -> Thing:
            return Thing()

    server = serve(Maker())
    conn = connect(server)
    root = conn.root
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            gc.collect(0)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for _ in range(300):
            cycle: list[Any] = [root.make()]
            cycle.append(cycle)
            del cycle
    finally:
        stop.set()
        collector.join()
    gc.collect()
    conn.ping()
    (served,) = server._connections
    assert eventually(lambda: len(served._peer.boxing.loans) == 1)


def test_the_same_object_received_by_many_threads_is_counted_exactly(serve: Serve, connect: Connect) -> None:
    class Same(gateway.Service):
        def __init__(self) -> None:
            self.thing = Thing()

        def exposed_same(self) -> Thing:
            return self.thing

    server = serve(Same())
    conn = connect(server)
    root, errors = conn.root, list[BaseException]()

    def churn() -> None:
        try:
            for _ in range(150):
                assert "Thing" in repr(root.same())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=churn) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    gc.collect()
    conn.ping()
    (served,) = server._connections
    assert eventually(lambda: len(served._peer.boxing.loans) == 1)
