"""What a request becomes: a slot that its reply fills, and AsyncResult, the slot that users see."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Any

from gateway.errors import CallTimeout, LinkDown

AsyncResultTimeout = CallTimeout
"""RPyC's name for it."""


class Slot:
    """Where the answer to one request arrives. One thread waits, another may fill it."""

    # Class attributes instead of an __init__: a slot is made for every call and most stay as they are here.
    done = False
    answer: Any = None
    failure: Exception | None = None
    new: Sequence[Any] = ()
    """Proxies in the answer whose class must be asked for before it is handed out."""
    wakes: list[Lock] | None = None
    """Held by the waiting threads while they sleep; released to wake them. Only an AsyncResult has several."""
    led = False
    """Its waiting thread has read the channel, and so also given the reading back."""
    called = False
    """The peer has called while its thread was reading."""
    resting = False
    """Another thread reads in its place, see `Reading`."""
    inbox: deque[Any] | None = None
    """Calls of the peer that only the waiting thread may run."""

    def fill(self, answer: Any, failure: Exception | None, new: Sequence[Any]) -> Callable[[], None] | None:
        """Called once, by whoever received the answer. What it returns is to be run once nothing is held."""
        self.answer = answer
        self.failure = failure
        self.new = new
        self.done = True
        self.rouse()
        return None

    def rouse(self) -> None:
        """Wake the waiting threads, if they sleep."""
        if self.wakes is not None:
            for wake in tuple(self.wakes):
                with suppress(RuntimeError):  # it was woken already and hasn't looked yet
                    wake.release()


class AsyncResult(Slot):
    """The result of an asynchronous request: `value` waits for it, `ready` asks, `add_callback` is told."""

    def __init__(self, conn: Any, what: str = "the request") -> None:
        self._conn = conn
        self._what = what
        self._callbacks: list[Callable[[AsyncResult], Any]] = []
        self._expires_at: float | None = None
        self._waiters = 0
        self._lock = Lock()
        self.wakes = []

    def __repr__(self) -> str:
        if self.done:
            state = "error" if self.failure is not None else "ready"
        else:
            state = "expired" if self.expired else "pending"
        return f"<AsyncResult of {self._what} ({state})>"

    def fill(self, answer: Any, failure: Exception | None, new: Sequence[Any]) -> Callable[[], None] | None:
        with self._lock:
            if not self.expired:
                super().fill(answer, failure, new)
            # A thread that waits for this result runs the callbacks itself, before it goes on.
            return self._run_callbacks if self._callbacks and not self._waiters else None

    def _run_callbacks(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        if self.done:
            for callback in callbacks:
                callback(self)

    def wait(self) -> None:
        """Wait until the result is here.

        Raises CallTimeout (AsyncResultTimeout) when its expiry passes first, LinkDown if the connection ended instead.
        """
        if not self.done:
            with self._lock:
                self._waiters += 1
            try:
                remaining = None if self._expires_at is None else max(0.0, self._expires_at - monotonic())
                if not self._conn.wait_for(self, remaining):
                    raise CallTimeout(f"result expired: no answer to {self._what} in time")
            finally:
                with self._lock:
                    self._waiters -= 1
        if self.new:
            self._conn.learn(self.new)
            self.new = ()
        if self._callbacks:
            self._run_callbacks()
        if isinstance(self.failure, LinkDown) and self._conn.closed:
            raise self.failure

    def add_callback(self, callback: Callable[[AsyncResult], Any]) -> None:
        """Call `callback(self)` when the result arrives; at once if it has."""
        with self._lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback(self)

    def set_expiry(self, timeout: float | None) -> None:
        """From now on the result must arrive within `timeout` seconds; None lifts the limit."""
        self._expires_at = None if timeout is None else monotonic() + timeout

    @property
    def ready(self) -> bool:
        """Whether the result has arrived; looks at what has come in meanwhile."""
        if not self.done and not self.expired:
            self._conn.poll_all()
        return self.done

    @property
    def error(self) -> bool:
        """Whether the result is here and is an exception."""
        return self.ready and self.failure is not None

    @property
    def expired(self) -> bool:
        """Whether its time has passed without a result."""
        return not self.done and self._expires_at is not None and monotonic() >= self._expires_at

    @property
    def value(self) -> Any:
        """The result; waits for it, raises what the call raised."""
        self.wait()
        if self.failure is not None:
            raise self.failure
        return self.answer
