"""Worker threads: started when work comes and all others are busy, gone after a while without any."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any, Final

_log = logging.getLogger(__name__)

IDLE_S: Final = 5.0


class Workers:
    """Runs functions in daemon threads. What bounds their number is what is submitted: see Limits.

    `concurrent.futures` keeps its threads for ever, hands out futures nobody asks for, and waits for all of them when
    the interpreter ends: a hung driver call would hang the exit.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._changed = Condition()
        self._idle = 0
        self._started = 0

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function(*args)` soon. Its exceptions are logged."""
        with self._changed:
            self._work.append((function, args))
            if self._idle >= len(self._work):
                self._changed.notify()
                return
            self._started += 1
            number = self._started
        Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._work:
                    self._idle += 1
                    self._changed.wait(IDLE_S)
                    self._idle -= 1
                    if not self._work:
                        return
                function, args = self._work.popleft()
            try:
                function(*args)
            except Exception:
                _log.exception("a worker's task failed: %r", function)
            except BaseException:
                return  # a SystemExit or KeyboardInterrupt that its connection has dealt with
            del function, args


WORKERS: Final = Workers("gateway-worker")
"""Shared by all connections of the process."""
