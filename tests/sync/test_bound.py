"""bind_threads: requests and replies are tied to threads, on both sides, whoever else serves the connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.errors import BadRequest
from gateway.protocol import brine
from gateway.protocol.messages import RPYC5, RPYC6, THREADS, UNBOUND, MessageDecoder
from tests.behaviour.conditions import eventually

Pair = Callable[..., tuple[Any, Any]]

BOUND = {"bind_threads": True}


class Bench(gateway.Service):
    def exposed_call(self, function: Callable[[], Any]) -> Any:
        return function()

    def exposed_echo(self, value: Any) -> Any:
        return value


@pytest.fixture
def bound(pair: Pair) -> tuple[Any, Any]:
    return pair(there=Bench, config=BOUND, remote_config=BOUND)


def test_a_callback_runs_in_the_thread_whose_call_led_to_it_while_others_serve(bound: tuple[Any, Any]) -> None:
    conn, _ = bound
    root = conn.root
    servers = [threading.Thread(target=conn.serve_all, daemon=True) for _ in range(2)]
    for server in servers:
        server.start()
    ran_in: dict[int, set[int]] = {}

    def caller() -> None:
        ran_in[threading.get_ident()] = {root.call(threading.get_ident) for _ in range(20)}

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(20)
    assert len(ran_in) >= 1
    assert all(threads == {caller} for caller, threads in ran_in.items())


def test_calls_may_nest_into_each_other(bound: tuple[Any, Any]) -> None:
    call = bound[0].root.call
    assert call(lambda: call(lambda: call(threading.get_ident))) == threading.get_ident()


def test_a_side_that_hears_of_threads_binds_its_own(pair: Pair) -> None:
    conn, remote = pair(there=Bench, config=BOUND)
    assert conn.root.echo(5) == 5
    assert remote._bound
    assert conn.root.call(threading.get_ident) == threading.get_ident()


def test_a_result_may_be_waited_for_too(bound: tuple[Any, Any]) -> None:
    conn, _ = bound
    result = gateway.async_(conn.root.echo)(5)
    assert result.value == 5
    conn.ping()


def test_each_answer_is_addressed_to_the_thread_that_asked(pair: Pair) -> None:
    """As stock writes it: the sender's thread and the addressed one stand in front of the message."""
    for heads in (RPYC5, RPYC6):
        conn, remote = pair(there=Bench, served=False)
        me = threading.get_ident()
        for seq, args in enumerate(((1, (1, ("echo",))), (99, (1, ())), (3, (1, ())))):
            message = heads[1] + brine.dump(seq) + brine.dump(args)
            conn._channel.send(THREADS.pack(me, UNBOUND) + message)
            assert remote.serve(5)
            _, answered, _, threads = MessageDecoder(gateway.Limits()).decode(conn._channel.recv())
            assert answered == seq
            assert threads is not None
            assert threads[1] == me


def test_an_error_of_a_bound_call_is_its_callers(bound: tuple[Any, Any]) -> None:
    conn, _ = bound
    with pytest.raises(BadRequest):
        conn.sync_request(99)
    with pytest.raises(ZeroDivisionError):
        conn.root.call(lambda: 1 / 0)
    assert conn.root.echo(5) == 5


def test_closing_a_bound_connection_ends_both_sides(bound: tuple[Any, Any]) -> None:
    conn, remote = bound
    conn.ping()
    conn.close()
    assert eventually(lambda: remote.closed)
