"""A lane runs calls one at a time, in the order in which they came.

Every device has one, shared by all its clients: a device is never entered twice. A connection under the seed profile
has one too: its requests run in the order of the wire.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, Generic, TypeVar

from gateway.errors import Busy

Task = TypeVar("Task")


class Lane(Generic[Task]):
    """The queue before one resource. At most `pending` tasks wait."""

    __slots__ = ("_first", "_lock", "_pending", "_queue", "name", "owner", "reserved", "station")

    def __init__(self, name: str, pending: int) -> None:
        self.name = name
        self.station: Any = None
        """What the gateway knows of the device that the lane leads to, if it is a gateway's."""
        self.owner: Task | None = None
        """The task that is in the lane now."""
        self.reserved: object = None
        """The client (a `Calls`) whose tasks alone get their turn: it is in a transaction."""
        self._pending = pending
        # Lists, for they are short, and an empty deque takes 600 bytes for each idle connection.
        self._queue: list[Task] = []
        self._first: list[Task] = []
        """What the gateway itself does with the device, such as making it safe: before all others."""
        self._lock = Lock()

    def enter(self, task: Task) -> bool:
        """True: the lane is `task`'s now, run it. False: it was queued. Raises Busy where the queue is full."""
        with self._lock:
            if self.owner is None and (self.reserved is None or self._may(task)):
                self.owner = task
                return True
            if len(self._queue) >= self._pending:
                raise Busy(f"{self.name}: {self._pending} calls wait already; nothing was done", waiting=self._pending)
            self._queue.append(task)
            return False

    def enter_first(self, task: Task) -> bool:
        """As `enter`, but in front of all that wait, and there is always room."""
        with self._lock:
            if self.owner is None:
                self.owner = task
                return True
            self._first.append(task)
            return False

    def leave(self, task: Task) -> tuple[bool, Task | None]:
        """`task` is done. Whether it was the owner still, and the task that owns the lane now, for the caller to run.

        A task that was taken out of the lane meanwhile, because it took too long, is not the owner any more.
        """
        with self._lock:
            if self.owner is not task:
                return False, None
            self.owner = following = self._first.pop(0) if self._first else self._next()
            return True, following

    def withdraw(self, task: Task) -> bool:
        """Take a task out that waits behind others; whether it still did."""
        with self._lock:
            try:
                self._queue.remove(task)
            except ValueError:
                return False
            return True

    def reserve(self, client: object) -> bool:
        """Let only this client's tasks through from now on; False where another one has reserved it."""
        with self._lock:
            if self.reserved is not None and self.reserved is not client:
                return False
            self.reserved = client
            return True

    def open_to_all(self, client: object) -> Task | None:
        """End the client's reservation. The task that owns the lane now, if that is a new one: the caller runs it."""
        with self._lock:
            if self.reserved is not client:
                return None
            self.reserved = None
            if self.owner is not None:
                return None
            self.owner = self._next()
            return self.owner

    def _may(self, task: Task) -> bool:
        return self.reserved is None or getattr(task, "calls", None) is self.reserved

    def _next(self) -> Task | None:
        """Take the next of those that wait and may. The lock is held."""
        if self.reserved is None:
            return self._queue.pop(0) if self._queue else None
        found = next((task for task in self._queue if self._may(task)), None)
        if found is not None:
            self._queue.remove(found)
        return found

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._queue)
