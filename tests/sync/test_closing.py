"""The end of a connection: idempotent, within a second on a dead link, and every waiter is told why."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pytest

import gateway
from gateway.channels import memory_pair
from gateway.channels.base import Channel
from gateway.errors import LinkDown, OutcomeUnknown, ProtocolError
from gateway.protocol.framing import HEARTBEAT
from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

Serve = Callable[..., gateway.Server]
Connect = Callable[..., Any]
Pair = Callable[..., tuple[Any, Any]]

WITHIN_S: Final = 1.2
"""A second, and what this machine may add to it."""


class Bench(gateway.Service):
    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        self.left: list[Any] = []

    def on_disconnect(self, conn: Any) -> None:
        self.left.append(conn)

    def exposed_echo(self, value: Any) -> Any:
        return value

    def exposed_wait(self) -> None:
        self.entered.set()
        self.gate.wait(20)

    def exposed_call(self, function: Callable[[], Any]) -> Any:
        return function()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gate.set()


def took(function: Callable[[], Any]) -> float:
    began = time.monotonic()
    function()
    return time.monotonic() - began


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def waiting_calls(conn: Any, bench: Bench, count: int = 3) -> tuple[list[Exception], list[threading.Thread]]:
    """Threads that wait for `wait()`; the errors they end with."""
    errors: list[Exception] = []
    root = conn.root

    def call() -> None:
        try:
            root.wait()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    # All have sent their requests: one of them reads, the others sleep.
    assert eventually(lambda: conn._reading.taken() and len(conn._reading._followers) == count - 1)
    return errors, threads


# -- once --------------------------------------------------------------------------------------------------------------


def test_closing_again_is_nothing(pair: Pair) -> None:
    bench = Bench()
    conn, remote = pair(bench)
    for _ in range(3):
        conn.close()
        assert conn.closed
    remote.close()
    assert bench.left == [conn]


def test_many_threads_may_close_at_once(serve: Serve, connect: Connect) -> None:
    conn = connect(serve(Bench))
    conn.ping()
    threads = [threading.Thread(target=conn.close) for _ in range(8)]
    assert took(partial(run, threads)) < WITHIN_S
    assert conn.closed


def test_both_sides_may_close_at_once(pair: Pair) -> None:
    here, there = Bench(), Bench()
    conn, remote = pair(here, there)
    threads = [threading.Thread(target=end.close) for end in (conn, remote)]
    assert took(partial(run, threads)) < WITHIN_S
    # A side that was ended by the other one's end of file tells its service in a thread of its own.
    assert eventually(lambda: (here.left, there.left) == ([conn], [remote]))


def test_a_connection_closes_at_once_where_the_peer_answers(serve: Serve, connect: Connect) -> None:
    conn = connect(serve(Bench))
    conn.ping()
    assert took(conn.close) < 0.3


# -- within a second ---------------------------------------------------------------------------------------------------


def fill(conn: Any) -> None:
    """Send until the line takes nothing more, as if the peer had frozen under a load."""
    with socket.socket(fileno=os.dup(conn.fileno())) as line:
        with suppress(BlockingIOError):
            while True:
                line.send(HEARTBEAT, socket.MSG_DONTWAIT)


def test_a_peer_that_does_not_read_does_not_hold_up_the_end(pair: Pair) -> None:
    conn, _ = pair(served=False)
    assert took(conn.close) < WITHIN_S


def test_a_line_that_takes_nothing_more_does_not_hold_up_the_end(pair: Pair) -> None:
    conn, _ = pair(served=False)
    fill(conn)
    assert took(conn.close) < WITHIN_S


def test_a_thread_that_is_stuck_sending_is_freed_by_the_end(pair: Pair) -> None:
    conn, _ = pair(served=False)
    fill(conn)
    errors: list[Exception] = []

    def send() -> None:
        try:
            conn.ping("x" * 100_000, timeout=20)
        except Exception as error:
            errors.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    assert eventually(lambda: conn._outbox._sending.locked())
    assert took(conn.close) < WITHIN_S
    sender.join(5)
    assert len(errors) == 1
    assert isinstance(errors[0], LinkDown)


SERVER: Final = """
import gateway
class Echo(gateway.Service):
    def exposed_echo(self, value): return value
