"""Memory: a server gives back what a large transfer, or an attack, made it use.

What a connection was made of refers to itself in circles, and Python looks for such circles only when much has been
made meanwhile. A few of them can keep megabytes, because each lies among other things that are gone. So they are looked
for when the process has grown and a connection has ended.

glibc maps a large block by itself and unmaps it when it is freed; but each such freeing makes it keep larger ones from
then on, up to 32 MiB, for each thread apart. Fragments of what 16 threads decoded once would stay for the life of the
process. A threshold that was set by hand stays as it is (mallopt(3), M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from gateway.limits import MIB

LARGE_BLOCK: Final = 128 * 1024
"""glibc's own threshold to begin with."""
_M_MMAP_THRESHOLD: Final = -3
GROWTH: Final = 4 * MIB
"""What a process may have grown by before garbage is looked for."""
STATM: Final = Path("/proc/self/statm")


@cache
def unmap_large_blocks() -> bool:
    """From now on, blocks of LARGE_BLOCK bytes go back to the system when they are freed; for the whole process.

    Whether it could be arranged: other C libraries than glibc have their own ways.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK))
    except (OSError, AttributeError, TypeError):
        return False


class Sweeper:
    """Collects garbage where the process has grown since the last time."""

    def __init__(self) -> None:
        self._clean = resident()

    def sweep(self) -> None:
        """To be called when something large may have ended; takes tens of milliseconds where there is much to do."""
        if resident() > self._clean + GROWTH:
            gc.collect()
            self._clean = resident()


def resident() -> int:
    """Bytes of memory that the process uses; 0 where only Linux could tell."""
    with suppress(OSError, ValueError, IndexError):
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
