"""Inbox: bytes that a thread brings, for a stream to read; with a descriptor that says when there are any."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import Condition
from time import monotonic
from typing import Final, TypeAlias

from gateway.errors import LinkDown

GiveBack: TypeAlias = Callable[[], None]
MOST_HELD: Final = 2 * 1024 * 1024
"""So many bytes wait to be read at most: then who brings them waits, and the sender after them."""
MOMENT_S: Final = 0.02
"""So long `take_into` waits for as much as there is room for."""


class Inbox:
    """One thread brings with `put` and says with `end` that nothing more comes; any other one takes.

    `fileno` is readable while there is something to take, or the end to be told.
    """

    def __init__(self, on_room: Callable[[], None] = lambda: None) -> None:
        """`on_room` is called when `has_room` has become true again."""
        self._on_room = on_room
        self._chunks: deque[tuple[bytes | memoryview, GiveBack | None]] = deque()
        self._lent: GiveBack | None = None
        self._held = 0
        self._changed = Condition()
        self._error: LinkDown | None = None
        self._told = False
        """The descriptor is readable."""
        self._wanted = 0
        """So many bytes wake a thread that waits to take them; 0 while there is none."""
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.closed = False

    def put(self, chunk: bytes | memoryview, give_back: GiveBack | None = None) -> bool:
        """Bring bytes; waits while too many are there. Whether anybody will take them.

        `give_back` is called when a memoryview is not needed any more: with the next `take` after that of its own.
        """
        with self._changed:
            while self._held >= MOST_HELD and self._error is None:
                self._changed.wait()
            if self._error is not None:
                return False
            self._chunks.append((chunk, give_back))
            self._held += len(chunk)
            if not self._wanted:
                self._tell()
            elif self._held >= self._wanted:
                # A taker will have it. To write to the descriptor is to let another thread run: the taker would run on
                # with what came, and who brings it be late for what comes next.
                self._changed.notify_all()
            return True

    @property
    def has_room(self) -> bool:
        """Whether `put` would not wait."""
        return self._held < MOST_HELD

    def end(self, error: LinkDown) -> None:
        """Nothing more comes: who has taken all that is there gets `error`. Only the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
                self._tell()

    def take(self, timeout: float | None) -> bytes | memoryview | None:
        """All that has come. See `Stream.read`."""
        with self._changed:
            if not self._comes(timeout, 1):
                return None
            if len(self._chunks) == 1:
                chunk, self._lent = self._chunks.popleft()
            else:
                chunk = b"".join([each for each, _ in self._chunks])
                for _, give_back in self._chunks:
                    if give_back is not None:
                        give_back()
                self._chunks.clear()
            was_full = self._took(self._held)
        if was_full:
            self._on_room()
        return chunk

    def take_into(self, room: memoryview, timeout: float | None) -> int | None:
        """Put what has come into `room`, as far as there is any. See `Stream.read_into`."""
        taken = 0
        with self._changed:
            if not self._comes(timeout, min(len(room), MOST_HELD // 2)):
                return None
            while self._chunks and taken < len(room):
                chunk, give_back = self._chunks.popleft()
                own = min(len(chunk), len(room) - taken)
                room[taken : taken + own] = memoryview(chunk)[:own]
                taken += own
                if own < len(chunk):
                    self._chunks.appendleft((memoryview(chunk)[own:], give_back))
                elif give_back is not None:
                    give_back()
            was_full = self._took(taken)
        if was_full:
            self._on_room()
        return taken

    def _comes(self, timeout: float | None, wanted: int) -> bool:
        """Whether something is there to be taken, or comes in time; waits a moment for all that is `wanted`.

        Raises what `end` said. `_changed` is held.
        """
        if self._lent is not None:
            self._lent()
            self._lent = None
        if not self._chunks:
            self._wanted = 1
            try:
                came = self._wait(timeout)
            finally:
                self._wanted = 0
            if not came:
                return False
        if self._held < wanted and timeout != 0.0:
            self._wanted = wanted
            try:
                self._changed.wait_for(lambda: self._held >= wanted or self._error is not None, MOMENT_S)
            finally:
                self._wanted = 0
        if self.closed or not self._chunks:
            self.raise_if_over()
        return True

    def _took(self, size: int) -> bool:
        """Note it; whether there was no room before, and is now. `_changed` is held."""
        was_full = self._held >= MOST_HELD
        self._held -= size
        if self._chunks:
            self._tell()
        elif self._error is None and self._told:
            os.eventfd_read(self._fd)
            self._told = False
        self._changed.notify_all()
        return was_full and self.has_room

    def wait(self, timeout: float | None) -> bool:
        """Wait until `take` would give something or raise. Raises LinkDown once it is closed."""
        with self._changed:
            came = bool(self._chunks) or self._wait(timeout)
            if self.closed:
                self.raise_if_over()
            if came and not self._wanted:
                self._tell()
            return came

    def _wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else monotonic() + timeout
        while not self._chunks and self._error is None:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return False
            self._changed.wait(left)
        return True

    def _tell(self) -> None:
        if not self._told and not self.closed:
            os.eventfd_write(self._fd, 1)
            self._told = True
        self._changed.notify_all()

    def fileno(self) -> int:
        return self._fd

    def close(self, error: LinkDown) -> None:
        """Take no more, and wake whoever waits. Idempotent."""
        self.end(error)
        with self._changed:
            if not self.closed:
                self.closed = True
                self._error = error
                self._chunks.clear()
                self._held = 0
                os.close(self._fd)
                self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self._error is not None

    def raise_if_over(self) -> None:
        """Raises what `end` said."""
        if self._error is not None:
            raise LinkDown(str(self._error), **self._error.facts)
