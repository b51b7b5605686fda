"""The contents of the four kinds of frames. Numbers of several bytes are big-endian, as in RPyC's own frames.

    HELLO   10 | version | role | nonce u32 | seen u32 | frame u16 | window | streams | message u32 | deflate
    DATA    2f | seq | ack | (stream) | payload ...     f bit 0: LAST fragment of its message; bit 1: END of the stream;
                                                        bit 2: the byte `stream` is there, otherwise it is stream 0
    ACK     3f | ack | room | bitmap ...                f bit 0: POLL, answer at once
    CLOSE   40

- HELLO (HDLC's SABM and UA in one) tells what its sender can take; `nonce` is new for every session, `seen` is the
  nonce it last saw of the peer, 0 if none. Role 1 opens streams, role 0 serves them. Bytes after the ones known are
  ignored: later versions may add some.
- DATA (HDLC's I frame): `seq` numbers the frames of one direction, `ack` is the next number awaited from the other.
- ACK (HDLC's RR, RNR where `room` is 0, and SREJ in one): `room` is how many frames beyond `ack` are taken; bit i of
  the bitmap, the lowest first, says that frame `ack` + 1 + i is here already.
- CLOSE (HDLC's DISC): the sender leaves the session.

Sequence numbers count up without end. Their low 8 bits travel; the upper bits are in the CRC's key (see `session`), so
that a frame which was delayed for long can't be taken for a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from gateway.link.config import MIN_FRAME

VERSION: Final = 1
HELLO: Final = 0x10
DATA: Final = 0x20
ACK: Final = 0x30
CLOSE: Final = 0x40
KIND: Final = 0xF0
LAST: Final = 0x01
END: Final = 0x02
POLL: Final = 0x01
NUMBERED: Final = 0x04
DATA_HEADER: Final = 3
"""Bytes before the payload on stream 0; one more on any other."""

_HELLO: Final = Struct("!BBBIIHBBIB")
HELLO_SIZE: Final = _HELLO.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What an end says before a session. Sizes in bytes as in `LinkConfig`."""

    version: int
    initiator: bool
    nonce: int
    seen: int
    frame: int
    window: int
    streams: int
    message: int
    deflate: int

    def encode(self) -> bytes:
        return _HELLO.pack(
            HELLO,
            self.version,
            self.initiator,
            self.nonce,
            self.seen,
            self.frame,
            self.window,
            self.streams,
            self.message,
            self.deflate,
        )

    @classmethod
    def decode(cls, content: bytes) -> Hello | None:
        """None for what no end may say: then it is treated as damaged."""
        if len(content) < _HELLO.size:
            return None
        _, version, role, nonce, seen, frame, window, streams, message, deflate = _HELLO.unpack_from(content)
        sane = version and role < 2 and nonce and frame >= MIN_FRAME and 1 <= window <= 127 and streams and message
        if not sane or deflate not in (0, 9, 10, 11, 12, 13, 14, 15):
            return None
        return cls(
            version=version,
            initiator=bool(role),
            nonce=nonce,
            seen=seen,
            frame=frame,
            window=window,
            streams=streams,
            message=message,
            deflate=deflate,
        )


def data(flags: int, seq: int, ack: int, stream: int, payload: bytes) -> bytes:
    """The content of a DATA frame."""
    if stream:
        return bytes((DATA | NUMBERED | flags, seq & 0xFF, ack & 0xFF, stream)) + payload
    return bytes((DATA | flags, seq & 0xFF, ack & 0xFF)) + payload


def data_header(stream: int) -> int:
    """Bytes before the payload of a DATA frame."""
    return DATA_HEADER + bool(stream)


def fragment_of(content: bytes) -> tuple[int, int, bytes]:
    """`(flags, stream, payload)` of a DATA frame's content, which has DATA_HEADER bytes at least."""
    flags = content[0] & 0x0F
    if flags & NUMBERED:
        return flags, int.from_bytes(content[3:4], "big"), content[4:]
    return flags, 0, content[3:]


def ack(flags: int, number: int, room: int, bitmap: bytes) -> bytes:
    """The content of an ACK frame."""
    return bytes((ACK | flags, number & 0xFF, room)) + bitmap


def close() -> bytes:
    """The content of a CLOSE frame."""
    return bytes((CLOSE,))


def near(low: int, reference: int) -> int:
    """The number nearest to `reference` whose low 8 bits are `low`."""
    return reference + ((low - reference + 128) & 0xFF) - 128
