"""The Connection's own methods: ping, serve and its kin, requests by number, closing."""

from __future__ import annotations

import math
import select
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

Connect = Callable[..., Any]

PING, GETROOT, CALLATTR = 1, 3, 8


class Adder:
    """Something to call."""

    exposed_base = 10

    def exposed_add(self, left: int, right: int) -> int:
        return left + right

    def exposed_call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


def test_ping_comes_back(connect: Connect) -> None:
    conn = connect()
    assert conn.ping() is None
    assert conn.ping("some data", timeout=5) is None
    assert conn.ping(("a", 1, b"\x00")) is None


def test_ping_fails_when_the_echo_differs(rpc: Any, connect: Connect) -> None:
    # The echo of a NaN compares unequal to what was sent: the one wrong echo that an honest peer gives.
    conn = connect()
    with pytest.raises(rpc.PingError):
        conn.ping(math.nan)


def test_ping_times_out_when_nobody_answers(rpc: Any, connect: Connect) -> None:
    conn = connect(served=False)
    with pytest.raises(rpc.AsyncResultTimeout):
        conn.ping(timeout=0.05)


def test_ping_ends_with_eof_when_the_peer_is_gone(rpc: Any, connect_both: Connect) -> None:
    conn, remote = connect_both()
    cut(remote)
    with pytest.raises(EOFError):
        conn.ping()


def test_serve_handles_one_message_and_says_whether_one_came(connect_both: Connect) -> None:
    conn, remote = connect_both(served=False)
    assert not remote.serve(0.01)
    first, second = conn.async_request(PING, "1"), conn.async_request(PING, "2")
    assert remote.serve(1)
    assert conn.serve(1)
    assert first.ready
    assert not second.ready
    assert remote.serve(1)
    assert second.value == "2"


def test_poll_does_not_wait(connect_both: Connect) -> None:
    conn, remote = connect_both(served=False)
    assert not remote.poll()
    result = conn.async_request(PING, "1")
    assert eventually(remote.poll)
    assert result.value == "1"


def test_poll_all_handles_what_has_come(connect_both: Connect) -> None:
    conn, remote = connect_both(served=False)
    assert not remote.poll_all(0.01)
    results = [conn.async_request(PING, str(number)) for number in range(5)]
    assert remote.poll_all(0.2)
    assert [result.value for result in results] == ["0", "1", "2", "3", "4"]


def test_serve_all_returns_and_closes_when_the_peer_closes(rpc: Any, connect_both: Connect) -> None:
    conn, remote = connect_both(served=False)
    server = threading.Thread(target=remote.serve_all, daemon=True)
    server.start()
    conn.ping()
    cut(conn)
    server.join(5)
    assert not server.is_alive()
    assert remote.closed


def test_serve_threaded_answers_until_the_peer_closes(rpc: Any, connect_both: Connect) -> None:
    conn, remote = connect_both(Adder, served=False)
    server = threading.Thread(target=remote.serve_threaded, kwargs={"thread_count": 4}, daemon=True)
    server.start()
    add = rpc.async_(conn.root.add)
    results = [add(number, 1) for number in range(20)]
    assert [result.value for result in results] == list(range(1, 21))
    conn.close()
    server.join(5)
    assert not server.is_alive()
    assert remote.closed


def test_fileno_can_be_selected_on(connect_both: Connect) -> None:
    conn, remote = connect_both(served=False)
    assert select.select([remote.fileno()], [], [], 0)[0] == []
    conn.async_request(PING, "x")
    assert select.select([remote.fileno()], [], [], 5)[0] == [remote.fileno()]


def test_the_root_is_fetched_once(connect: Connect) -> None:
    conn = connect(Adder)
    assert conn.root is conn.root
    assert conn.root.add(2, 3) == 5


def test_sync_request_sends_a_handler_number(connect: Connect) -> None:
    conn = connect(Adder)
    assert conn.sync_request(PING, "data") == "data"
    root = conn.sync_request(GETROOT)
    assert conn.sync_request(CALLATTR, root, "add", (2, 3), ()) == 5
    assert conn.sync_request(CALLATTR, root, "add", (2,), (("right", 7),)) == 9


def test_an_unknown_handler_is_an_error_of_that_request_only(connect: Connect) -> None:
    conn = connect(Adder)
    with pytest.raises(Exception, match=r".*") as info:
        conn.sync_request(250)
    assert not isinstance(info.value, EOFError)
    assert conn.root.add(2, 3) == 5


def test_wrong_arguments_are_an_error_of_that_call_only(connect: Connect) -> None:
    conn = connect(Adder)
    with pytest.raises(TypeError):
        conn.root.add(1)
    with pytest.raises(TypeError):
        conn.root.add(1, 2, wrong=3)
    assert conn.root.add(2, 3) == 5


def test_callbacks_nest_into_each_other(connect: Connect) -> None:
    conn = connect(Adder)

    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + int(conn.root.call(down, depth - 1))

    assert conn.root.call(down, 8) == 8


def test_a_callback_takes_and_returns_any_object(connect: Connect) -> None:
    conn = connect(Adder)
    basket = [1]

    def grow(items: Any, by: int) -> Any:
        items.append(by)
        return items

    assert conn.root.call(grow, basket, 2) is basket
    assert basket == [1, 2]


def test_close_ends_both_sides(connect_both: Connect) -> None:
    conn, remote = connect_both(Adder)
    assert conn.root.add(1, 1) == 2
    assert not conn.closed
    conn.close()
    assert conn.closed
    assert eventually(lambda: remote.closed)


def test_close_may_be_called_again(connect: Connect) -> None:
    conn = connect()
    for _ in range(3):
        conn.close()
    assert conn.closed


def test_the_peer_may_close(connect_both: Connect) -> None:
    conn, remote = connect_both(Adder)
    assert conn.root.add(1, 1) == 2
    serving = threading.Thread(target=conn.serve_all, daemon=True)
    serving.start()
    remote.close()
    serving.join(5)
    assert not serving.is_alive()
    assert conn.closed
    with pytest.raises(EOFError):
        conn.ping()


def test_after_close_every_use_ends_with_eof(connect: Connect) -> None:
    conn = connect(Adder)
    root = conn.root
    conn.close()
    with pytest.raises(EOFError):
        conn.ping()
    with pytest.raises(EOFError):
        root.add(1, 2)
    with pytest.raises(EOFError):
        conn.root  # noqa: B018 - reading the property is the test


def test_a_connection_is_a_context_manager(connect: Connect) -> None:
    with connect(Adder) as conn:
        assert conn.root.add(1, 2) == 3
    assert conn.closed


def test_a_waiting_call_ends_with_eof_when_the_line_breaks(rpc: Any, connect_both: Connect) -> None:
    conn, remote = connect_both(Adder)
    with pytest.raises(EOFError):
        conn.root.call(lambda: cut(conn))
    assert eventually(lambda: remote.closed)
