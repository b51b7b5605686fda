"""A serial line without hardware, and the check that no test here leaks a descriptor or a thread."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.leftovers import descriptors


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 5.0) -> None:
    """Poll until `condition` holds; fail naming `what` otherwise."""
    deadline = monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert monotonic() < deadline, f"not within {timeout:g} s: {what}"
        pause.wait(0.002)


class PtyLine:
    """Two ptys joined by a thread that carries bytes both ways, with no more than a small buffer between them.

    `left` and `right` are paths of the two ports, as stable as a /dev/serial/by-id link.
    """

    def __init__(self, folder: Path) -> None:
        self.left = folder / "left"
        self.right = folder / "right"
        self.plugged = False
        self.plug()

    def plug(self) -> None:
        self._stop_read, self._stop_write = os.pipe()
        self._ends = [os.openpty(), os.openpty()]
        for (master, slave), link in zip(self._ends, (self.left, self.right), strict=True):
            tty.setraw(slave)
            os.set_blocking(master, False)
            link.symlink_to(os.ttyname(slave))
        self._thread = threading.Thread(target=self._carry, name="pty-line")
        self._thread.start()
        self.plugged = True

    def _carry(self) -> None:
        masters = [master for master, _ in self._ends]
        held = {masters[0]: b"", masters[1]: b""}  # by the master it has to be written to
        other = dict(zip(masters, reversed(masters), strict=True))
        poller = select.poll()
        poller.register(self._stop_read, select.POLLIN)
        for master in masters:
            poller.register(master, select.POLLIN)
        while True:
            for master in masters:
                reads = select.POLLIN if not held[other[master]] else 0
                poller.modify(master, reads | (select.POLLOUT if held[master] else 0))
            for fd, events in poller.poll():
                if fd == self._stop_read:
                    return
                if events & select.POLLOUT:
                    with contextlib.suppress(BlockingIOError):
                        held[fd] = held[fd][os.write(fd, held[fd]) :]
                if events & select.POLLIN:
                    with contextlib.suppress(BlockingIOError):
                        held[other[fd]] += os.read(fd, 4096)

    def unplug(self) -> None:
        if not self.plugged:
            return
        self.plugged = False
        os.write(self._stop_write, b"x")
        self._thread.join()
        for end in self._ends:
            for fd in end:
                os.close(fd)
        os.close(self._stop_read)
        os.close(self._stop_write)
        self.left.unlink()
        self.right.unlink()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[PtyLine]:
    line = PtyLine(tmp_path)
    yield line
    line.unplug()


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    before, threads = descriptors(), threading.active_count()
    yield
    wait_until(lambda: threading.active_count() <= threads, "threads that a test started are gone")
    if descriptors() - before:
        gc.collect()  # a test's own sockets may only be garbage
    # Threads of an earlier test may have ended instead of this one's: so these may need a moment more.
    wait_until(lambda: not descriptors() - before, "descriptors that a test opened are closed")
