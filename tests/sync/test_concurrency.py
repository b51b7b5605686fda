"""DESIGN's sentences about concurrency, each as a test over a real socket."""

from __future__ import annotations

import gc
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

import gateway
from gateway.channels import memory_pair
from gateway.channels.base import Channel
from gateway.errors import LinkDown, OutcomeUnknown
from gateway.service.exposure import Exposable, exposed
from gateway.sync.lane import Lane

SERVER = """
import threading
import gateway
class Never(gateway.Service):
    def exposed_answer(self): threading.Event().wait()
with gateway.Server(Never, "tcp://127.0.0.1:0") as server:
    print(server.url, flush=True)
    server.serve_forever()
"""


def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Wait until `condition` holds."""
    deadline = monotonic() + timeout
    tick = threading.Event()
    while not condition():
        if monotonic() > deadline:
            return False
        tick.wait(0.005)
    return True


class Bench(gateway.Service):
    """What the tests call. `gate` holds `wait` until it is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.alive: list[Any] = []

    def exposed_echo(self, value: Any) -> Any:
        return value

    def exposed_wait(self, value: Any) -> Any:
        self.entered.set()
        assert self.gate.wait(20)
        return value

    def exposed_call(self, function: Callable[[Any], Any], value: Any) -> Any:
        return function(value)

    def exposed_later(self, function: Callable[[float], None], count: int) -> None:
        tell = gateway.async_(function)

        def run() -> None:
            for _ in range(count):
                threading.Event().wait(0.03)
                tell(monotonic())

        threading.Thread(target=run, daemon=True).start()

    def exposed_call_often(self, function: Callable[[int], Any], count: int) -> int:
        for number in range(count):
            function(number)
        return count

    def exposed_tell_often(self, function: Callable[[int], Any], count: int) -> int:
        tell = gateway.async_(function)
        for number in range(count):
            tell(number)
        return count

    def exposed_object(self) -> object:
        return Loan()

    def exposed_count(self) -> int:
        gc.collect()
        return Loan.living


class Loan:
    """Counts how many of it live."""

    living = 0

    def __init__(self) -> None:
        type(self).living += 1

    def __del__(self) -> None:
        type(self).living -= 1


@pytest.fixture
def bench() -> Iterator[Bench]:
    service = Bench()
    yield service
    service.gate.set()


@pytest.fixture
def server(bench: Bench) -> Iterator[gateway.Server]:
    with gateway.Server(bench, "tcp://127.0.0.1:0") as server:
        yield server


@pytest.fixture
def conn(server: gateway.Server) -> Iterator[gateway.Connection]:
    with gateway.connect(server.url) as conn:
        yield conn


class Watched(Channel):
    """Notes which threads send and receive on a channel."""

    def __init__(self, inner: Channel) -> None:
        self._inner = inner
        self.senders: set[int] = set()
        self.receivers: set[int] = set()

    def send(self, data: bytes) -> None:
        self.senders.add(threading.get_ident())
        self._inner.send(data)

    def recv(self) -> bytes:
        self.receivers.add(threading.get_ident())
        return self._inner.recv()

    def poll(self, timeout: float | None) -> bool:
        self.receivers.add(threading.get_ident())
        return self._inner.poll(timeout)

    def close(self) -> None:
        self._inner.close()

    @property
    def closed(self) -> bool:
        return self._inner.closed

    def fileno(self) -> int:
        return self._inner.fileno()


def test_a_lone_callers_own_thread_sends_and_reads() -> None:
    near, far = memory_pair(gateway.Limits())
    served = gateway.connect_channel(far, Bench)
    watched = Watched(near)
    conn = gateway.connect_channel(watched, background=False)
    before = threading.active_count()
    root = conn.root
    for number in range(50):
        assert root.echo(number) == number
    me = {threading.get_ident()}
    assert watched.senders == me
    assert watched.receivers == me
    assert threading.active_count() <= before + 1, "only the far end may have started a worker"
    conn.close()
    served.close()


def test_threads_that_share_a_connection_each_get_their_own_reply(conn: gateway.Connection) -> None:
    root = conn.root
    wrong: list[Any] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for number in range(150):
            token = (seed, number)
            answer = root.call(lambda value: value, token) if choose.random() < 0.2 else root.echo(token)
            if answer != token:
                wrong.append((token, answer))

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a reply or a wake-up was lost"
    assert wrong == []


