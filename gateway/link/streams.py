"""Streams: several conversations over one session. Their messages are cut into fragments, which take turns on the line.

    message ─ deflated, the context of the stream's earlier ones kept ─> fragments that fill a frame each, the last LAST

Deflated as in RFC 7692 section 7.2.1: a sync flush ends each message, and its last four bytes (00 00 FF FF) are left
out. So a call that resembles an earlier one takes a few bytes.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import Final

from gateway.errors import LimitExceeded, ProtocolError
from gateway.link.frames import END, LAST, data_header

FLUSHED: Final = b"\x00\x00\xff\xff"
FEED: Final = 4096
"""So many bytes of a message are deflated at a time: a long one delays nobody."""
_MEMORY: Final = 8
"""zlib's own default: 256 KiB for a window of 32 KiB."""


class Outgoing:
    """What goes out on one stream."""

    __slots__ = ("_deflated", "_deflater", "_fed", "_message", "_queue", "backlog", "ended")

    def __init__(self, deflate: int) -> None:
        self._queue: deque[bytes] = deque()
        self._deflater = zlib.compressobj(wbits=-deflate, memLevel=_MEMORY) if deflate else None
        self._message: memoryview | None = None
        self._fed = 0
        self._deflated = bytearray()
        self.backlog = 0
        """Bytes of messages that no fragment has been made of."""
        self.ended = False

    def put(self, message: bytes) -> None:
        self._queue.append(message)
        self.backlog += len(message)

    def clear(self) -> None:
        """Throw away what is not on its way yet, also the rest of a begun message: only the end can follow."""
        self._queue.clear()
        self._message = None
        self.backlog = 0
        self.ended = True

    @property
    def has_more(self) -> bool:
        return self._message is not None or bool(self._queue)

    def fragment(self, size: int) -> tuple[int, bytes]:
        """`(flags, payload)` of the next frame; to be asked while `has_more`, or once to end the stream."""
        if not self.has_more:
            return END, b""
        if self._message is None:
            self._message, self._fed = memoryview(self._queue.popleft()), 0
        payload = self._plain(size) if self._deflater is None else self._deflate(size)
        if self._fed < len(self._message) or self._deflated:
            return 0, payload
        self._message = None
        return (LAST | END if self.ended and not self._queue else LAST), payload

    def _plain(self, size: int) -> bytes:
        assert self._message is not None
        payload = bytes(self._message[self._fed : self._fed + size])
        self._fed += len(payload)
        self.backlog -= len(payload)
        return payload

    def _deflate(self, size: int) -> bytes:
        assert self._message is not None
        assert self._deflater is not None
        length, deflated = len(self._message), self._deflated
        # Fed on while the rest might turn out to be nothing: the fragment that is the last one has to say so.
        while len(deflated) <= size and (self._fed < length or not self._fed):
            piece = self._message[self._fed : self._fed + FEED]
            deflated += self._deflater.compress(piece)
            self._fed += len(piece)
            self.backlog -= len(piece)
            if self._fed >= length:
                deflated += self._deflater.flush(zlib.Z_SYNC_FLUSH)
                del deflated[-len(FLUSHED) :]
                break
        payload = bytes(deflated[:size])
        del deflated[:size]
        return payload


