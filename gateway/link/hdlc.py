"""Frames on the line, in the manner of HDLC (ISO/IEC 13239, asynchronous framing; RFC 1662 section 4).

    +------+---------+----------------------+------+
    | 0x7E | content | CRC-32, 4 bytes, LSB | 0x7E |      one flag may end a frame and begin the next
    +------+---------+----------------------+------+

Between the flags a byte that means something to the line is sent as 0x7D and the byte XOR 0x20: the flag, the escape
itself, and XON (0x11) and XOFF (0x13), so that software flow control may be on. The CRC is that of HDLC and zlib, but
it begins with a key: a frame of another session, or of the other direction, is as wrong as a damaged one.
"""

from __future__ import annotations

import zlib
from typing import Final

FLAG: Final = b"\x7e"
ESCAPE: Final = b"\x7d"
CRC_SIZE: Final = 4

_ESCAPES: Final = ((ESCAPE, b"\x7d\x5d"), (FLAG, b"\x7d\x5e"), (b"\x11", b"\x7d\x31"), (b"\x13", b"\x7d\x33"))


def encode(content: bytes, key: int) -> bytes:
    """`content` and its CRC, escaped, with the flag that ends it. The flag that begins it is the one before."""
    data = content + zlib.crc32(content, key).to_bytes(CRC_SIZE, "little")
    for plain, escaped in _ESCAPES:
        if plain in data:
            data = data.replace(plain, escaped)
    return data + FLAG


def is_intact(data: bytes, key: int) -> bool:
    """Whether the last four bytes of `data` are the CRC of the ones before."""
    return zlib.crc32(data[:-CRC_SIZE], key) == int.from_bytes(data[-CRC_SIZE:], "little")


class FrameReader:
    """Bytes from the line in, what lies between flags out: unescaped, the CRC still at its end and not checked yet.

    Holds at most one begun frame, of at most `limit` bytes as sent; a longer one is thrown away up to its flag.
    """

    __slots__ = ("_begun", "_limit", "_skipping", "overruns")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = b""
        self._skipping = False
        self.overruns = 0
        """How many frames were thrown away for their length."""

    def receive(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes; empty ones between two flags are left out."""
        *whole, rest = (self._begun + data).split(FLAG)
        if whole and self._skipping:
            del whole[0]
            self._skipping = False
        if self._skipping or len(rest) > self._limit:
            self.overruns += not self._skipping
            self._skipping = True
            rest = b""
        self._begun = rest
        frames = [frame for frame in whole if frame]
        if any(len(frame) > self._limit for frame in frames):
            self.overruns += sum(len(frame) > self._limit for frame in frames)
            frames = [frame for frame in frames if len(frame) <= self._limit]
        return [_unescape(frame) if ESCAPE in frame else frame for frame in frames]

    def reset(self) -> None:
        """Forget what was begun."""
        self._begun = b""
        self._skipping = False


def _unescape(data: bytes) -> bytes:
    # A wrong escape is left as it is: the CRC finds it. The escape's own comes last, or it could make new ones.
    for plain, escaped in reversed(_ESCAPES):
        data = data.replace(escaped, plain)
    return data
