"""What two ends agreed on for one session, and the keys by which its frames are known.

A key is what the CRC of a frame begins with:

    session key     CRC-32 of "i" or "r" (who sends), the initiator's nonce u32, the responder's nonce u32
    key of a frame  CRC-32, going on from the session key, of (seq >> 8) u32 and (ack >> 8) u32, each 0 where the frame
                    has none; HELLO alone has the key 0

So the frames of an earlier session, our own coming back, and those from 256 frames ago all look damaged, at no byte's
cost.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from struct import Struct
from typing import Final

from gateway.link.config import LinkConfig
from gateway.link.frames import VERSION, Hello

_NONCES: Final = Struct("!cII")
_UPPER: Final = Struct("!II")


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end, as both agreed: what may be sent to it."""

    nonce: int
    version: int
    frame: int
    """Bytes of a DATA frame it takes, header included."""
    window: int
    streams: int
    message: int
    deflate: int
    """What to deflate for it with; 0: not at all."""

    @classmethod
    def of(cls, hello: Hello, config: LinkConfig) -> Peer:
        """Of what it said and what this end can do."""
        return cls(
            nonce=hello.nonce,
            version=min(hello.version, VERSION),
            frame=min(hello.frame, config.frame),
            window=hello.window,
            streams=min(hello.streams, config.streams),
            message=hello.message,
            deflate=min(hello.deflate, config.deflate) if config.deflate else 0,
        )


class FrameKeys:
    """The keys of the frames that go one way."""

    __slots__ = ("_last", "_session", "_upper")

    def __init__(self, sender: bytes, initiator: int, responder: int) -> None:
        """`sender` is b"i" or b"r"; the two numbers are the nonces."""
        self._session = zlib.crc32(_NONCES.pack(sender, initiator, responder))
        self._upper = (0, 0)
        self._last = self._make(self._upper)

    def key(self, seq: int = 0, ack: int = 0) -> int:
        """The key of a frame with these numbers, counted without end."""
        upper = (seq >> 8, ack >> 8)
        if upper != self._upper:
            self._upper, self._last = upper, self._make(upper)
        return self._last

    def _make(self, upper: tuple[int, int]) -> int:
        return zlib.crc32(_UPPER.pack(upper[0] & 0xFFFFFFFF, upper[1] & 0xFFFFFFFF), self._session)
