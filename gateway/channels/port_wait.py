"""PortWait: how the thread that drives a port waits: for the port, for a nudge from another thread, or for a time.

A tty wakes its reader for every few bytes. Reading a busy line like that takes half a processor at 921600 baud, and
brings nothing: so a line that has been busy for a while is left alone for a moment first, and then read in one piece.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from math import ceil
from time import monotonic
from typing import Final

BUSY: Final = 1024
"""After so many bytes without a pause the line is busy. Short messages come without a rest."""
PIECE: Final = 64
LEAST_REST_S: Final = 0.001
MOST_REST_S: Final = 0.004
"""A busy line is left alone for as long as `PIECE` bytes need, within these bounds."""
PAUSE_S: Final = 0.0005
PAUSE_BYTES: Final = 8
"""A line that brings nothing for so long is not busy; the longer of the two."""


class PortWait:
    """Waits on one port at a time. `nudge` may be called from any thread, the rest by one."""

    def __init__(self, line_rate: float | None) -> None:
        """`line_rate`: bytes per second, None where that is not known: then there is no rest."""
        byte_s = 0.0 if line_rate is None else 1 / line_rate
        self._rest_s = min(max(PIECE * byte_s, LEAST_REST_S), MOST_REST_S) if byte_s else 0.0
        self._pause_s = max(PAUSE_S, PAUSE_BYTES * byte_s)
        self._burst = 0
        self._lock = threading.Lock()
        self._closed = False
        self._nudged = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def nudge(self) -> None:
        """End the wait, or the next one if there is none now."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._nudged, 1)

    def wait(self, fd: int, timeout: float | None, *, to_write: bool) -> int:
        """Wait until `fd` can be read (or written), for a nudge, or for `timeout` seconds; poll's events of `fd`."""
        if self._burst > BUSY and self._rest_s and (timeout is None or timeout > self._rest_s):
            self._poll(-1, 0, self._rest_s)
        began = monotonic()
        events = self._poll(fd, select.POLLIN | (select.POLLOUT if to_write else 0), timeout)
        if monotonic() - began > self._pause_s:
            self._burst = 0
        return events

    def _poll(self, fd: int, events: int, timeout: float | None) -> int:
        poller = select.poll()
        poller.register(self._nudged, select.POLLIN)
        if fd >= 0:
            poller.register(fd, events)
        ready = dict(poller.poll(None if timeout is None else ceil(timeout * 1000)))
        if fd >= 0 and self._nudged in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._nudged)
        return ready.get(fd, 0)

    def came(self, size: int) -> None:
        """So many bytes were read."""
        self._burst += size

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._nudged)
