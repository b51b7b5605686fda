"""The reading: which of the threads that share a connection reads its channel, and how the others get their answers.

One thread at a time has the reading. Who waits for an answer takes it if it is free and *leads*: it reads, and fills
the slots of all whose answers come in, until its own is there. Who finds it taken *follows*: it sleeps until its slot
is filled or its turn to lead has come. Nobody stops waiting without waking a follower, if there is one and nobody
reads.

What the peer calls meanwhile is run by a worker. From the second call within one wait on, that worker reads on in the
leader's place, and the leader *rests*: so a peer that calls back often costs one hand-over between threads and not two
for each call. A leader that rests looks every `REST_S` whether the worker is held up by a call, and reads again if so.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock, get_native_id
from time import monotonic
from typing import Final

from gateway.protocol.framing import Message
from gateway.protocol.messages import UNBOUND
from gateway.sync.calls import Task
from gateway.sync.result import Slot
from gateway.sync.workers import WORKERS

REST_S: Final = 0.02
"""How long a leader rests at least; an answer that comes during a long call of the peer may be late by as much."""


class Reading:
    """The right to read one connection.

    `receive(timeout)` gives the next message or None, `accept(message)` acts on it and gives what is to be run once
    nothing is held. Both are called by the thread that has the reading only.
    """

    def __init__(
        self, receive: Callable[[float | None], Message | None], accept: Callable[[Message], Callable[[], None] | None]
    ) -> None:
        self._receive = receive
        self._accept = accept
        self._lock = Lock()
        self._followers: list[Slot] = []
        self._expecting: dict[int, Slot] = {}
        self.taken = self._lock.locked
        """Whether some thread has the reading."""
        self.take: Callable[[], bool] = partial(self._lock.acquire, False)
        """Take the reading if it is free."""

    def await_turn(self, timeout: float | None) -> bool:
        """Take the reading as soon as it is free; False if that took longer than `timeout` seconds."""
        return self._lock.acquire(timeout=-1 if timeout is None else timeout)

    def give_back(self) -> None:
        """End this thread's reading and wake a follower to go on with it."""
        self._lock.release()
        if self._followers:
            self._pass_on()

    def serve_one(self, timeout: float | None) -> tuple[bool, Callable[[], None] | None]:
        """Read one message, with the reading taken before; it is given back. `(one came, what is to be run)`."""
        task = None
        try:
            message = self._receive(timeout)
            if message is not None:
                task = self._accept(message)
        finally:
            self.give_back()
        return message is not None, task

    # -- waiting for an answer --------------------------------------------------------------------------------------

    def wait(self, slot: Slot, deadline: float | None, *, taken: bool = False, message: Message | None = None) -> bool:
        """Lead or follow until `slot` is filled or the deadline has passed; whether it was filled.

        `taken`: this thread has the reading already, and perhaps a `message` that is still to be acted on.
        """
        try:
            while taken or not slot.done:
                if taken or (not slot.resting and self._lock.acquire(blocking=False)):
                    taken = False
                    self._lead(slot, deadline, message)
                    message = None
                else:
                    self._follow(slot, deadline)
                if slot.inbox:
                    slot.inbox.popleft()()
                elif not slot.done and deadline is not None and monotonic() >= deadline:
                    break
        finally:
            slot.resting = False
            if self._followers:
                self._pass_on()
        return slot.done

    def _lead(self, slot: Slot, deadline: float | None, message: Message | None) -> None:
        slot.led = True
        try:
            while not slot.done and not slot.inbox:
                if message is None:
                    message = self._receive(None if deadline is None else max(0.0, deadline - monotonic()))
                if message is None:
                    return
                task = self._accept(message)
                message = None
                if task is not None:
                    self._place(task, slot)
                if slot.resting:
                    return
        finally:
            self._lock.release()

    def _follow(self, slot: Slot, deadline: float | None) -> None:
        if slot.wakes is None:
            slot.wakes = []
        wake = Lock()
        wake.acquire()
        slot.wakes.append(wake)
        self._followers.append(slot)
        try:
            # Both may have happened before this slot was in the list: look once more, then sleep.
            if not slot.done and not slot.inbox and (slot.resting or self._lock.locked()):
                patience = -1.0 if deadline is None else max(0.0, deadline - monotonic())
                if slot.resting:
                    self._rest(slot, wake, patience)
                else:
                    wake.acquire(timeout=patience)
        finally:
            self._followers.remove(slot)
            slot.wakes.remove(wake)

    def _rest(self, slot: Slot, wake: Lock, patience: float) -> None:
        until = REST_S if patience < 0 else min(REST_S, patience)
        if not wake.acquire(timeout=until) and not self._lock.locked():
            slot.resting = False

    def _read_for(self, slot: Slot, task: Task) -> None:
        """Run a call of the peer, and read on in the place of the thread that waits for `slot`."""
        try:
            task()
            while slot.resting and not slot.done and self.take():
                received, following = self.serve_one(REST_S)
                if not received:
                    break
                if following is not None:
                    following()
        finally:
            slot.resting = False
            if self._followers:
                self._pass_on()

    def _pass_on(self) -> None:
        if not self._lock.locked():
            for slot in list(self._followers):
                if not slot.done and not slot.resting:
                    slot.rouse()
                    return

    def rouse_all(self) -> None:
        """Wake every follower: the connection is gone."""
        for slot in list(self._followers):
            slot.rouse()

    # -- calls of the peer inside a wait ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def expecting_calls(self, slot: Slot) -> Iterator[None]:
        """While this thread waits for `slot`, calls of the peer may be run by it (nested_callbacks, bind_threads)."""
        thread = get_native_id()
        outer = self._expecting.get(thread)
        if slot.inbox is None:
            slot.inbox = deque()
        self._expecting[thread] = slot
        try:
            yield
        finally:
            if outer is None:
                del self._expecting[thread]
            else:
                self._expecting[thread] = outer
            while slot.inbox:
                WORKERS.submit(slot.inbox.popleft())

    def hand_over(self, task: Task) -> bool:
        """Give a call that is addressed to one of the waiting threads (bind_threads) to that thread."""
        threads = task.request.threads
        waiting = self._expecting.get(threads[1]) if threads is not None and threads[1] != UNBOUND else None
        if waiting is None or waiting.inbox is None:
            return False
        waiting.inbox.append(task)
        waiting.rouse()
        return True

    def _place(self, task: Callable[[], None], slot: Slot) -> None:
        """Find a thread for what came in while `slot` was waited for."""
        if not isinstance(task, Task):
            WORKERS.submit(task)
        elif slot.inbox is not None:
            slot.inbox.append(task)
        elif slot.called:
            slot.resting = True
            WORKERS.submit(self._read_for, slot, task)
        else:
            slot.called = True
            WORKERS.submit(task)
