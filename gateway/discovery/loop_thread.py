"""One coroutine on an event loop in a thread of its own: mDNS runs there, whatever the caller's thread does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LoopThread(Generic[T]):
    """Runs `main()`; `stop` cancels it once, so that its own clean-up is never cut short."""

    def __init__(self, main: Callable[[], Coroutine[Any, Any, T]], *, name: str) -> None:
        self._main = main
        self._lock = threading.Lock()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._outcome: Future[T] = Future()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Have the loop call `function`; nothing happens before `main` runs and after it has ended."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Cancel `main`, also when it has not begun; any thread, any number of times."""
        with self._lock:
            if not self._stopping and self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._stopping = True

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread to end; whether it has. One that was never started has."""
        if self._thread.ident is None:
            return True
        # An exception in Thread.join itself, such as Ctrl-C, makes Python 3.11 take the thread for ended.
        if not self._ended.wait(timeout_s):
            return False
        self._thread.join()
        return True

    def result(self) -> T:
        """What `main` returned or raised; `concurrent.futures.CancelledError` if it was stopped. Waits for the end."""
        return self._outcome.result()

    def _run(self) -> None:
        try:
            self._outcome.set_result(asyncio.run(self._guarded()))
        except asyncio.CancelledError:
            self._outcome.cancel()
        except BaseException as problem:  # noqa: BLE001 - it is raised again by `result`
            self._outcome.set_exception(problem)
        finally:
            self._ended.set()

    async def _guarded(self) -> T:
        with self._lock:
            if self._stopping:
                raise asyncio.CancelledError
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            return await self._main()
        finally:
            with self._lock:
                self._loop = self._task = None


async def finish(clean_up: Coroutine[Any, Any, None]) -> None:
    """Await `clean_up` to its end even if the task is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(clean_up)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
