"""What the conformance suites say when something does not conform."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any


class NotConformant(AssertionError):
    """The message says what was done, what came of it, and what should have."""


def require(holds: object, message: str) -> None:
    """Raises NotConformant with `message` unless it holds."""
    if not holds:
        raise NotConformant(message)


def outcome(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What the call returned, and what it raised."""
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001 - it is what is judged
        return None, error


def shown(error: Exception | None) -> str:
    return "nothing was raised" if error is None else f"{type(error).__name__}: {error}"


class Job:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: tuple[Any, Exception | None] | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        self._outcome = outcome(call)

    def wait(self, timeout_s: float, what: str) -> tuple[Any, Exception | None]:
        """What came of it. Raises NotConformant, naming `what`, when it is not back within the time."""
        begin = monotonic()
        self._thread.join(timeout_s)
        require(self._outcome is not None, f"{what} was not back after {monotonic() - begin:.1f} s")
        assert self._outcome is not None
        return self._outcome
