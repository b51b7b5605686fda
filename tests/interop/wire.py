"""A serial line without hardware: two ptys joined back to back."""

from __future__ import annotations

import os
import select
import threading
import tty
from typing import Self

CHUNK = 4096
HIGH_WATER = 64 * 1024


class PtyPair:
    """Two tty paths, `left` and `right`; what is written to one is read from the other, in order and unchanged.

    The relay keeps both ttys open itself, so that an end may be opened, closed and opened again without the other
    noticing: as on a real line, nobody gets an end-of-file.
    """

    def __init__(self) -> None:
        self._masters: list[int] = []
        self._ttys: list[int] = []
        for _ in range(2):
            master, end = os.openpty()
            tty.setraw(end)
            os.set_blocking(master, False)
            self._masters.append(master)
            self._ttys.append(end)
        self.left, self.right = (os.ttyname(end) for end in self._ttys)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._relay, name="pty-pair", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._stop_write)
        self._thread.join()
        for fd in (*self._masters, *self._ttys, self._stop_read):
            os.close(fd)

    def _relay(self) -> None:
        first, second = self._masters
        peer_of = {first: second, second: first}
        waiting = {first: bytearray(), second: bytearray()}  # by the master they are to be written to
        while True:
            readable = [fd for fd in peer_of if len(waiting[peer_of[fd]]) < HIGH_WATER]
            writable = [fd for fd, data in waiting.items() if data]
            readable, writable, _ = select.select([*readable, self._stop_read], writable, [])
            if self._stop_read in readable:
                return
            for fd in readable:
                waiting[peer_of[fd]] += os.read(fd, CHUNK)
            for fd in writable:
                del waiting[fd][: os.write(fd, waiting[fd][:CHUNK])]
