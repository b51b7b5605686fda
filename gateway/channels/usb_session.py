"""What goes over the two bulk endpoints of the RPyC function, beside the frames: how a session begins and ends.

The host says OPEN with a nonce, as a control request to the interface. Then each end sends a marker with the nonce, a
transfer of its own, and frames after it. What comes in front of the marker belongs to an earlier session and is thrown
away: transfers that were under way when a client died must not be taken for the beginning of this one. The host says
CLOSE at its end; the device ends its side by halting its IN endpoint. docs/reference/usb.md has all of it.
"""

from __future__ import annotations

from typing import Final

CLASS: Final = 0xFF
SUBCLASS: Final = 0x52
PROTOCOL: Final = 0x01
NAME: Final = "RPyC"
"""Of the interface, as its string says."""

TO_DEVICE: Final = 0x41
"""A vendor's request to an interface, with data to the device."""
OPEN: Final = 1
CLOSE: Final = 2
VERSION: Final = 1
"""The value of OPEN."""
NONCE: Final = 8
MAGIC: Final = b"RPyC-USB"
LARGE: Final = 1088 * 1024
"""Bytes that a host reads or writes in one go while there are many: so the bus does not wait for it in between."""
SMALL: Final = 65536
"""Otherwise, for the kernel makes a buffer of that size each time."""
DEVICE: Final = 256 * 1024
"""What a device reads or writes in one go."""


def marker(nonce: bytes) -> bytes:
    """What each end sends first."""
    return MAGIC + nonce
