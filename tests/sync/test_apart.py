"""A slow, frozen or trickling client never delays another; nobody's code runs in the thread that watches them all."""

from __future__ import annotations

import gc
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

import gateway
from gateway.limits import Limits
from gateway.protocol import brine
from gateway.protocol.framing import HEARTBEAT, frame
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from tests.behaviour.conditions import eventually

Serve = Callable[..., gateway.Server]
Connect = Callable[..., Any]

ALLOWED_S: Final = 0.5
WATCHED_S: Final = 1.5


class Bench(gateway.Service):
    """Shared by all clients."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.kept: list[Any] = []

    def exposed_echo(self, value: Any) -> Any:
        return value

    def exposed_large(self) -> bytes:
        return b"x" * 500_000

    def exposed_wait(self) -> None:
        self.gate.wait(20)

    def exposed_keep(self, thing: Any) -> None:
        self.kept.append(thing)

    def exposed_call(self, function: Callable[[], Any]) -> Any:
        return function()

    def exposed_drop(self) -> None:
        self.kept.clear()
        gc.collect()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gate.set()


def raw_peer(server: gateway.Server) -> socket.socket:
    host, _, port = server.url.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), 5)


def request(seq: int, handler: int, args: Any) -> bytes:
    return frame(b"\x01" + brine.dump((seq, (handler, args))), Limits())


def frozen(server: gateway.Server, done: threading.Event) -> None:
    """Asks for far more than it will ever read."""
    with raw_peer(server) as peer:
        peer.sendall(request(0, 3, (1, ())))
        root = brine.load(peer.recv(65536)[6:-1])[1][1]
        ask = request(1, 8, (2, ((3, root), (1, "large"), (1, ()), (1, ()))))
        peer.settimeout(0.1)
        while not done.is_set():
            with suppress(TimeoutError):
                peer.sendall(ask)


def flooding(server: gateway.Server, done: threading.Event) -> None:
    """Asks as fast as it can and reads none of the answers."""
    with raw_peer(server) as peer:
        peer.settimeout(0.1)
        pings = b"".join(request(number, 1, (1, ("x" * 100,))) for number in range(200))
        with suppress(OSError):
            while not done.is_set():
                with suppress(TimeoutError):
                    peer.sendall(pings)


def trickling(server: gateway.Server, done: threading.Event) -> None:
    """Sends a request in single bytes."""
    with raw_peer(server) as peer:
        while not done.is_set():
            for byte in request(0, 1, (1, ("x" * 200,))):
                peer.sendall(bytes([byte]))
                if done.wait(0.005):
                    break


def half_a_frame(server: gateway.Server, done: threading.Event) -> None:
    """Begins a large request and goes silent."""
    with raw_peer(server) as peer:
        peer.sendall(request(0, 1, (1, ("x" * 100_000,)))[:50_000])
        done.wait(20)


def silent(server: gateway.Server, done: threading.Event) -> None:
    """Connects, and that is all."""
    with raw_peer(server):
        done.wait(20)


def slow(server: gateway.Server, done: threading.Event) -> None:
    """Calls what takes long."""
    with gateway.connect(server.url) as conn, suppress(EOFError):
        conn.root.wait()


def deaf(server: gateway.Server, done: threading.Event) -> None:
    """Has itself called back and never answers."""
    with gateway.connect(server.url) as conn, suppress(EOFError):
        conn.root.call(lambda: done.wait(20))


KINDS: Final = [frozen, flooding, trickling, half_a_frame, silent, slow, deaf]


@contextmanager
def beside(kind: Callable[[gateway.Server, threading.Event], None], server: gateway.Server) -> Iterator[None]:
    done = threading.Event()

    def run() -> None:
        with suppress(OSError):  # the server may have had enough of it
            kind(server, done)

    client = threading.Thread(target=run, daemon=True)
    client.start()
    try:
        yield
    finally:
        done.set()
        server.close()
        client.join(10)


def worst_call(root: Any, for_s: float) -> float:
    """The longest that a call took in that time, in seconds."""
    worst, end = 0.0, time.monotonic() + for_s
    while (began := time.monotonic()) < end:
        assert root.echo(5) == 5
        worst = max(worst, time.monotonic() - began)
    return worst


def first_call(connect: Connect, server: gateway.Server) -> float:
    """How long it takes from connecting to the first answer, in seconds."""
    began = time.monotonic()
    assert connect(server).root.echo(1) == 1
    return time.monotonic() - began


def is_delayed(root: Any, for_s: float = WATCHED_S / 2) -> bool:
    """Whether calls are held up again and again: once, this process may have looked through all that it holds."""
    return all(worst_call(root, for_s) >= ALLOWED_S for _ in range(3))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_client_that_behaves_badly_delays_no_other(
    serve: Serve, connect: Connect, bench: Bench, kind: Callable[[gateway.Server, threading.Event], None]
) -> None:
    server = serve(bench)
    root = connect(server).root
    with beside(kind, server):
        assert eventually(lambda: server.connections == 2)
        assert not is_delayed(root)
        assert min(first_call(connect, server) for _ in range(3)) < ALLOWED_S, "nor one that comes later"
        bench.gate.set()


class Meter(Exposable):
    def __init__(self) -> None:
        self.gate = threading.Event()

    @exposed
    def echo(self, value: Any) -> Any:
        return value

    @exposed
    def large(self) -> bytes:
        return b"x" * 500_000

    @exposed
    def hold(self) -> None:
        self.gate.wait(20)


def test_a_client_that_does_not_read_does_not_hold_the_device(serve: Serve, connect: Connect) -> None:
    server = serve(GatewayService({"meter": Meter()}), strict=True)
    reader = connect(server).root.meter
    greedy = connect(server, background=False)
    large = gateway.async_(greedy.root.meter.large)
    results = [large() for _ in range(40)]  # 20 MB that nobody takes
    assert not is_delayed(reader)
    assert len(results) == 40


def fill(conn: Any) -> None:
    """Send heartbeats on the connection's line until it takes nothing more, as if its peer had frozen."""
    with socket.socket(fileno=os.dup(conn.fileno())) as line:
        with suppress(BlockingIOError):
            while True:
                line.send(HEARTBEAT, socket.MSG_DONTWAIT)


