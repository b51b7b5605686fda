"""A lane runs calls one at a time, in the order in which they came.

Every device has one, shared by all its clients: a device is never entered twice. A connection under the seed profile
has one too: its requests run in the order of the wire.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Generic, TypeVar

from gateway.errors import Busy

Task = TypeVar("Task")


class Lane(Generic[Task]):
    """The queue before one resource. At most `pending` tasks wait."""

    __slots__ = ("_lock", "_pending", "_queue", "name", "owner")

    def __init__(self, name: str, pending: int) -> None:
        self.name = name
        self.owner: Task | None = None
        """The task that is in the lane now."""
        self._pending = pending
        self._queue: deque[Task] = deque()
        self._lock = Lock()

    def enter(self, task: Task) -> bool:
        """True: the lane is `task`'s now, run it. False: it was queued. Raises Busy where the queue is full."""
        with self._lock:
            if self.owner is None:
                self.owner = task
                return True
            if len(self._queue) >= self._pending:
                raise Busy(f"{self.name}: {self._pending} calls wait already; nothing was done", waiting=self._pending)
            self._queue.append(task)
            return False

    def leave(self) -> Task | None:
        """The owner is done. The task that now owns the lane, for the caller to run; None if nobody waits."""
        with self._lock:
            self.owner = self._queue.popleft() if self._queue else None
            return self.owner

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._queue)
