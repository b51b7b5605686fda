"""Many busy connections of a server: one thread serves them, and none of them waits for another one's call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from operator import ge
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import gateway
from gateway.sync.crowd import FEW
from gateway.sync.reactor import REACTOR
from tests.server.bridged import wait_until

MANY = 24
WAIT_S = 30.0


class Bench(gateway.Service):
    """Notes which threads serve it."""

    threads: set[int]
    gate: threading.Event
    inside: list[int]
    told: list[Callable[[int], object]]

    def exposed_echo(self, value: Any) -> Any:
        self.threads.add(threading.get_ident())
        return value

    def exposed_block(self) -> str:
        self.inside.append(threading.get_ident())
        self.gate.wait(WAIT_S)
        return "through"

    def exposed_tell_me(self, function: Callable[[int], object]) -> None:
        self.told.append(function)

    def exposed_tell(self, number: int) -> None:
        for function in self.told:
            function(number)

    def exposed_back(self, function: Callable[[int], int], number: int) -> int:
        return function(number)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    Bench.threads, Bench.gate, Bench.inside, Bench.told = set(), threading.Event(), [], []
    limits = gateway.Limits(connections_per_host=2 * MANY)
    with gateway.Server(Bench, f"unix://{tmp_path}/crowd.sock", limits=limits) as server:
        yield server.url
        Bench.gate.set()


class Clients:
    """Clients that call all the time, each in a thread of its own."""

    def __init__(self, stack: ExitStack, url: str, count: int = MANY) -> None:
        self.connections = [gateway.connect(url) for _ in range(count)]
        for connection in self.connections:
            stack.callback(connection.close)
        self.counts = [0] * count
        self.failures: list[BaseException] = []
        self._over = threading.Event()
        self._gone = 0
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()
        stack.callback(self.stop)

    def _work(self, number: int) -> None:
        try:
            root = self.connections[number].root
            while not self._over.is_set() and number >= self._gone:
                assert root.echo((number, self.counts[number])) == (number, self.counts[number])
                self.counts[number] += 1
        except BaseException as error:
            self.failures.append(error)

    def go_on(self, calls: int = 200) -> None:
        """Wait until each has made so many calls more."""
        aim = [count + calls for count in self.counts[self._gone :]]
        wait_until(
            lambda: bool(self.failures) or all(map(ge, self.counts[self._gone :], aim)), "all are served", WAIT_S
        )
        assert not self.failures

    def leave(self, count: int) -> None:
        """Have the first ones close their connections."""
        self._gone = count
        for thread in self._threads[:count]:
            thread.join(WAIT_S)
        for connection in self.connections[:count]:
            connection.close()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WAIT_S)


def test_one_thread_serves_many_busy_clients(url: str) -> None:
    with ExitStack() as stack:
        clients = Clients(stack, url)
        clients.go_on()
        for _ in range(30):  # on a busy machine any call may look slow, and has its thread to itself then
            Bench.threads.clear()
            clients.go_on(20)
            if len(Bench.threads) <= 1 + FEW:
                return
        raise AssertionError(f"{len(Bench.threads)} threads serve {MANY} clients")


def test_calls_that_block_hold_up_nobody_else(url: str) -> None:
    with ExitStack() as stack:
        clients = Clients(stack, url)
        others = [gateway.connect(url) for _ in range(5)]
        for other in others:
            stack.callback(other.close)
        clients.go_on()
        waiting = [gateway.async_(other.root.block)() for other in others]
        wait_until(lambda: len(Bench.inside) == 5, "all five are in their calls", WAIT_S)
        clients.go_on()
        assert len(set(Bench.inside)) == 5, "each has a thread to itself"
        Bench.gate.set()
        assert [each.value for each in waiting] == ["through"] * 5
        clients.go_on()
        assert [other.root.echo(7) for other in others] == [7] * 5


def test_the_crowd_breaks_up_and_its_connections_are_served_as_before(url: str) -> None:
    with ExitStack() as stack:
        clients = Clients(stack, url)
        clients.go_on()
        clients.stop()
        assert not clients.failures
        wait_until(lambda: REACTOR._crowd._poller is None and not REACTOR._busy, "nobody is busy", WAIT_S)
        assert not REACTOR._crowd._members
        for number, connection in enumerate(clients.connections):
            assert connection.root.echo(number) == number


def test_clients_that_leave_are_forgotten(url: str) -> None:
    with ExitStack() as stack:
        clients = Clients(stack, url)
        clients.go_on()
        clients.leave(10)
        wait_until(lambda: len(REACTOR._busy) <= MANY - 10, "they are gone", WAIT_S)
        clients.go_on(20)


def test_a_handler_may_call_its_client_back(url: str) -> None:
    with ExitStack() as stack:
        clients = Clients(stack, url)
        clients.go_on()
        with gateway.connect(url) as other:
            for number in range(50):
                assert other.root.back(lambda value: value + 1, number) == number + 1
        clients.go_on(20)


def test_requests_that_come_together_are_all_answered(url: str) -> None:
    with ExitStack() as stack:
        clients = Clients(stack, url)
        clients.go_on()
        with gateway.connect(url) as other:
            echo = gateway.async_(other.root.echo)
            for _ in range(5):
                assert [each.value for each in [echo(number) for number in range(60)]] == list(range(60))
        clients.go_on(20)


def test_a_client_that_only_listens_hears_what_it_is_told_beside_a_crowd(url: str) -> None:
    heard: SimpleQueue[int] = SimpleQueue()
    with ExitStack() as stack:
        listener = stack.enter_context(gateway.connect(url))
        listener.root.tell_me(heard.put)
        clients = Clients(stack, url)
        clients.go_on()
        with gateway.connect(url) as other:
            for number in range(5):
                other.root.tell(number)
                assert heard.get(timeout=WAIT_S) == number
        clients.go_on(20)
