"""The last bytes of a stream, each with its place in the whole of it.

received so far  0 1 2 3 4 5 6 7 8 9        capacity 4: start = 6, end = 10
kept                         6 7 8 9        since(3) == (6, b"6789"): 3, 4 and 5 are gone, and it shows
"""

from __future__ import annotations


class ByteHistory:
    """A bounded ring of bytes. Not locked: its owner is."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept = bytearray()
        self._start = 0

    @property
    def start(self) -> int:
        """The offset of the oldest byte kept."""
        return self._start

    @property
    def end(self) -> int:
        """The number of bytes ever received: the offset of the next one."""
        return self._start + len(self._kept)

    def append(self, data: bytes) -> None:
        """Keep `data`, and forget the oldest bytes above the capacity."""
        self._kept += data
        excess = max(0, len(self._kept) - self._capacity)
        del self._kept[:excess]
        self._start += excess

    def since(self, offset: int, max_bytes: int | None = None) -> tuple[int, bytes]:
        """The bytes from `offset` on, after the offset of the first: above `offset` when some are forgotten."""
        first = max(offset, self._start)
        index = first - self._start
        return first, bytes(self._kept[index : None if max_bytes is None else index + max_bytes])

    def find(self, pattern: bytes, offset: int) -> int:
        """The offset behind the first `pattern` that begins at `offset` or later, or -1."""
        index = self._kept.find(pattern, max(0, offset - self._start))
        return -1 if index < 0 else self._start + index + len(pattern)
