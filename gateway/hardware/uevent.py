r"""What the kernel says when something is plugged in or out: a kobject uevent. Pure.

    add@/devices/.../ttyUSB0\0ACTION=add\0DEVPATH=/devices/...\0SUBSYSTEM=tty\0DEVNAME=ttyUSB0\0SEQNUM=930\0

udev sends events of its own form, which begin with `libudev`, to another group; those are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_EVENT: Final = 16 * 1024
"""The kernel's own bound is 2 KiB of variables."""
SUBSYSTEMS: Final = frozenset({"tty", "usb", "usbmisc", "usb-serial"})
"""Events of these are about ports."""


@dataclass(frozen=True, slots=True)
class Uevent:
    """One event."""

    action: str
    """`add`, `remove`, `change`, `bind`, `unbind` ..."""
    subsystem: str
    devname: str
    """The device's name under `/dev`, or empty."""

    @property
    def about_ports(self) -> bool:
        return self.subsystem in SUBSYSTEMS


def parse_uevent(data: bytes) -> Uevent | None:
    """The event in one datagram of the kernel, or None if it is none."""
    if len(data) > MAX_EVENT:
        return None
    header, _, rest = data.partition(b"\0")
    action, at, _ = header.partition(b"@")
    if not at or not action.isalpha():
        return None
    facts = {}
    for item in rest.split(b"\0"):
        key, equals, value = item.partition(b"=")
        if equals:
            facts[key] = value.decode("utf-8", "replace")
    return Uevent(action.decode("ascii"), facts.get(b"SUBSYSTEM", ""), facts.get(b"DEVNAME", ""))


class Settling:
    """When to look after events: a while after the last of a burst, and after a removal also at once. Pure."""

    def __init__(self, settle_s: float, longest_s: float) -> None:
        """Look `settle_s` after the last event, but at the latest `longest_s` after the first."""
        self._settle_s = settle_s
        self._longest_s = longest_s
        self._first: float | None = None
        self._urgent = False
        self.due: float | None = None
        """When to look; None: no need."""

    def note(self, now: float, *, at_once: bool = False) -> None:
        """An event has come."""
        if self._first is None:
            self._first = now
        self._urgent |= at_once
        self.due = now if self._urgent else min(now + self._settle_s, self._first + self._longest_s)

    def take(self, now: float) -> bool:
        """Whether to look now."""
        if self.due is None or now < self.due:
            return False
        # After an urgent look there is one more: what was removed may still have been half there.
        self.due = now + self._settle_s if self._urgent else None
        self._first = now if self._urgent else None
        self._urgent = False
        return True