def test_no_thread_waits_inside_anothers_reply(server: gateway.Server, bench: Bench) -> None:
    # Two connections to a shared service: the slow call must not hold up the quick ones of another thread.
    with gateway.connect(server.url) as slow, gateway.connect(server.url) as quick:
        waiting = gateway.async_(slow.root.wait)(1)
        assert bench.entered.wait(5)
        began = monotonic()
        for number in range(20):
            assert quick.root.echo(number) == number
        assert monotonic() - began < 2
        bench.gate.set()
        assert waiting.value == 1


def test_a_caller_whose_answer_came_does_not_wait_for_the_one_that_reads(conn: gateway.Connection) -> None:
    # While a callback of one thread's call runs on a worker, the other threads go on.
    root = conn.root
    inside, leave = threading.Event(), threading.Event()

    def callback(value: int) -> int:
        inside.set()
        assert leave.wait(20)
        return value

    results: list[int] = []
    caller = threading.Thread(target=lambda: results.append(root.call(callback, 5)), daemon=True)
    caller.start()
    assert inside.wait(5)
    assert root.echo("meanwhile") == "meanwhile"
    leave.set()
    caller.join(10)
    assert results == [5]


def test_a_callback_runs_on_a_worker_not_inside_the_callers_wait(conn: gateway.Connection) -> None:
    assert conn.root.call(lambda value: threading.get_ident(), 0) != threading.get_ident()


def test_nested_callbacks_asks_for_the_seeds_nesting(server: gateway.Server) -> None:
    with gateway.connect(server.url, config={"nested_callbacks": True}, background=False) as conn:
        assert conn.root.call(lambda value: threading.get_ident(), 0) == threading.get_ident()


def test_a_finalizer_sends_nothing(server: gateway.Server) -> None:
    near, far = memory_pair(gateway.Limits())
    served = gateway.connect_channel(far, Bench)
    watched = Watched(near)
    conn = gateway.connect_channel(watched, background=False)
    proxy = conn.root.object()
    watched.senders.clear()
    del proxy
    gc.collect()
    assert watched.senders == set()
    assert conn.root.count() == 0, "the release leaves with the next request, in front of it"
    conn.close()
    served.close()


def test_references_are_released_in_the_order_of_the_wire(conn: gateway.Connection) -> None:
    root = conn.root
    for _ in range(100):
        proxy = root.object()
        del proxy
        assert root.count() == 0
    kept = [root.object() for _ in range(5)]
    assert root.count() == 5
    del kept[:2]
    assert root.count() == 3


def test_idle_connections_cost_no_thread(server: gateway.Server) -> None:
    before = threading.active_count()
    conns = [gateway.connect(server.url) for _ in range(12)]
    for conn in conns:
        assert conn.root.echo(1) == 1
    # Workers that lingered are idle now, and idle workers go after a while; one reactor serves all.
    assert eventually(lambda: threading.active_count() <= before + 3, 15), threading.enumerate()
    assert all(conn.root.echo(2) == 2 for conn in conns)
    for conn in conns:
        conn.close()


def test_events_just_arrive_at_an_idle_client(conn: gateway.Connection) -> None:
    delays: list[float] = []
    done = threading.Event()

    def event(sent: float) -> None:
        delays.append(monotonic() - sent)
        if len(delays) == 20:
            done.set()

    conn.root.later(event, 20)
    assert done.wait(20)
    assert statistics.median(delays) < 0.05