def test_what_is_given_back_to_a_frozen_client_delays_no_other(
    serve: Serve, connect: Connect, bench: Bench, tmp_path: Path
) -> None:
    server = serve(bench, f"unix://{tmp_path}/gateway.sock")
    client = connect(server, background=False)
    client.root.keep(lambda: None)
    (served,) = server._connections
    other = connect(server).root
    fill(served)
    other.drop()
    assert not is_delayed(other, 2 * WATCHED_S), "the reactor gives back what was dropped once a second"
    assert connect(server).root.echo(1) == 1


def test_a_service_that_takes_its_time_to_say_goodbye_delays_no_other(serve: Serve, connect: Connect) -> None:
    """A frame that stands still ends its connection from the thread that watches all of them."""
    left = threading.Event()

    class Safe(gateway.Service):
        def exposed_echo(self, value: Any) -> Any:
            return value

        def on_disconnect(self, conn: Any) -> None:
            left.set()
            threading.Event().wait(2.0)  # devices are made safe here

    server = serve(Safe(), limits=Limits(progress_s=0.3))
    root = connect(server).root
    with raw_peer(server) as peer:
        peer.sendall(request(0, 1, (1, ("x" * 100,)))[:50])
        worst = 0.0
        assert eventually(lambda: worst_call(root, 0.05) < ALLOWED_S and left.is_set(), 5)
        worst = worst_call(root, 1.0)
    assert worst < ALLOWED_S


def test_50_idle_connections_cost_no_thread(
    serve: Serve, connect: Connect, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sync.workers.IDLE_S", 0.1)
    server = serve(bench, limits=Limits(connections_per_host=64))
    before = set(threading.enumerate())
    conns = [connect(server) for _ in range(50)]
    for conn in conns:
        assert conn.root.echo(1) == 1

    def theirs() -> list[str]:
        return [thread.name for thread in set(threading.enumerate()) - before if thread.name != "gateway-reactor"]

    assert eventually(lambda: not theirs()), theirs()
    assert [conn.root.echo(2) for conn in conns] == [2] * 50


def test_events_arrive_promptly_at_an_idle_client(serve: Serve, connect: Connect) -> None:
    class Source(gateway.Service):
        def exposed_subscribe(self, tell: Callable[[float], None]) -> None:
            self.tell = gateway.async_(tell)

    source = Source()
    conn = connect(serve(source))
    delays: list[float] = []
    arrived = threading.Event()

    def event(sent: float) -> None:
        delays.append(time.monotonic() - sent)
        arrived.set()

    conn.root.subscribe(event)
    for _ in range(30):
        arrived.clear()
        threading.Event().wait(0.03)  # longer than anybody lingers
        source.tell(time.monotonic())
        assert arrived.wait(5)
    assert statistics.median(delays) < 0.02