with gateway.Server(Echo, "tcp://127.0.0.1:0") as server:
    print(server.url, flush=True)
    server.serve_forever()
"""


def test_a_stopped_process_does_not_hold_up_the_end_though_the_line_is_full(connect: Connect) -> None:
    child = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        conn = gateway.connect(child.stdout.readline().strip(), config={"sync_request_timeout": 20})
        echo = gateway.async_(conn.root.echo)
        child.send_signal(signal.SIGSTOP)
        fill(conn)
        errors: list[Exception] = []

        def call() -> None:
            try:
                echo("x" * 1_000_000).wait()
            except Exception as error:
                errors.append(error)

        callers = [threading.Thread(target=call, daemon=True) for _ in range(3)]
        for caller in callers:
            caller.start()
        assert eventually(lambda: len(conn._pending) == 3)
        assert took(conn.close) < WITHIN_S
        for caller in callers:
            caller.join(5)
        assert len(errors) == 3
        assert all(isinstance(error, LinkDown) for error in errors)
    finally:
        child.kill()
        child.wait(10)
        assert child.stdout is not None
        child.stdout.close()


class NoEndOfFile(Channel):
    """A channel whose peer is not told by an end of file, as on a serial line."""

    def __init__(self, inner: Channel) -> None:
        self._inner = inner
        self.sent: list[bytes] = []
        self.senders: list[int] = []

    def takes_at_once(self) -> bool:
        return self._inner.takes_at_once()

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.senders.append(threading.get_ident())
        self._inner.send(data)

    def recv(self) -> bytes:
        return self._inner.recv()

    def poll(self, timeout: float | None) -> bool:
        return self._inner.poll(timeout)

    def close(self) -> None:
        self._inner.close()

    @property
    def closed(self) -> bool:
        return self._inner.closed

    def fileno(self) -> int:
        return self._inner.fileno()

    @property
    def ends_with_eof(self) -> bool:
        return False


def test_where_no_end_of_file_comes_none_is_waited_for_and_the_peer_is_told(pair: Pair) -> None:
    near, far = memory_pair()
    channel = NoEndOfFile(near)
    conn = gateway.connect_channel(channel, background=False)
    assert took(conn.close) < 0.3
    assert len(channel.sent) == 1
    assert far.recv() == channel.sent[0], "CLOSE had left before the line was closed"
    far.close()


def test_an_answer_that_is_just_leaving_does_not_take_the_goodbye_with_it(pair: Pair) -> None:
    near, far = memory_pair()
    channel = NoEndOfFile(near)
    conn = gateway.connect_channel(channel, background=False)
    # As if another thread were inside the channel with an answer when the connection is closed.
    assert conn._outbox._sending.acquire(blocking=False)
    closing = threading.Thread(target=conn.close)
    closing.start()
    assert eventually(lambda: conn._outbox._left)
    conn._outbox._sending.release()
    closing.join(5)
    assert len(channel.sent) == 1
    assert far.recv() == channel.sent[0]
    far.close()


def test_a_goodbye_for_which_there_is_room_is_sent_by_the_thread_that_closes() -> None:
    near, far = memory_pair()
    channel = NoEndOfFile(near)
    gateway.connect_channel(channel, background=False).close()
    assert channel.senders == [threading.get_ident()]
    far.close()


def test_a_goodbye_for_which_there_is_no_room_is_left_to_another_thread() -> None:
    near, far = memory_pair()
    channel = NoEndOfFile(near)
    conn = gateway.connect_channel(channel, background=False)
    fill(conn)
    assert took(conn.close) < WITHIN_S
    assert threading.get_ident() not in channel.senders
    far.close()


# -- everybody is told -------------------------------------------------------------------------------------------------


def end_by_close(conn: Any, remote: Any) -> None:
    conn.close()


def end_by_peer(conn: Any, remote: Any) -> None:
    remote.close()


def end_by_cut(conn: Any, remote: Any) -> None:
    cut(remote)


def end_by_nonsense(conn: Any, remote: Any) -> None:
    with socket.socket(fileno=os.dup(remote.fileno())) as line:
        line.sendall(b"\0\0\0\1\x07x\n")


def end_by_bad_message(conn: Any, remote: Any) -> None:
    remote._channel.send(b"\x07not RPyC")


ENDS: Final = [
    (end_by_close, "closed by this side", None),
    (end_by_peer, "the peer closed the connection", None),
    (end_by_cut, "the peer closed the connection", None),
    (end_by_nonsense, "frame flag 7", ProtocolError),
    (end_by_bad_message, "message type 0x07", ProtocolError),
]


@pytest.mark.parametrize(("end", "why", "cause"), ENDS, ids=lambda value: getattr(value, "__name__", ""))
def test_who_waits_is_told_why_and_that_nobody_knows_whether_the_call_ran(
    pair: Pair, bench: Bench, end: Callable[[Any, Any], None], why: str, cause: type[Exception] | None
) -> None:
    conn, remote = pair(there=bench)
    errors, threads = waiting_calls(conn, bench)
    end(conn, remote)
    for thread in threads:
        thread.join(5)
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, OutcomeUnknown)
        assert why in str(error)
        assert not error.retryable
    with pytest.raises(LinkDown, match=why) as later:
        conn.ping()
    assert not isinstance(later.value, OutcomeUnknown), "that call never left"
    assert cause is None or isinstance(conn._lost.__cause__, cause)


def test_pending_results_end_too_and_their_callbacks_run(pair: Pair, bench: Bench) -> None:
    conn, _ = pair(there=bench)
    told = threading.Event()
    result = gateway.async_(conn.root.wait)()
    result.add_callback(lambda result: told.set())
    conn.close()
    assert told.wait(5)
    assert result.ready
    assert result.error
    with pytest.raises(OutcomeUnknown, match="closed by this side"):
        result.value  # noqa: B018


def test_threads_that_serve_end_when_the_connection_does(pair: Pair) -> None:
    conn, _ = pair()
    ended: list[str] = []

    def serve_all() -> None:
        conn.serve_all()
        ended.append("serve_all")

    def serve_once() -> None:
        with suppress(EOFError):
            conn.serve(None)
        ended.append("serve")

    threads = [threading.Thread(target=target, daemon=True) for target in (serve_all, serve_all, serve_once)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: conn._reading.taken())
    conn.close()
    for thread in threads:
        thread.join(5)
    assert sorted(ended) == ["serve", "serve_all", "serve_all"]


USES: Final[dict[str, Callable[[Any], Any]]] = {
    "root": lambda conn: conn.root,
    "ping": lambda conn: conn.ping(),
    "serve": lambda conn: conn.serve(0),
    "poll": lambda conn: conn.poll(0),
    "sync_request": lambda conn: conn.sync_request(1, "x"),
    "async_request": lambda conn: conn.async_request(1, "x").wait(),
    "fileno": lambda conn: conn.fileno(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_of_a_closed_connection_is_an_end_of_file(pair: Pair, use: Callable[[Any], Any]) -> None:
    conn, _ = pair()
    conn.close()
    with pytest.raises(EOFError):
        use(conn)


def test_a_closed_connection_serves_nothing_and_its_proxies_say_so(pair: Pair, bench: Bench) -> None:
    conn, _ = pair(there=bench)
    root = conn.root
    conn.close()
    assert conn.poll_all(0.1) is False
    conn.serve_all()
    assert "proxy of" in repr(root)
    assert "closed by this side" in str(root)
    assert repr(conn).endswith("(closed)>")
    with pytest.raises(LinkDown):
        root.echo(1)


# -- where it may be closed from ---------------------------------------------------------------------------------------


def test_a_callback_may_close_the_connection_it_came_by(pair: Pair, bench: Bench) -> None:
    conn, _ = pair(there=bench)
    root = conn.root
    with pytest.raises(LinkDown):
        root.call(conn.close)
    assert conn.closed


def test_a_method_may_close_the_connection_it_was_called_by(pair: Pair) -> None:
    class Closing(gateway.Service):
        def on_connect(self, conn: Any) -> None:
            self.conn = conn

        def exposed_close(self) -> None:
            self.conn.close()

    conn, remote = pair(there=Closing)
    root = conn.root
    with pytest.raises(LinkDown):
        root.close()
    assert eventually(lambda: remote.closed and conn.closed)


def test_before_closed_still_reaches_the_peer_and_its_errors_come_out_after_the_end(pair: Pair, bench: Bench) -> None:
    said: list[Any] = []

    def goodbye(root: Any) -> None:
        said.append(root.echo("goodbye"))
        raise RuntimeError("not yet")

    conn, _ = pair(there=bench, config={"before_closed": goodbye})
    with pytest.raises(RuntimeError, match="not yet"):
        conn.close()
    assert said == ["goodbye"]
    assert conn.closed
    conn.close()
    quiet, _ = pair(there=bench, config={"before_closed": goodbye, "close_catchall": True})
    quiet.close()
    assert quiet.closed


@pytest.mark.parametrize("error", [EOFError("gone"), TimeoutError("late")], ids=["gone", "late"])
def test_before_closed_may_find_the_peer_gone(pair: Pair, error: Exception) -> None:
    def goodbye(root: Any) -> None:
        raise error

    conn, _ = pair(config={"before_closed": goodbye})
    conn.close()
    assert conn.closed


def test_a_service_that_fails_when_it_is_told_of_the_end_does_not_prevent_it(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(gateway.Service):
        def on_disconnect(self, conn: Any) -> None:
            raise RuntimeError("could not say goodbye")

    told: list[Any] = []
    conn, _ = pair(Failing, config={"logger": logging.getLogger("bench")})
    conn.on_lost.append(told.append)
    conn.close()
    assert conn.closed
    assert told == [conn]
    assert "could not say goodbye" in caplog.text
    silent, _ = pair(Failing)
    silent.close()
    assert silent.closed


def test_a_root_that_is_no_service_is_told_nothing(pair: Pair) -> None:
    near, far = memory_pair()
    conn = gateway.Connection(object(), near)
    conn.close()
    assert conn.closed
    far.close()


def test_nothing_of_a_connection_outlives_it(serve: Serve, bench: Bench) -> None:
    server = serve(bench)
    conn = gateway.connect(server.url)
    conn.root.call(lambda: None)
    kept = weakref.ref(conn)
    (served,) = server._connections
    other = weakref.ref(served)
    del served
    conn.close()
    bench.left.clear()
    del conn

    def gone() -> bool:
        bench.left.clear()
        gc.collect()
        return kept() is None and other() is None

    assert eventually(gone, 10)


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_a_call_that_runs_when_its_client_goes_ends_quietly(
    serve: Serve, connect: Connect, bench: Bench, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(bench)
    conn = connect(server)
    result = gateway.async_(conn.root.wait)()
    assert bench.entered.wait(5)
    if how == "close":
        conn.close()
    else:
        conn.abandon(LinkDown("the test had enough"))
    with pytest.raises(OutcomeUnknown):
        result.wait()
    bench.gate.set()
    assert eventually(lambda: server.connections == 0)
    assert "Traceback" not in caplog.text
