"""Several threads on one connection: background serving, callbacks meanwhile, and interrupted waits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

Connect = Callable[..., Any]


class Worker:
    """Calls back from a thread of its own, and answers calls meanwhile."""

    async_: Any = None

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.opened = threading.Event()
        self.thread: threading.Thread | None = None

    def exposed_start(self, callback: Callable[[int], Any]) -> None:
        call = self.async_(callback)

        def work() -> None:
            number = 0
            while not self.stopped.wait(0.005):
                call(number)
                number += 1

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def exposed_burst(self, callback: Callable[[int], Any], times: int) -> None:
        call = self.async_(callback)
        self.thread = threading.Thread(target=lambda: [call(number) for number in range(times)], daemon=True)
        self.thread.start()

    def exposed_stop(self) -> None:
        self.stopped.set()
        if self.thread:
            self.thread.join(5)

    def exposed_multiply(self, number: int) -> int:
        return number * 17

    def exposed_echo(self, thing: Any) -> Any:
        return thing

    def exposed_wait(self) -> str:
        assert self.opened.wait(10), "the test never let go"
        return "waited"

    def exposed_make(self) -> list[int]:
        return [1, 2, 3]


@pytest.fixture
def worker(rpc: Any, as_service: Callable[[type], type]) -> Any:
    worker = as_service(Worker)()
    worker.async_ = rpc.async_
    return worker


@pytest.fixture
def conn(connect: Connect, worker: Any) -> Any:
    return connect(worker)


@contextmanager
def background(rpc: Any, conn: Any, threads: int = 1) -> Iterator[None]:
    """Background threads that serve the connection."""
    servers = [rpc.BgServingThread(conn, callback=lambda: None) for _ in range(threads)]
    try:
        yield
    finally:
        for server in servers:
            server.stop()


def test_callbacks_arrive_while_the_client_calls(rpc: Any, conn: Any) -> None:
    seen: list[int] = []
    with background(rpc, conn):
        conn.root.start(seen.append)
        for number in range(20):
            assert conn.root.multiply(number) == number * 17
        assert eventually(lambda: len(seen) >= 5)
        conn.root.stop()
    assert seen == sorted(seen)


def test_callbacks_arrive_while_the_client_is_idle(rpc: Any, conn: Any) -> None:
    arrived = threading.Event()
    with background(rpc, conn):
        conn.root.start(lambda number: arrived.set())
        assert arrived.wait(5)
        conn.root.stop()


def test_callbacks_run_in_the_order_they_were_sent_while_the_client_polls(conn: Any) -> None:
    for _ in range(20):
        seen: list[int] = []
        conn.root.burst(seen.append, 30)

        def all_came(seen: list[int] = seen) -> bool:
            conn.poll_all(0.005)
            return len(seen) == 30

        assert eventually(all_came)
        assert seen == list(range(30))


def test_several_background_threads_do_not_disturb_each_other(rpc: Any, conn: Any) -> None:
    with background(rpc, conn, threads=3):
        for number in range(50):
            assert conn.root.multiply(number) == number * 17
            assert conn.root.echo((number,)) == (number,)


def test_a_background_thread_tells_when_the_connection_ends(rpc: Any, connect_both: Connect, worker: Any) -> None:
    conn, remote = connect_both(worker)
    ended = threading.Event()
    rpc.BgServingThread(conn, callback=ended.set)
    assert conn.root.multiply(1) == 17
    cut(remote)
    assert ended.wait(5)


def test_threads_that_share_a_connection_get_their_own_replies(conn: Any) -> None:
    root = conn.root
    wrong: list[Any] = []

    def caller(base: int) -> None:
        try:
            for number in range(base, base + 40):
                assert root.multiply(number) == number * 17
                assert root.echo(str(number)) == str(number)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=caller, args=(base,), daemon=True) for base in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_result_is_never_missed_when_another_thread_serves(conn: Any, rpc: Any) -> None:
    serving = threading.Thread(target=conn.serve_all, daemon=True)
    serving.start()
    echo = rpc.async_(conn.root.echo)
    for number in range(300):
        result = echo(number)
        result.set_expiry(5)
        assert result.value == number
    conn.close()
    serving.join(5)


def test_a_slow_callback_of_a_result_does_not_lose_the_result(conn: Any, rpc: Any) -> None:
    serving = threading.Thread(target=conn.serve_all, daemon=True)
    serving.start()
    echo = rpc.async_(conn.root.echo)
    entered, leave = threading.Event(), threading.Event()

    def slow(result: Any) -> None:
        entered.set()
        leave.wait(1)

    result = echo("kept")
    result.add_callback(slow)
    assert entered.wait(5)
    result.set_expiry(5)
    assert result.value == "kept"
    leave.set()
    conn.close()
    serving.join(5)


class Interrupted(Exception):
    """What the signal handler raises."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Call it to have a signal raise `Interrupted` in the main thread a moment later."""

    def handler(number: int, frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    main = threading.main_thread().ident
    assert main is not None
    timers: list[threading.Timer] = []

    def interrupt() -> None:
        timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
        timers.append(timer)
        timer.start()

    yield interrupt
    for timer in timers:
        timer.cancel()
        timer.join()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("served", [False, True], ids=["alone", "beside-a-serving-thread"])
def test_a_wait_can_be_interrupted_by_a_signal_and_resumed(
    rpc: Any, conn: Any, worker: Any, interrupt: Callable[[], None], served: bool
) -> None:
    root = conn.root
    wait = rpc.async_(root.wait)
    result = wait()
    if served:
        threading.Thread(target=conn.serve_all, daemon=True).start()
    interrupt()
    with pytest.raises(Interrupted):
        result.wait()
    worker.opened.set()
    result.set_expiry(5)
    assert result.value == "waited"
    assert root.multiply(2) == 34


def test_proxies_may_die_in_any_thread(conn: Any) -> None:
    root = conn.root

    def churn() -> None:
        for _ in range(30):
            numbers = root.make()
            assert len(numbers) == 3

    threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert root.multiply(3) == 51
