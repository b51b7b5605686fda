"""Workers: a thread for each piece of work that can't wait, none for long when there is no work."""

from __future__ import annotations

import gc
import logging
import threading
import weakref

import pytest

from gateway.sync.workers import Workers
from tests.behaviour.conditions import eventually


def living(workers: Workers) -> int:
    return sum(thread.name.startswith(f"{workers._name}-") for thread in threading.enumerate())


@pytest.fixture
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Workers:
    monkeypatch.setattr("gateway.sync.workers.IDLE_S", 0.1)
    return Workers(f"test-{request.node.name}")


def test_work_that_waits_holds_up_no_other_work(workers: Workers) -> None:
    gates = [threading.Event() for _ in range(5)]
    entered = [threading.Event() for _ in range(5)]

    def hold(number: int) -> None:
        entered[number].set()
        gates[number].wait(10)

    for number in range(5):
        workers.submit(hold, number)
    assert all(event.wait(5) for event in entered)
    assert living(workers) == 5
    for gate in gates:
        gate.set()
    assert eventually(lambda: living(workers) == 0), "idle threads go"


def test_an_idle_thread_is_used_again(workers: Workers) -> None:
    threads: set[int] = set()
    for _ in range(20):
        done = threading.Event()

        def work(done: threading.Event = done) -> None:
            threads.add(threading.get_ident())
            done.set()

        workers.submit(work)
        assert done.wait(5)
        assert eventually(lambda: workers._idle > 0)
    assert len(threads) <= 2


def test_nothing_is_lost_where_threads_go_and_work_comes_at_the_same_time(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sync.workers.IDLE_S", 0.001)
    done = [0]
    lock = threading.Lock()

    def count() -> None:
        with lock:
            done[0] += 1

    pause = threading.Event()
    for number in range(400):
        workers.submit(count)
        if number % 3 == 0:
            pause.wait(0.001)
    assert eventually(lambda: done[0] == 400)


def test_work_that_fails_is_logged_and_its_thread_goes_on(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("the work's own")

    with caplog.at_level(logging.ERROR):
        workers.submit(fail)
        workers.submit(done.set)
        assert done.wait(5)
    assert eventually(lambda: "the work's own" in caplog.text)


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_work_that_ends_its_thread_ends_only_that(
    workers: Workers, ending: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def end() -> None:
        raise ending

    workers.submit(end)
    assert eventually(lambda: living(workers) == 0)
    done = threading.Event()
    workers.submit(done.set)
    assert done.wait(5)
    assert caplog.text == ""


def test_an_idle_thread_holds_nothing_of_its_last_work(workers: Workers) -> None:
    class Load:
        """Something large."""

    load, done = Load(), threading.Event()
    kept = weakref.ref(load)
    workers.submit(lambda load: done.set(), load)
    assert done.wait(5)
    del load

    def gone() -> bool:
        gc.collect()
        return kept() is None

    assert eventually(gone)
