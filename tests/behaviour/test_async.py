"""Calls that do not wait: async_, timed and what an AsyncResult says about them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

PING = 1


class Gate:
    """Calls that last until the test opens the gate."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def exposed_wait(self, value: Any = None) -> Any:
        assert self.opened.wait(10), "the test never opened the gate"
        return value

    def exposed_parse(self, text: str, *, base: int = 10) -> int:
        return int(text, base)

    exposed_constant = 5


@pytest.fixture
def gate(as_service: Callable[[type], type]) -> Any:
    return as_service(Gate)()


@pytest.fixture
def conn(connect: Callable[..., Any], gate: Any) -> Any:
    return connect(gate)


def test_an_async_call_returns_before_its_reply(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    result = wait("done")
    assert not result.ready
    assert not result.expired
    assert not result.error
    gate.opened.set()
    result.wait()
    assert result.ready
    assert not result.expired
    assert not result.error
    assert result.value == "done"


def test_a_result_can_be_read_again(rpc: Any, conn: Any, gate: Any) -> None:
    gate.opened.set()
    wait = rpc.async_(conn.root.wait)
    result = wait([1, 2])
    assert result.value is result.value


def test_ready_becomes_true_without_waiting(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    result = wait()
    gate.opened.set()
    assert eventually(lambda: result.ready)


def test_callbacks_are_called_once_each_with_the_result(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    result = wait(7)
    seen: list[tuple[str, Any, bool, bool]] = []
    result.add_callback(lambda done: seen.append(("first", done, done.ready, done.error)))
    result.add_callback(lambda done: seen.append(("second", done, done.ready, done.error)))
    assert seen == []
    gate.opened.set()
    result.wait()
    assert eventually(lambda: len(seen) == 2)
    assert sorted(name for name, *_ in seen) == ["first", "second"]
    assert all(done is result and ready and not error for _, done, ready, error in seen)


def test_a_callback_added_after_the_reply_is_called_at_once(rpc: Any, conn: Any, gate: Any) -> None:
    gate.opened.set()
    wait = rpc.async_(conn.root.wait)
    result = wait(7)
    result.wait()
    seen: list[int] = []
    result.add_callback(lambda done: seen.append(done.value))
    assert seen == [7]


def test_an_exception_is_kept_until_the_value_is_asked_for(rpc: Any, conn: Any) -> None:
    parse = rpc.async_(conn.root.parse)
    result = parse("volts")
    result.wait()
    assert result.ready
    assert result.error
    for _ in range(2):
        with pytest.raises(ValueError, match="volts"):
            result.value  # noqa: B018 - reading the property is the test


def test_async_calls_take_keyword_arguments(rpc: Any, conn: Any) -> None:
    parse = rpc.async_(conn.root.parse)
    assert parse("ff", base=16).value == 255


def test_many_calls_may_be_under_way_at_once(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    results = [wait(number) for number in range(40)]
    assert not any(result.ready for result in results)
    gate.opened.set()
    assert [result.value for result in reversed(results)] == list(reversed(range(40)))


def test_a_result_expires(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    result = wait()
    result.set_expiry(0.05)
    with pytest.raises(rpc.AsyncResultTimeout):
        result.wait()
    assert result.expired
    assert not result.ready
    with pytest.raises(rpc.AsyncResultTimeout):
        result.value  # noqa: B018 - reading the property is the test


def test_a_reply_after_expiry_is_dropped_and_the_connection_goes_on(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    late = wait()
    late.set_expiry(0.05)
    with pytest.raises(rpc.AsyncResultTimeout):
        late.wait()
    gate.opened.set()
    assert conn.root.wait("next") == "next"
    assert late.expired
    assert not late.ready


def test_an_expiry_can_be_lifted(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    result = wait(1)
    result.set_expiry(0.05)
    result.set_expiry(None)
    assert not eventually(lambda: result.expired, within_s=0.1)
    gate.opened.set()
    assert result.value == 1


def test_an_async_timeout_is_a_timeout_error(rpc: Any) -> None:
    assert issubclass(rpc.AsyncResultTimeout, TimeoutError)


def test_timed_gives_the_value_in_time(rpc: Any, conn: Any, gate: Any) -> None:
    gate.opened.set()
    timed = rpc.timed(conn.root.wait, 5)
    assert timed("quick").value == "quick"


def test_timed_raises_when_the_time_is_over(rpc: Any, conn: Any) -> None:
    timed = rpc.timed(conn.root.wait, 0.05)
    result = timed()
    with pytest.raises(rpc.AsyncResultTimeout):
        result.value  # noqa: B018 - reading the property is the test


def test_wrapping_a_wrapper_gives_the_wrapper(rpc: Any, conn: Any) -> None:
    method = conn.root.wait
    wait = rpc.async_(method)
    assert rpc.async_(wait) is wait
    assert rpc.async_(method) is wait


@pytest.mark.parametrize("not_remote", [len, 5, "text", object()], ids=["builtin", "int", "str", "object"])
def test_async_refuses_what_is_not_remote(rpc: Any, not_remote: Any) -> None:
    with pytest.raises(TypeError):
        rpc.async_(not_remote)


def test_async_refuses_what_cannot_be_called(rpc: Any, conn: Any) -> None:
    with pytest.raises(TypeError):
        rpc.async_(conn.root)


def test_a_result_tells_its_state(rpc: Any, conn: Any, gate: Any) -> None:
    wait = rpc.async_(conn.root.wait)
    result = wait()
    assert "pending" in repr(result)
    result.set_expiry(0)
    assert "expired" in repr(result)
    gate.opened.set()
    done = wait()
    done.wait()
    assert "ready" in repr(done)


def test_async_request_takes_a_timeout_and_nothing_else(rpc: Any, conn: Any) -> None:
    assert conn.async_request(PING, "data", timeout=5).value == "data"
    with pytest.raises(TypeError):
        conn.async_request(PING, "data", deadline=5)


def test_a_pending_result_ends_with_eof_when_the_peer_goes(
    rpc: Any, connect_both: Callable[..., Any], gate: Any
) -> None:
    conn, remote = connect_both(gate)
    wait = rpc.async_(conn.root.wait)
    result = wait()
    cut(remote)
    gate.opened.set()
    with pytest.raises(EOFError):
        result.wait()