class Incoming:
    """What comes in on one stream: fragments of at most `limit` bytes a message, put together."""

    __slots__ = ("_inflater", "_limit", "_message", "deaf", "ended")

    def __init__(self, deflated: int, limit: int) -> None:
        self._inflater = zlib.decompressobj(wbits=-deflated) if deflated else None
        self._limit = limit
        self._message = bytearray()
        self.ended = False
        self.deaf = False
        """What comes is thrown away."""

    @property
    def held(self) -> int:
        """Bytes of a message that has begun to come."""
        return len(self._message)

    def stop(self) -> None:
        """Throw away what has come, and what comes."""
        self.deaf = True
        self._message.clear()

    def receive(self, flags: int, payload: bytes) -> bytes | None:
        """The message that this fragment completes. Raises LimitExceeded, ProtocolError."""
        if self._inflater is not None:
            payload = self._inflate(payload)
            if flags & LAST:
                payload += self._inflate(FLUSHED)
        if len(self._message) + len(payload) > self._limit:
            raise LimitExceeded("frame", actual=len(self._message) + len(payload), allowed=self._limit)
        if flags & LAST and not self._message:
            return payload
        self._message += payload
        if not flags & LAST:
            return None
        message = bytes(self._message)
        self._message.clear()
        return message

    def _inflate(self, data: bytes) -> bytes:
        assert self._inflater is not None
        room = self._limit - len(self._message) + 1
        try:
            payload = self._inflater.decompress(data, room)
        except zlib.error:
            raise ProtocolError("a message is not deflated as agreed") from None
        if self._inflater.unconsumed_tail:
            raise LimitExceeded("frame", actual=len(self._message) + len(payload), allowed=self._limit)
        if self._inflater.eof:
            raise ProtocolError("a deflated message ends its stream's context")
        return payload


class Stream:
    """Both directions of one stream."""

    __slots__ = ("incoming", "outgoing", "sent_end")

    def __init__(self, *, deflate: int, inflate: int, limit: int) -> None:
        self.outgoing = Outgoing(deflate)
        self.incoming = Incoming(inflate, limit)
        self.sent_end = False

    @property
    def wants_to_send(self) -> bool:
        return self.outgoing.has_more or (self.outgoing.ended and not self.sent_end)

    @property
    def is_over(self) -> bool:
        return self.sent_end and self.incoming.ended


class Streams:
    """The streams of a session, and whose turn it is."""

    __slots__ = ("_begun", "_begun_limit", "_turns", "deflate", "limit", "most", "open")

    def __init__(self, *, most: int, deflate: int, limit: int, begun: int) -> None:
        """`most` streams at a time; messages of at most `limit` bytes come in, those that have begun hold `begun`."""
        self._begun_limit = begun
        self._begun = 0
        self.most = most
        self.deflate = deflate
        self.limit = limit
        self.open: dict[int, Stream] = {}
        self._turns: deque[int] = deque()

    def add(self, number: int) -> Stream:
        stream = Stream(deflate=self.deflate, inflate=self.deflate, limit=self.limit)
        self.open[number] = stream
        return stream

    def free_number(self) -> int | None:
        """The lowest number that no stream has."""
        return next((number for number in range(self.most) if number not in self.open), None)

    def wake(self, number: int) -> None:
        """This stream has something to send."""
        if number not in self._turns:
            self._turns.append(number)

    @property
    def want_to_send(self) -> bool:
        return bool(self._turns)

    def fragment(self, frame: int) -> tuple[int, int, bytes]:
        """`(flags, stream, payload)` of the stream whose turn it is, for a frame of at most `frame` bytes.

        To be asked while they `want_to_send`.
        """
        number = self._turns.popleft()
        stream = self.open[number]
        flags, payload = stream.outgoing.fragment(frame - data_header(number))
        stream.sent_end = bool(flags & END)
        if stream.wants_to_send:
            self._turns.append(number)
        self.forget_if_over(number)
        return flags, number, payload

    def receive(self, stream: Stream, flags: int, payload: bytes) -> bytes | None:
        """The message that this fragment completes on one of the streams. Raises LimitExceeded, ProtocolError."""
        held = stream.incoming.held
        message = stream.incoming.receive(flags, payload)
        self._begun += stream.incoming.held - held
        if self._begun > self._begun_limit:
            raise LimitExceeded("in_flight_per_host", actual=self._begun, allowed=self._begun_limit)
        return message

    def stop_listening(self, stream: Stream) -> None:
        """What comes on this stream is thrown away, and what has come of a message too."""
        self._begun -= stream.incoming.held
        stream.incoming.stop()

    def forget_if_over(self, number: int) -> None:
        if self.open[number].is_over:
            del self.open[number]
