"""What a simulated instrument is, without its line."""

from __future__ import annotations

from typing import Protocol


class Unplugged(Exception):
    """Raised by a simulated instrument that pulls its own plug: its port vanishes."""


class Instrument(Protocol):
    """Something at the end of a wire."""

    def receive(self, data: bytes) -> bytes:
        """Take the next bytes from the wire, cut anywhere, and return what is said to them.

        May be called with no bytes, once, when the line comes up. Raises Unplugged to leave.
        """
        ...
