"""AsyncResult: what it tells while it waits, when it is here, when it is too late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import gateway
from gateway.errors import CallTimeout, LinkDown, OutcomeUnknown
from gateway.protocol.constants import Handler
from gateway.sync.result import AsyncResult, AsyncResultTimeout, Slot

Pair = Callable[..., tuple[Any, Any]]


class Meter:
    def exposed_read(self) -> float:
        return 3.3


class Bench(gateway.Service):
    def exposed_fail(self) -> None:
        raise ValueError("over")

    def exposed_make(self) -> list[int]:
        return [1, 2]

    def exposed_meter(self) -> Meter:
        return Meter()


@pytest.fixture
def unserved(pair: Pair) -> tuple[Any, Any]:
    """A client whose peer answers only when the test serves it."""
    return pair(there=Bench, served=False)


def ask(conn: Any) -> AsyncResult:
    return conn.async_request(Handler.PING, "echo")  # type: ignore[no-any-return]


def test_the_timeout_error_of_rpyc_is_the_call_timeout() -> None:
    assert AsyncResultTimeout is CallTimeout
    assert issubclass(AsyncResultTimeout, TimeoutError)


def test_a_result_goes_from_pending_to_ready(unserved: tuple[Any, Any]) -> None:
    conn, remote = unserved
    result = ask(conn)
    assert (result.ready, result.error, result.expired) == (False, False, False)
    assert repr(result) == "<AsyncResult of PING echo (pending)>"
    remote.serve(1)
    assert result.ready, "it looks at what has come in meanwhile"
    assert (result.error, result.expired, result.value) == (False, False, "echo")
    assert repr(result) == "<AsyncResult of PING echo (ready)>"
    result.wait()
    assert result.value == "echo"


def test_an_error_is_kept_and_raised_each_time_the_value_is_asked_for(pair: Pair) -> None:
    conn, _ = pair(there=Bench)
    result = gateway.async_(conn.root.fail)()
    result.wait()
    assert (result.ready, result.error) == (True, True)
    assert repr(result) == "<AsyncResult of fail() (error)>"
    for _ in range(2):
        with pytest.raises(ValueError, match="over"):
            result.value  # noqa: B018


def test_a_result_that_is_too_late_has_expired_and_never_becomes_ready(unserved: tuple[Any, Any]) -> None:
    conn, remote = unserved
    result = ask(conn)
    called: list[Any] = []
    result.add_callback(called.append)
    result.set_expiry(0.05)
    began = time.monotonic()
    with pytest.raises(CallTimeout, match="no answer to PING echo in time"):
        result.wait()
    assert 0.05 <= time.monotonic() - began < 0.6
    assert result.expired
    assert repr(result) == "<AsyncResult of PING echo (expired)>"
    remote.serve(1)
    conn.serve(1)
    assert (result.ready, result.expired, called) == (False, True, [])
    with pytest.raises(CallTimeout):
        result.value  # noqa: B018


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_expiry_that_has_passed_already_is_an_expiry(unserved: tuple[Any, Any], seconds: float) -> None:
    result = ask(unserved[0])
    result.set_expiry(seconds)
    assert result.expired
    with pytest.raises(CallTimeout):
        result.wait()


def test_an_expiry_can_be_moved_and_lifted(unserved: tuple[Any, Any]) -> None:
    conn, remote = unserved
    result = ask(conn)
    result.set_expiry(0)
    assert result.expired
    result.set_expiry(None)
    assert not result.expired
    remote.serve(1)
    assert result.value == "echo"
    result.set_expiry(0)
    assert not result.expired, "what is here can't come too late"


def test_callbacks_run_once_each_in_order_with_the_result(unserved: tuple[Any, Any]) -> None:
    conn, remote = unserved
    result, called = ask(conn), list[Any]()
    for number in range(3):
        result.add_callback(partial(lambda number, given: called.append((number, given)), number))
    remote.serve(1)
    conn.serve(1)
    assert called == [(0, result), (1, result), (2, result)]
    result.wait()
    result.add_callback(lambda given: called.append("late"))
    assert called[3:] == ["late"], "at once, in this thread"


def test_a_waiting_thread_runs_the_callbacks_before_it_goes_on(pair: Pair) -> None:
    conn, _ = pair()
    result, threads = ask(conn), list[int]()
    result.add_callback(lambda result: threads.append(threading.get_ident()))
    assert result.value == "echo"
    assert threads == [threading.get_ident()]


def test_an_error_in_a_callback_is_its_callers(pair: Pair) -> None:
    conn, _ = pair()
    result = ask(conn)

    def broken(result: Any) -> None:
        raise RuntimeError("the callback's own")

    result.add_callback(broken)
    with pytest.raises(RuntimeError, match="own"):
        result.wait()
    assert result.value == "echo"
    conn.ping()


def test_a_result_that_is_an_object_can_be_used_at_once(pair: Pair) -> None:
    conn, _ = pair(there=Bench)
    result = gateway.async_(conn.root.make)()
    assert len(result.value) == 2
    assert result.value is result.value
    meter = gateway.async_(conn.root.meter)().value
    assert meter.read() == 3.3
    assert "read" in vars(type(meter)), "its class was asked for before it was handed out"


def test_the_end_of_the_connection_is_the_result(unserved: tuple[Any, Any]) -> None:
    conn, _ = unserved
    result = ask(conn)
    conn.close()
    assert result.ready
    with pytest.raises(OutcomeUnknown):
        result.wait()
    with pytest.raises(LinkDown):
        result.value  # noqa: B018


def test_a_slot_that_nobody_waits_for_is_filled_all_the_same() -> None:
    slot = Slot()
    assert slot.fill(5, None, ()) is None
    assert (slot.done, slot.answer) == (True, 5)
    slot.rouse()


def test_a_thread_that_is_woken_twice_is_woken() -> None:
    slot, wake = Slot(), threading.Lock()
    wake.acquire()
    slot.wakes = [wake]
    slot.rouse()
    slot.rouse()
    assert wake.acquire(timeout=0)
