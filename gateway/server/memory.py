"""Memory: a server gives back what a large transfer, or an attack, made it use.

glibc maps a large block by itself and unmaps it when it is freed; but each such freeing makes it keep larger ones from
then on, up to 32 MiB, for each thread apart. Fragments of what 16 threads decoded once would stay for the life of the
process. A threshold that was set by hand stays as it is (mallopt(3), M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

LARGE_BLOCK: Final = 128 * 1024
"""glibc's own threshold to begin with."""
_M_MMAP_THRESHOLD: Final = -3


@cache
def unmap_large_blocks() -> bool:
    """From now on, blocks of LARGE_BLOCK bytes go back to the system when they are freed; for the whole process.

    Whether it could be arranged: other C libraries than glibc have their own ways.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK))
    except (OSError, AttributeError, TypeError):
        return False
