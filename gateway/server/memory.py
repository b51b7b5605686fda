"""Memory: a server gives back what a large transfer, or an attack, made it use.

What a connection was made of refers to itself in circles, and Python looks for such circles only when much has been
made meanwhile. A few of them can keep megabytes, because each lies among other things that are gone. So they are looked
for when a connection has ended and the process has grown.

glibc keeps what was freed, too: for each of many arenas, and the more the larger the blocks are that it sees freed. So
its own tuning is replaced by a fixed one (mallopt(3)): two arenas are enough where one thread at a time runs Python;
blocks above 2 MiB are mapped, and unmapped when they are freed; no arena keeps more than that at its end. Messages of 1
MiB are as fast as before, those of 8 MiB take half as long again (measured with the bench).
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, Final

from gateway.limits import MIB

KEPT: Final = 2 * MIB
RARELY: Final = 20
"""Looking for garbage takes at most one part in so many of the time."""
GROWTH: Final = 4 * MIB
"""What a process may have grown by before garbage is looked for."""
STATM: Final = Path("/proc/self/statm")
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


@cache
def tune() -> bool:
    """Have the C library give back more of what is freed, for the whole process; whether it is one that can."""
    mallopt = _libc("mallopt")
    return mallopt is not None and all(
        [mallopt(_M_ARENA_MAX, 2), mallopt(_M_MMAP_THRESHOLD, KEPT), mallopt(_M_TRIM_THRESHOLD, KEPT)]
    )


class Sweeper:
    """Collects garbage where the process has grown since the last time."""

    def __init__(self) -> None:
        self._clean = resident()
        self.pause_s = 0.0
        """How long to leave it alone now: in a process that holds much besides the server, a look takes long, and
        everything stands still meanwhile."""

    def sweep(self) -> None:
        """To be called when something large may have ended; takes tens of milliseconds where there is much to do."""
        if resident() > self._clean + GROWTH:
            began = monotonic()
            gc.collect()
            self.pause_s = RARELY * (monotonic() - began)
            trim = _libc("malloc_trim")
            if trim is not None:
                trim(0)
            self._clean = resident()


def resident() -> int:
    """Bytes of memory that the process uses; 0 where only Linux could tell."""
    with suppress(OSError, ValueError, IndexError):
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _libc(name: str) -> Callable[..., Any] | None:
    """That function of the C library; None where it has none."""
    with suppress(OSError, AttributeError, TypeError):
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
        return found
    return None
