"""Turns: connections that never stop asking share the interpreter with each other, and leave it to all others.

A thread that works without ever waiting gives the interpreter up every few milliseconds at most, and sixteen of them
make everybody else wait sixteen times that long. So a connection that has used up its turn, and has more to ask
already, pauses for as long as the others that are like it need for theirs. One alone never pauses, and one that waits
for answers before it asks again, as a client does, is never among them.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Final

TURN_S: Final = 0.002
"""Time of a processor that a connection may use before it has to look whether others want it too."""
LOOK_EVERY: Final = 16
"""Messages between two looks at the clock."""
LARGE: Final = 64 * 1024
"""A message above this size is decoded while no other such message is, and the clock is looked at after it."""
LONGEST_S: Final = 0.5
_REMEMBERED_S: Final = 0.05

ONE_LARGE: Final = Lock()
"""Held while a large message is decoded: of what that takes for the moment, there is one at a time."""


class Turns:
    """Who used up a turn lately, by a number of its own."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._lock = Lock()

    def pause_s(self, who: int, used_s: float, now: float) -> float:
        """How long `who`, which used the processor for `used_s` and goes on, must leave it to the others."""
        with self._lock:
            self._until = {other: until for other, until in self._until.items() if until > now and other != who}
            pause_s = min(used_s * len(self._until), LONGEST_S)
            self._until[who] = now + pause_s + _REMEMBERED_S
        return pause_s


TURNS: Final = Turns()
"""Of the process."""


class Turn:
    """One thread's work for one connection; `who` distinguishes the connections of the process."""

    __slots__ = ("_began", "_messages", "_who")

    def __init__(self, who: int) -> None:
        self._who = who
        self._messages = 0
        self.begin()

    def begin(self) -> None:
        """From now on it counts."""
        self._began = time.thread_time()

    def is_over(self, size: int) -> bool:
        """To be asked after each message: whether its `size` or the number of messages makes it time for `pause`."""
        self._messages += 1
        return self._messages % LOOK_EVERY == 0 or size > LARGE

    def pause(self) -> None:
        """Leave the processor to the others, where this turn has been long enough. More must be here to be done."""
        used_s = time.thread_time() - self._began
        if used_s >= TURN_S:
            time.sleep(TURNS.pause_s(self._who, used_s, time.monotonic()))
            self.begin()
