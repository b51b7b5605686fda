"""What a test leaves behind in this process: threads that run and files that are open."""

from __future__ import annotations

import contextlib
import os
import threading


def descriptors() -> set[str]:
    """The open files, as `NUMBER -> TARGET`."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found.add(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
    return {entry for entry in found if "/proc/" not in entry}


class Before:
    """What there is before something that is to leave nothing behind.

    Compared by identity and not by number: what earlier tests have left to end by itself may end meanwhile.
    """

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = descriptors()

    def added(self) -> list[str]:
        """The threads and open files that are there now and were not then."""
        threads = [repr(thread) for thread in threading.enumerate() if thread not in self._threads]
        return threads + sorted(descriptors() - self._descriptors)
