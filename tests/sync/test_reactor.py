"""The reactor: watches what nobody reads, and outlives whatever its connections and timers do."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import gateway
from gateway.channels import memory_pair
from gateway.errors import LinkDown
from gateway.sync.reactor import REACTOR, Reactor
from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

Pair = Callable[..., tuple[Any, Any]]


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor("test-reactor")
    yield reactor
    assert eventually(lambda: reactor._thread is None, 15), "it ends when there is nothing left to watch"


def end(conn: Any) -> None:
    with suppress(LinkDown, OSError):  # the reactor may be closing it just now, for the other end is gone
        cut(conn)
    conn.close()


@pytest.fixture
def joined() -> Iterator[Callable[[Any], tuple[Any, Any]]]:
    """`joined(service)` -> two connections that no reactor knows yet."""
    made: list[Any] = []

    def joined(service: Any = gateway.VoidService) -> tuple[Any, Any]:
        ours, theirs = memory_pair()
        conn = gateway.connect_channel(ours, background=False)
        remote = gateway.connect_channel(theirs, service, background=False)
        made.extend((conn, remote))
        return conn, remote

    yield joined
    for conn in made:
        end(conn)


def test_a_watched_connection_is_served_and_its_end_is_noticed(
    reactor: Reactor, joined: Callable[..., tuple[Any, Any]]
) -> None:
    conn, remote = joined()
    reactor.add(remote)
    for _ in range(3):
        conn.ping()
    assert eventually(lambda: remote in reactor._watched)
    cut(conn)
    assert eventually(lambda: remote.closed)
    assert eventually(lambda: remote not in reactor._watched and remote not in reactor._active)


@pytest.mark.parametrize("linger_s", [0.0, 0.02])
@pytest.mark.parametrize("serve_now", [False, True])
def test_a_connection_that_was_lost_before_it_came_is_let_go(
    reactor: Reactor, joined: Callable[..., tuple[Any, Any]], linger_s: float, serve_now: bool
) -> None:
    conn, remote = joined()
    remote.abandon(LinkDown("gone"))
    reactor.add(remote, linger_s, serve_now=serve_now)
    assert eventually(lambda: not reactor._active and not reactor._linger)
    assert conn.closed is False


def test_what_came_before_the_connection_did_is_served_at_once(
    reactor: Reactor, joined: Callable[..., tuple[Any, Any]]
) -> None:
    conn, remote = joined()
    results = [conn.async_request(1, number) for number in range(5)]
    reactor.add(remote, 0.02, serve_now=True)
    assert [result.value for result in results] == list(range(5))


def test_several_messages_in_one_packet_are_all_served(
    reactor: Reactor, joined: Callable[..., tuple[Any, Any]]
) -> None:
    conn, remote = joined()
    reactor.add(remote)
    conn.ping()
    assert eventually(lambda: remote in reactor._watched)
    messages = [conn._peer.request(1, (number,))[1] for number in range(20)]
    conn._channel.send_many(messages)
    assert eventually(lambda: conn.poll_all(0.01) or remote.received >= 21)
    assert eventually(lambda: remote.received == 21)


def test_timers_run_in_their_order_and_a_broken_one_is_survived(
    reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []
    done = threading.Event()

    def broken() -> None:
        raise RuntimeError("the timer's own")

    def second() -> None:
        ran.append("second")
        done.set()

    began = time.monotonic()
    reactor.call_later(0.1, second)
    reactor.call_later(0.02, lambda: ran.append("first"))
    reactor.call_later(0.05, broken)
    assert done.wait(5)
    assert time.monotonic() - began >= 0.1
    assert ran == ["first", "second"]
    assert eventually(lambda: "the timer's own" in caplog.text)


def test_a_listener_is_called_whenever_it_is_readable_until_it_is_removed(reactor: Reactor) -> None:
    ours, theirs = socket.socketpair()
    ready = threading.Event()

    def read() -> None:
        ours.recv(1)
        ready.set()

    reactor.add_listener(ours.fileno(), read)
    for _ in range(2):
        ready.clear()
        theirs.send(b"x")
        assert ready.wait(5)
    reactor.remove_listener(ours.fileno())
    reactor.remove_listener(ours.fileno())
    assert eventually(lambda: not reactor._listeners)
    ready.clear()
    theirs.send(b"x")
    assert not ready.wait(0.1)
    ours.close()
    theirs.close()


def test_a_broken_listener_does_not_end_the_others(
    reactor: Reactor, joined: Callable[..., tuple[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    conn, remote = joined()
    reactor.add(remote)
    ours, theirs = socket.socketpair()

    def broken() -> None:
        ours.recv(1)
        raise RuntimeError("the listener's own")

    reactor.add_listener(ours.fileno(), broken)
    theirs.send(b"x")
    assert eventually(lambda: "the listener's own" in caplog.text)
    conn.ping()
    reactor.remove_listener(ours.fileno())
    assert eventually(lambda: not reactor._listeners)
    ours.close()
    theirs.close()


def test_a_descriptor_number_that_is_given_out_again_is_the_new_connections(
    reactor: Reactor, joined: Callable[..., tuple[Any, Any]]
) -> None:
    numbers: set[int] = set()
    for _ in range(20):
        conn, remote = joined()
        numbers.add(remote.fileno())
        reactor.add(remote)
        conn.ping()
        remote.abandon(LinkDown("gone"))  # the reactor hears of it later than the system gives the number out again
        end(conn)
    assert len(numbers) < 10, "the system gave no number out again: the test tested nothing"


def test_a_frame_that_stands_still_is_ended(reactor: Reactor) -> None:
    from gateway.limits import Limits

    ours, theirs = memory_pair(Limits(progress_s=0.2))
    conn = gateway.connect_channel(theirs, background=False, limits=Limits(progress_s=0.2))
    reactor.add(conn)
    with socket.socket(fileno=os.dup(ours.fileno())) as line:
        line.sendall(b"\0\0\0\x10\0abc")
        assert eventually(lambda: conn.closed, 5)
    assert "no progress for 0.2 s" in str(conn._lost)
    ours.close()


def test_a_connection_whose_callers_read_it_is_left_to_them(pair: Pair) -> None:
    """A client's own threads want the reading for themselves: the reactor doesn't take it between two calls."""
    ours, theirs = memory_pair()
    remote = gateway.connect_channel(theirs)
    conn = gateway.connect_channel(ours)
    for _ in range(200):
        conn.ping()
    assert conn.received == 200
    assert eventually(lambda: conn in REACTOR._watched), "and watches it again when they have gone"
    conn.close()
    remote.close()