class Meter(Exposable):
    """A device that knows whether it was ever entered twice."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gateway_lane = Lane(name, 64)
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.inside = self.most = 0
        self.order: list[int] = []

    @exposed
    def note(self, number: int) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.order.append(number)
        self.inside -= 1

    @exposed
    def hold(self) -> str:
        self.entered.set()
        assert self.gate.wait(20)
        return self.name


class Lab(gateway.Service):
    """Two devices under the device policy."""

    def __init__(self) -> None:
        self.meters = {"a": Meter("a"), "b": Meter("b")}

    def exposed_meter(self, name: str) -> Meter:
        return self.meters[name]


@pytest.fixture
def lab() -> Iterator[tuple[Lab, str]]:
    lab = Lab()
    with gateway.Server(lab, "tcp://127.0.0.1:0", strict=True) as server:
        yield lab, server.url
        for meter in lab.meters.values():
            meter.gate.set()


def test_calls_to_one_device_run_in_the_order_of_the_wire(lab: tuple[Lab, str]) -> None:
    with gateway.connect(lab[1]) as conn:
        note = gateway.async_(conn.root.meter("a").note)
        for start in range(0, 400, 40):
            for result in [note(start + number) for number in range(40)]:
                result.wait()
    assert lab[0].meters["a"].order == list(range(400))


def test_calls_to_different_devices_run_side_by_side_on_one_connection(lab: tuple[Lab, str]) -> None:
    service, url = lab
    with gateway.connect(url) as conn:
        a, b = conn.root.meter("a"), conn.root.meter("b")
        held = gateway.async_(a.hold)()
        assert service.meters["a"].entered.wait(5)
        b.note(1)
        assert not held.done
        service.meters["a"].gate.set()
        assert held.value == "a"


def test_a_device_is_never_entered_twice_at_a_time(lab: tuple[Lab, str]) -> None:
    service, url = lab

    def work() -> None:
        with gateway.connect(url) as conn:
            meter = conn.root.meter("a")
            for number in range(60):
                meter.note(number)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    meter = service.meters["a"]
    assert len(meter.order) == 8 * 60
    assert meter.most == 1


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    child = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    yield child, child.stdout.readline().strip()
    child.kill()
    child.wait(10)
    child.stdout.close()


def test_close_ends_within_a_second_on_a_dead_link_and_wakes_every_waiter(
    process: tuple[subprocess.Popen[str], str],
) -> None:
    child, url = process
    conn = gateway.connect(url)
    root = conn.root
    errors: list[Exception] = []

    def call() -> None:
        try:
            root.answer()
        except OutcomeUnknown as error:
            errors.append(error)

    waiters = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    assert eventually(lambda: len(conn._pending) == 4)
    os.kill(child.pid, signal.SIGSTOP)
    began = monotonic()
    conn.close()
    conn.close()
    assert monotonic() - began < 1.0
    for waiter in waiters:
        waiter.join(5)
    assert len(errors) == 4
    assert all("closed by this side" in str(error) for error in errors)
    os.kill(child.pid, signal.SIGCONT)
    with pytest.raises(LinkDown, match="closed by this side"):
        root.answer()


def test_a_killed_peer_ends_the_calls_under_way(process: tuple[subprocess.Popen[str], str]) -> None:
    child, url = process
    conn = gateway.connect(url)
    result = gateway.async_(conn.root.answer)()
    began = monotonic()
    child.kill()
    with pytest.raises(EOFError):
        result.wait()
    assert monotonic() - began < 2
    assert conn.closed


def test_an_interrupt_in_a_waiting_thread_leaves_the_connection_usable(conn: gateway.Connection, bench: Bench) -> None:
    root = conn.root

    def interrupt() -> None:
        bench.entered.wait(5)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        root.wait(1)
    bench.gate.set()
    assert root.echo("still here") == "still here"


# -- calls of the peer while somebody waits ----------------------------------------------------------------------------


def test_a_worker_that_runs_a_call_of_the_peer_runs_those_that_follow_too(conn: gateway.Connection) -> None:
    threads: list[int] = []

    def note(number: int) -> None:
        threads.append(threading.get_ident())

    assert conn.root.call_often(note, 200) == 200
    assert len(threads) == 200
    assert threading.get_ident() not in threads, "never inside the caller's wait"
    changes = sum(before != after for before, after in pairwise(threads[1:]))
    assert changes < 50, "the caller hands the reading over once, and not with every call"


def test_a_call_of_the_peer_that_takes_long_does_not_hold_up_the_answer(conn: gateway.Connection) -> None:
    gate, blocked = threading.Event(), threading.Event()

    def block(number: int) -> None:
        if number == 2:
            blocked.set()
            gate.wait(20)

    # The third call ends only after the answer is here: whoever waits for the answer must not wait for it.
    assert conn.root.tell_often(block, 3) == 3
    assert blocked.wait(5)
    assert conn.root.echo(1) == 1
    gate.set()


def test_callers_share_a_connection_on_which_the_peer_calls_all_the_time(conn: gateway.Connection) -> None:
    counts = [0] * 4
    failures: list[BaseException] = []

    def work(index: int) -> None:
        def count_up(number: int) -> None:
            counts[index] += 1

        try:
            for number in range(40):
                assert conn.root.call_often(count_up, 5) == 5
                assert conn.root.echo((index, number)) == (index, number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert counts == [200] * 4


def test_a_wait_that_times_out_while_a_worker_reads_for_it_leaves_the_connection_usable(
    server: gateway.Server, bench: Bench
) -> None:
    with gateway.connect(server.url, config={"sync_request_timeout": 20}) as conn:
        late = gateway.async_(conn.root.call_often)

        def wait_once(number: int) -> None:
            if number == 3:
                bench.gate.wait(20)

        result = late(wait_once, 6)
        result.set_expiry(0.3)
        with pytest.raises(TimeoutError):
            result.wait()
        bench.gate.set()
        assert conn.root.echo(5) == 5
