"""The seed's interface of a connection, sentence by sentence: what serves, how long, and what it tells."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import gateway
from gateway import BgServingThread, PingError
from gateway.channels import memory_pair
from gateway.errors import CallTimeout, LinkDown
from gateway.protocol.constants import Handler
from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

Pair = Callable[..., tuple[Any, Any]]


class Bench(gateway.Service):
    def __init__(self) -> None:
        self.threads: list[int] = []
        self.gate, self.entered = threading.Event(), threading.Event()

    def exposed_note(self) -> int:
        self.threads.append(threading.get_ident())
        return len(self.threads)

    def exposed_wait(self) -> None:
        self.entered.set()
        self.gate.wait(10)

    def exposed_call(self, function: Callable[[], Any]) -> Any:
        return function()

    def exposed_call_often(self, function: Callable[[], Any], times: int) -> None:
        tell = gateway.async_(function)
        for _ in range(times):
            tell()


def asked(conn: Any, count: int = 1) -> list[Any]:
    """Send `count` pings; the connection at the other end is left to find them."""
    return [conn.async_request(Handler.PING, number) for number in range(count)]


def took(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    answer = function()
    return time.monotonic() - began, answer


# -- serve -------------------------------------------------------------------------------------------------------------


def test_serve_handles_a_single_request_and_says_so(pair: Pair) -> None:
    conn, remote = pair(served=False)
    results = asked(conn, 2)
    assert remote.serve(1) is True
    conn.poll_all(0.1)
    assert [result.done for result in results] == [True, False]
    assert remote.serve(1) is True
    assert remote.serve(0) is False


def test_serve_handles_a_single_reply_and_says_so(pair: Pair) -> None:
    conn, remote = pair(served=False)
    (result,) = asked(conn)
    remote.serve(1)
    assert conn.serve(1) is True
    assert result.done


def test_serve_waits_for_the_given_time_and_no_longer(pair: Pair) -> None:
    conn, _ = pair(served=False)
    for timeout in (0, 0.05, 0.2):
        elapsed, served = took(partial(conn.serve, timeout))
        assert served is False
        assert timeout <= elapsed < timeout + 0.5


def test_serve_waits_for_one_second_by_default(pair: Pair) -> None:
    conn, _ = pair(served=False)
    elapsed, served = took(conn.serve)
    assert served is False
    assert 1.0 <= elapsed < 1.5


def test_serve_without_a_limit_waits_until_something_comes(pair: Pair) -> None:
    conn, remote = pair(served=False)
    asking = threading.Timer(0.1, asked, (conn,))
    asking.start()
    assert remote.serve(None) is True
    asking.join()  # the connection may not be closed before


def test_serve_that_may_not_wait_for_the_lock_gives_up_at_once(pair: Pair) -> None:
    conn, remote = pair(served=False)
    serving = threading.Thread(target=remote.serve, args=(5,))
    serving.start()
    assert eventually(lambda: remote._reading.taken())
    elapsed, served = took(lambda: remote.serve(5, wait_for_lock=False))
    assert served is False
    assert elapsed < 0.5
    elapsed, served = took(lambda: remote.serve(0.1, wait_for_lock=True))
    assert served is False
    assert 0.1 <= elapsed < 0.6
    asked(conn)
    serving.join(5)


def test_serve_may_be_entered_again_while_a_request_is_handled(pair: Pair) -> None:
    """The dispatching of a request may trigger nested requests."""

    class Reentering(gateway.Service):
        def on_connect(self, conn: Any) -> None:
            self.conn = conn

        def exposed_serve_another(self) -> bool:
            return bool(self.conn.serve(5))

    conn, remote = pair(there=Reentering, served=False)
    serving = threading.Thread(target=remote.serve_all)
    serving.start()
    result = gateway.async_(conn.root.serve_another)()
    (ping,) = asked(conn)
    assert ping.value == 0
    assert result.value is True
    conn.close()
    serving.join(5)


# -- poll, poll_all, serve_all -----------------------------------------------------------------------------------------


def test_poll_serves_one_transaction_should_one_arrive(pair: Pair) -> None:
    conn, remote = pair(served=False)
    assert took(remote.poll)[1] is False
    assert took(remote.poll)[0] < 0.3
    asked(conn, 2)
    assert remote.poll(1) is True
    assert remote.poll(0) is True
    assert remote.poll(0) is False


def test_poll_all_serves_all_that_arrives_within_the_interval(pair: Pair) -> None:
    conn, remote = pair(served=False)
    assert remote.poll_all() is False
    results = asked(conn, 5)
    threading.Timer(0.1, asked, (conn, 3)).start()
    elapsed, served = took(lambda: remote.poll_all(0.3))
    assert served is True
    assert 0.3 <= elapsed < 0.9
    assert remote.received == 8
    conn.poll_all(0.1)
    assert all(result.done for result in results)


def test_poll_all_of_a_connection_that_ends_says_what_it_served(pair: Pair) -> None:
    conn, remote = pair(served=False)
    asked(conn)
    cut(conn)
    assert remote.poll_all(1) is True
    assert remote.poll_all(1) is False


@pytest.mark.parametrize(
    "end",
    [lambda conn, remote: conn.close(), lambda conn, remote: remote.close(), lambda conn, remote: cut(conn)],
    ids=["by-the-peer", "by-this-side", "by-the-line"],
)
def test_serve_all_serves_for_as_long_as_the_connection_is_alive(pair: Pair, end: Callable[[Any, Any], None]) -> None:
    conn, remote = pair(served=False)
    serving = threading.Thread(target=remote.serve_all)
    serving.start()
    for _ in range(3):
        conn.ping()
    end(conn, remote)
    serving.join(5)
    assert not serving.is_alive()
    assert remote.closed


def test_serve_threaded_handles_requests_side_by_side_in_so_many_threads(pair: Pair) -> None:
    bench = Bench()
    conn, remote = pair(there=bench, served=False)
    serving = threading.Thread(target=remote.serve_threaded, args=(3,))
    serving.start()
    root = conn.root
    waiting = gateway.async_(root.wait)()
    assert bench.entered.wait(5)
    for _ in range(20):
        root.note()
    assert not waiting.done
    bench.gate.set()
    waiting.wait()
    assert 1 <= len(set(bench.threads)) <= 3
    conn.close()
    serving.join(5)
    assert not serving.is_alive()


# -- requests ----------------------------------------------------------------------------------------------------------


def test_sync_request_returns_the_result_and_raises_what_the_request_raises(pair: Pair) -> None:
    conn, _ = pair(there=Bench)
    assert conn.sync_request(Handler.PING, "echo") == "echo"
    root = conn.sync_request(Handler.GETROOT)
    with pytest.raises(AttributeError):
        conn.sync_request(Handler.GETATTR, root, "secret")


def test_sync_request_gives_up_after_the_configured_time_and_says_which_call_it_was(pair: Pair) -> None:
    conn, _ = pair(config={"sync_request_timeout": 0.1}, served=False)
    with pytest.raises(CallTimeout, match=r"no answer to PING hello within 0.1 s \(sync_request_timeout\)"):
        conn.sync_request(Handler.PING, "hello")
    with pytest.raises(CallTimeout, match="no answer to handler 99"):
        conn.sync_request(99)
    assert not conn._pending


def test_an_answer_that_comes_too_late_disturbs_nobody(pair: Pair) -> None:
    conn, remote = pair(config={"sync_request_timeout": 0.1}, served=False)
    with pytest.raises(CallTimeout):
        conn.sync_request(Handler.PING, "late")
    assert remote.serve(1)
    serving = threading.Thread(target=remote.serve_all)
    serving.start()
    assert conn.sync_request(Handler.PING, "in time") == "in time"
    conn.close()
    serving.join(5)


def test_async_request_does_not_wait_and_its_result_holds_the_answer(pair: Pair) -> None:
    conn, remote = pair(served=False)
    result = conn.async_request(Handler.PING, "echo")
    assert not result.ready
    remote.serve(1)
    assert result.value == "echo"


def test_async_request_takes_a_time_limit_and_nothing_else_by_name(pair: Pair) -> None:
    conn, _ = pair(served=False)
    result = conn.async_request(Handler.PING, "echo", timeout=0.05)
    with pytest.raises(CallTimeout):
        result.wait()
    with pytest.raises(TypeError, match=r"\['timeouts'\]; only timeout is known"):
        conn.async_request(Handler.PING, "echo", timeouts=1)


# -- ping, root, fileno ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, "text", b"bytes", 5, (1, 2)], ids=repr)
def test_ping_makes_sure_that_the_data_is_echoed(pair: Pair, data: Any) -> None:
    conn, _ = pair()
    conn.ping(data)


def test_ping_tells_an_echo_that_differs(pair: Pair) -> None:
    conn, remote = pair(served=False)
    answering = threading.Thread(
        target=lambda: remote._channel.send(remote._peer.reply(0, "something else") if remote._channel.recv() else b"")
    )
    answering.start()
    with pytest.raises(PingError):
        conn.ping("this")
    answering.join(5)


def test_ping_waits_three_seconds_unless_told_otherwise(pair: Pair) -> None:
    assert inspect.signature(gateway.Connection.ping).parameters["timeout"].default == 3
    conn, _ = pair(served=False)
    with pytest.raises(CallTimeout, match="PING"):
        conn.ping(timeout=0.1)


def test_the_root_is_fetched_once_and_never_of_a_closed_connection(pair: Pair) -> None:
    conn, _ = pair(there=Bench)
    root = conn.root
    received = conn.received
    assert conn.root is root
    assert conn.received == received
    conn.close()
    with pytest.raises(LinkDown):
        conn.root  # noqa: B018


def test_fileno_is_the_channels_descriptor(pair: Pair) -> None:
    conn, _ = pair()
    assert conn.fileno() == conn._channel.fileno()


def test_a_connection_may_be_made_of_root_channel_and_config_alone() -> None:
    ours, theirs = memory_pair()
    config = {"connid": "bench"}
    conn, remote = gateway.Connection(Bench(), ours, config), gateway.Connection(gateway.VoidService(), theirs)
    assert repr(conn) == "<Connection 'bench' (open)>"
    assert remote.config["connid"].startswith("conn")
    assert config == {"connid": "bench"}
    serving = threading.Thread(target=conn.serve_all)
    serving.start()
    with remote:
        assert remote.root.note() == 1
    serving.join(5)
    assert conn.closed


# -- BgServingThread ---------------------------------------------------------------------------------------------------


def test_a_background_thread_serves_until_it_is_stopped(pair: Pair) -> None:
    conn, _ = pair(there=Bench)
    arrived = threading.Event()
    background = BgServingThread(conn)
    conn.root.call_often(arrived.set, 1)
    assert arrived.wait(5)
    background.stop()
    assert not background._thread.is_alive()
    with pytest.raises(RuntimeError, match="has stopped"):
        background.stop()
    conn.ping()


def test_a_background_thread_whose_connection_ends_calls_back_and_is_over(pair: Pair) -> None:
    conn, remote = pair()
    ended = threading.Event()
    background = BgServingThread(conn, ended.set)
    assert eventually(lambda: conn._reading.taken())
    cut(remote)
    assert ended.wait(5)
    background._thread.join(5)
    with pytest.raises(RuntimeError):
        background.stop()


def test_a_background_thread_without_a_callback_ends_silently(pair: Pair) -> None:
    conn, _ = pair()
    background = BgServingThread(conn, serve_interval=0.05, sleep_interval=0.05)
    conn.close()
    background._thread.join(5)
    assert not background._thread.is_alive()


def test_a_background_thread_that_is_stopped_while_its_connection_ends_does_not_call_back(pair: Pair) -> None:
    conn, _ = pair()
    called: list[bool] = []
    background = BgServingThread(conn, lambda: called.append(True))
    background._active = False
    conn.close()
    background._thread.join(5)
    assert called == []
