"""FairLane: a lane in which the clients take turns.

In a lane that is one queue, a client that sends its next sixty calls ahead makes everybody else wait for all of them,
or be refused. Behind a slow line that is seconds. Here each client has a queue of its own, and the queues take turns: a
client waits for one call of each other client at most, and only its own calls can be too many.
"""

from __future__ import annotations

from collections import deque

from gateway.errors import Busy
from gateway.sync.calls import Calls, Task
from gateway.sync.lane import Lane


class FairLane(Lane[Task]):
    """A lane of which each client's queue holds at most `pending` tasks."""

    __slots__ = ("_queues",)

    def __init__(self, name: str, pending: int) -> None:
        super().__init__(name, pending)
        self._queues: dict[Calls, deque[Task]] = {}
        """The client whose turn is next comes first."""

    def enter(self, task: Task) -> bool:
        with self._lock:
            if self.owner is None and (self.reserved is None or self._may(task)):
                self.owner = task
                return True
            queue = self._queues.setdefault(task.calls, deque())
            if len(queue) >= self._pending:
                raise Busy(
                    f"{self.name}: {self._pending} calls of yours wait already; nothing was done", waiting=self._pending
                )
            queue.append(task)
            return False

    def withdraw(self, task: Task) -> bool:
        with self._lock:
            queue = self._queues.get(task.calls)
            if queue is None or task not in queue:
                return False
            queue.remove(task)
            if not queue:
                del self._queues[task.calls]
            return True

    def _next(self) -> Task | None:
        for client, queue in self._queues.items():
            if self.reserved is not None and client is not self.reserved:
                continue
            task = queue.popleft()
            del self._queues[client]
            if queue:
                self._queues[client] = queue
            return task
        return None

    @property
    def waiting(self) -> int:
        with self._lock:
            return sum(len(queue) for queue in self._queues.values())
