"""Frames: how RPyC messages are cut out of a stream of bytes.

    +----------------+------------+=============+------+
    | length u32, BE | flag 0 / 1 | data        | 0x0A |      length counts data as sent; flag 1: data is a zlib stream
    +----------------+------------+=============+------+

A frame of length 0 carries nothing and is skipped: stock RPyC ignores it too, which makes it a one-way heartbeat.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct
from typing import Final

from gateway.errors import LimitExceeded, ProtocolError
from gateway.limits import KIB, MIB, Limits

HEADER: Final = Struct("!LB")
HEADER_SIZE: Final = 5
OVERHEAD: Final = 6
TERMINATOR: Final = b"\n"
HEARTBEAT: Final = b"\0\0\0\0\0\n"
CRUMB: Final = 16 * KIB
"""Chunks shorter than this are joined as they come."""
UNMETERED: Final = 64 * KIB
"""So much a decoder may hold without telling its meter."""
INFLATE_STEP: Final = 4 * MIB
_pack_header = HEADER.pack
_unpack_header = HEADER.unpack_from


def frame(data: bytes, limits: Limits, *, compress: bool = False) -> bytes:
    """One whole frame around `data`. With `compress`, deflated where that makes it smaller.

    Raises LimitExceeded if the peer could not accept it either.
    """
    if compress:
        if len(data) > limits.inflated:
            raise LimitExceeded("inflated", actual=len(data), allowed=limits.inflated)
        deflated = zlib.compress(data, 1)
        if len(deflated) < len(data):
            return b"".join((header(deflated, limits, flag=1), deflated, TERMINATOR))
    return b"".join((header(data, limits), data, TERMINATOR))


def header(data: bytes, limits: Limits, *, flag: int = 0) -> bytes:
    """What goes before `data`; TERMINATOR goes after it. Raises LimitExceeded."""
    size = len(data)
    if size > limits.frame:
        raise LimitExceeded("frame", actual=size, allowed=limits.frame)
    return _pack_header(size, flag)


def whole_message(chunk: bytes | memoryview, limits: Limits) -> bytes | None:
    """The message, where `chunk` is exactly one plain frame around one: the common case, at the price of a slice."""
    length = len(chunk) - OVERHEAD
    if 0 < length <= limits.frame and chunk[-1] == 0x0A and _unpack_header(chunk) == (length, 0):
        message = chunk[HEADER_SIZE:-1]
        return message if type(message) is bytes else bytes(message)
    return None


class FrameDecoder:
    """Bytes in, messages out; holds at most one begun frame.

    `receive` takes what came in, `next_message` gives the messages one by one. A damaged frame raises ProtocolError, a
    too large one LimitExceeded, before its data is awaited; the stream can't be followed after either.

    `meter(size)`, if set, is told how much memory a large frame takes, from when it begins to come until `settle` is
    called because its message is dealt with. What it raises ends the stream too.
    """

    __slots__ = ("_buffer", "_limits", "_mark", "_pos", "_small", "_tail", "_tail_size", "_wanted", "metered", "meter")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._small = min(CRUMB, limits.frame)
        self.meter: Callable[[int], None] | None = None
        self.metered = 0
        """What the meter was told last."""
        self._mark = UNMETERED
        """The size of the tail at which the meter is told next."""
        self._buffer = b""
        self._pos = 0
        self._tail: list[bytes] = []
        self._tail_size = 0
        self._wanted = HEADER_SIZE

    @property
    def begun(self) -> bool:
        """A frame's first bytes are here and its last ones are not, or whole frames wait to be taken."""
        return self._pos < len(self._buffer) or self._tail_size > 0

    @property
    def missing(self) -> int:
        """Bytes that must still come before `next_message` can give anything; at least 1."""
        return max(1, self._wanted - self._available())

    @property
    def ready(self) -> bool:
        """Enough is here to look at: `next_message` may give a message without more bytes."""
        return self._available() >= self._wanted

    def receive(self, chunk: bytes | memoryview) -> None:
        """Take what the stream gave, in any cut."""
        if type(chunk) is not bytes:
            chunk = bytes(chunk)  # it is only lent
        if self._pos == len(self._buffer) and not self._tail:
            self._buffer = chunk
            self._pos = 0
        else:
            self._tail_size += len(chunk)
            if len(chunk) < CRUMB and self._tail and len(self._tail[-1]) < CRUMB:
                self._tail[-1] += chunk  # a frame sent in single bytes must not cost an object for each
            else:
                self._tail.append(chunk)
            if self._tail_size >= self._mark:
                self._mark += UNMETERED
                self._measure(2 * self._available())  # each byte is held twice when the frame is put together

    def settle(self) -> None:
        """The last large message is dealt with: tell the meter."""
        self._measure(2 * self._tail_size if self._tail_size > UNMETERED else 0)
        self._mark = self._tail_size + UNMETERED

    def _measure(self, size: int) -> None:
        if self.meter is not None:
            self.meter(size)
            self.metered = size

    def _handed_out(self, message: bytes) -> bytes:
        if self.metered or len(message) > UNMETERED:
            self._measure(len(message) + self._tail_size)
        return message

    def next_message(self) -> bytes | None:
        """The next message's data, inflated, or None until more bytes came."""
        buffer, pos = self._buffer, self._pos
        if not self._tail and len(buffer) - pos > OVERHEAD:
            # Small frames that came together, as those of a peer that does not wait for answers: a slice each.
            length, flag = _unpack_header(buffer, pos)
            end = pos + HEADER_SIZE + length
            if flag == 0 and 0 < length <= self._small and end < len(buffer) and buffer[end] == 0x0A:
                self._pos = end + 1
                self._wanted = HEADER_SIZE
                if self._pos == len(buffer):
                    self._buffer, self._pos = b"", 0
                return buffer[pos + HEADER_SIZE : end]
        while self._available() >= self._wanted:
            if self._tail and self._wanted > OVERHEAD and self._available() - self._wanted < len(self._tail[-1]):
                data, flag = self._take_gathered()
                return self._handed_out(self._inflate(data) if flag else data)
            if self._tail:
                self._join()
            start = self._pos + HEADER_SIZE
            length, flag = _unpack_header(self._buffer, self._pos)
            if length > self._limits.frame:
                raise LimitExceeded("frame", actual=length, allowed=self._limits.frame)
            if flag > 1:
                raise ProtocolError(f"frame flag {flag}: only 0 (plain) and 1 (zlib) exist; is this an RPyC peer?")
            self._wanted = OVERHEAD + length
            end = start + length
            if end >= len(self._buffer):
                continue
            _check_terminator(self._buffer[end])
            data = self._buffer[start:end]
            self._pos = end + 1
            self._wanted = HEADER_SIZE
            if self._pos == len(self._buffer):
                self._buffer, self._pos = b"", 0  # it may be large, and the next frame may not come soon
            if length:
                return self._handed_out(self._inflate(data)) if flag else data
        return None

    def _available(self) -> int:
        return len(self._buffer) - self._pos + self._tail_size

    def _take_gathered(self) -> tuple[bytes, int]:
        """`(data, flag)` of a frame whose header was checked before and whose end has just come: it is copied once."""
        *middle, last = self._tail
        end = len(last) - (self._available() - self._wanted)
        _check_terminator(last[end - 1])
        flag = self._buffer[self._pos + HEADER_SIZE - 1]
        first = memoryview(self._buffer)[self._pos + HEADER_SIZE :]
        data = b"".join((first, *middle, memoryview(last)[: end - 1]))
        self._buffer = last[end:]
        self._pos = self._tail_size = 0
        self._tail.clear()
        self._wanted = HEADER_SIZE
        return data, flag

    def _join(self) -> None:
        self._buffer = b"".join((memoryview(self._buffer)[self._pos :], *self._tail))
        self._pos = 0
        self._tail.clear()
        self._tail_size = 0

    def _inflate(self, data: bytes) -> bytes:
        allowed = self._limits.inflated
        inflater = zlib.decompressobj()
        pieces: list[bytes] = []
        size, rest = 0, data
        while not inflater.eof:
            step = min(INFLATE_STEP if size else UNMETERED, allowed + 1 - size)
            if size:
                # Its pieces, the whole, and what is decoded from it. Told before there is anything: many may be at it.
                self._measure(len(data) + 3 * (size + step))
            try:
                piece = inflater.decompress(rest, step)
            except zlib.error as error:
                raise ProtocolError(f"frame of {len(data)} bytes is no zlib stream: {error}") from None
            size += len(piece)
            if size > allowed:
                raise LimitExceeded("inflated", actual=size, allowed=allowed)
            if not piece:
                break  # it ends before its end
            rest = inflater.unconsumed_tail
            pieces.append(piece)
        if not inflater.eof or inflater.unused_data:
            raise ProtocolError(f"frame of {len(data)} bytes is not exactly one zlib stream")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_terminator(byte: int) -> None:
    if byte != 0x0A:
        raise ProtocolError(f"frame ends in 0x{byte:02x}, not 0x0a; bytes were lost or it is no RPyC peer")
