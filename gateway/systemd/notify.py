"""sd_notify(3) in a few lines: tell the service manager READY, WATCHDOG, STATUS, RELOADING and STOPPING.

A datagram of `NAME=VALUE` lines goes to the Unix socket that $NOTIFY_SOCKET names: a path, or `@name` for one in the
abstract namespace. Without the variable nobody wants to know, and every method does nothing. A message that can't be
delivered is dropped: a service must not fail because its manager doesn't listen.

    notifier = Notifier.from_environment()
    notifier.ready("serving 3 devices")
    every notifier.watchdog_s / 2:  notifier.watchdog()       # only while the process really works
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Final, Self

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
MAX_STATUS: Final = 256
"""Characters of a status line."""

log = logging.getLogger("gateway.systemd")


class Notifier:
    """Says to the service manager how the process is doing. Thread-safe: each message is one datagram."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        """`address` is a path or `@name`; None or what is neither makes a notifier that says nothing."""
        usable = address is not None and address[:1] in ("/", "@") and len(address) > 1
        self._address = address if usable else None
        self.watchdog_s = watchdog_s
        """Within this many seconds the manager wants the next `watchdog()`; None if it doesn't watch this process."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, pid: int | None = None) -> Self:
        """What the manager asked for. `pid` is this process's: the watchdog may be meant for another one."""
        micros, watched = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        mine = watched in ("", str(os.getpid() if pid is None else pid))
        watches = mine and micros.isascii() and micros.isdecimal() and int(micros[:18]) > 0
        return cls(environ.get("NOTIFY_SOCKET"), int(micros[:18]) / 1e6 if watches else None)

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """As `from_environment`, and removes the variables: no process started from here is to speak for this one."""
        notifier = cls.from_environment(environ)
        for name in VARIABLES:
            environ.pop(name, None)
        return notifier

    @property
    def is_heard(self) -> bool:
        """Whether there is a manager that wants to know."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """Start-up or a reload is finished."""
        return self.send("READY=1", *_status(status))

    def watchdog(self) -> bool:
        """The process is alive; to be said within each `watchdog_s`."""
        return self.send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self.send(*_status(text or " "))

    def stopping(self, status: str = "") -> bool:
        """The process has begun to end."""
        return self.send("STOPPING=1", *_status(status))

    def reloading(self, *, now: float, status: str = "") -> bool:
        """A reload has begun; `ready` ends it. `now` is the time of CLOCK_MONOTONIC in seconds."""
        return self.send("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}", *_status(status))

    def send(self, *assignments: str) -> bool:
        """Send `NAME=VALUE` lines as one datagram. Whether the manager got them. Never raises, never blocks."""
        if self._address is None:
            return False
        place = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode("utf-8", "replace"), place)
        except OSError as problem:
            log.debug("the service manager was not told %s: %s", assignments[0], problem)
            return False
        return True


def _status(text: str) -> tuple[str, ...]:
    # A line break would begin another assignment.
    line = " ".join(text.split())[:MAX_STATUS]
    return (f"STATUS={line}",) if text else ()
