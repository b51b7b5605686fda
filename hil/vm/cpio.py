"""An archive in cpio's newc format, as the kernel unpacks it at its start: Documentation/driver-api/early-userspace."""

from __future__ import annotations

import stat
from typing import Final

_TRAILER: Final = "TRAILER!!!"


class Cpio:
    """Add what is wanted, then take `whole()`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._number = 1

    def folder(self, name: str) -> None:
        """An empty folder. Those above it must have been added."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A file."""
        self._add(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def whole(self) -> bytes:
        """The archive."""
        self._add(_TRAILER, 0, b"")
        return b"".join(self._parts)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        encoded = name.encode() + b"\0"
        numbers = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + encoded
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
        self._number += 1
