"""Frames: how RPyC messages are cut out of a stream of bytes.

    +----------------+------------+=============+------+
    | length u32, BE | flag 0 / 1 | data        | 0x0A |      length counts data as sent; flag 1: data is a zlib stream
    +----------------+------------+=============+------+

A frame of length 0 carries nothing and is skipped: stock RPyC ignores it too, which makes it a one-way heartbeat.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, TypeAlias

from gateway.errors import LimitExceeded, ProtocolError
from gateway.limits import KIB, MIB, Limits

HEADER: Final = Struct("!LB")
HEADER_SIZE: Final = 5
OVERHEAD: Final = 6
TERMINATOR: Final = b"\n"
HEARTBEAT: Final = b"\0\0\0\0\0\n"
_HEARTBEATS: Final = re.compile(rb"(?:\0{5}\n)+")
CRUMB: Final = 16 * KIB
"""Chunks shorter than this are joined as they come."""
UNMETERED: Final = 64 * KIB
"""So much a decoder may hold without telling its meter."""
WORTH_ITS_MEMORY: Final = 8
"""A frame gets its memory when one part in so many is here: a header alone costs nothing."""
LARGE: Final = 256 * KIB
SPARE: Final = 16 * MIB
"""The memory of one message up to this size is kept for the next one."""
_spare: Final[list[bytearray]] = []
INFLATE_STEP: Final = 4 * MIB
Message: TypeAlias = bytes | bytearray
"""A message as received: a large one is a bytearray, which nobody else has."""
_pack_header = HEADER.pack
_unpack_header = HEADER.unpack_from
SHORT: Final = 256
HEADERS: Final = tuple(map(_pack_header, range(SHORT), (0,) * SHORT))
"""What goes before a plain message shorter than SHORT, by its size."""


def frame(data: Message, limits: Limits, *, compress: bool = False) -> bytes:
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


def header(data: Message, limits: Limits, *, flag: int = 0) -> bytes:
    """What goes before `data`; TERMINATOR goes after it. Raises LimitExceeded."""
    size = len(data)
    if size > limits.frame:
        raise LimitExceeded("frame", actual=size, allowed=limits.frame)
    return _pack_header(size, flag)


def whole_message(chunk: bytes | memoryview, limits: Limits) -> Message | None:
    """The message, where `chunk` is exactly one plain frame around one: the common case, at the price of a slice."""
    size = len(chunk) - OVERHEAD
    if 0 < size < SHORT and type(chunk) is bytes:
        fits = chunk.startswith(HEADERS[size]) and chunk[-1] == 0x0A and size <= limits.frame
        return chunk[HEADER_SIZE:-1] if fits else None
    if 0 < size <= limits.frame and chunk[-1] == 0x0A and _unpack_header(chunk) == (size, 0):
        message = chunk[HEADER_SIZE:-1]
        return message if type(message) is bytes else _copied(message)
    return None


def _copied(lent: bytes | memoryview) -> Message:
    if len(lent) <= UNMETERED:
        return bytes(lent)
    memory = _memory(len(lent))
    with memoryview(memory) as place:
        place[:] = lent
    return memory


class FrameDecoder:
    """Bytes in, messages out; holds at most one begun frame.

    `receive` takes what came in, `next_message` gives the messages one by one. A damaged frame raises ProtocolError, a
    too large one LimitExceeded, before its data is awaited; the stream can't be followed after either.

    A frame that does not come in one piece gets its memory when an eighth of it is here; what comes then is put in its
    place at once, best by reading it into `room`. Its message is a bytearray if it is large.

    `meter(size)`, if set, is told how much memory a large frame takes, from when it begins to come until `settle` is
    called because its message is dealt with. What it raises ends the stream too.
    """

    __slots__ = (
        *("_buffer", "_filled", "_flag", "_limits", "_mark", "_pos", "_small", "_tail", "_tail_size", "_wanted"),
        *("_whole", "metered", "meter"),
    )

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
        """The size of the next frame; before its header is here, of that."""
        self._flag = 0
        self._whole: bytearray | None = None
        """The data and the terminator of a begun frame; `_filled` bytes of them are here, and nothing behind them."""
        self._filled = 0

    @property
    def begun(self) -> bool:
        """A frame's first bytes are here and its last ones are not, or whole frames wait to be taken."""
        return self._whole is not None or self._pos < len(self._buffer) or self._tail_size > 0

    @property
    def missing(self) -> int:
        """Bytes that must still come before `next_message` can give anything; at least 1."""
        if self._whole is not None:
            return max(1, len(self._whole) - self._filled)
        return max(1, self._wanted - self._available())

    @property
    def ready(self) -> bool:
        """Enough is here to look at: `next_message` may give a message without more bytes."""
        if self._whole is not None:
            return self._filled == len(self._whole)
        return self._available() >= self._wanted

    @property
    def room(self) -> memoryview | None:
        """Where the next bytes belong, if that is known; `filled` says how many came there. To be released before."""
        if self._whole is None or self._filled == len(self._whole):
            return None
        return memoryview(self._whole)[self._filled :]

    def filled(self, count: int) -> None:
        """See `room`."""
        self._filled += count

    def receive(self, chunk: bytes | memoryview) -> None:
        """Take what the stream gave, in any cut."""
        if self._whole is not None and self._filled < len(self._whole):
            chunk = self._fill(chunk)
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
                self._measure(self._available())

    def settle(self) -> None:
        """The last large message is dealt with: tell the meter."""
        begun = len(self._whole) if self._whole is not None else 0
        self._measure(begun + self._tail_size if begun + self._tail_size > UNMETERED else 0)
        self._mark = self._tail_size + UNMETERED

    def _measure(self, size: int) -> None:
        if self.meter is not None:
            self.meter(size)
            self.metered = size

    def _handed_out(self, message: Message) -> Message:
        if self.metered or len(message) > UNMETERED:
            self._measure(len(message) + self._tail_size)
        return message

    def next_message(self) -> Message | None:
        """The next message's data, inflated, or None until more bytes came."""
        buffer, pos = self._buffer, self._pos
        if not self._tail and len(buffer) - pos > OVERHEAD and self._whole is None:
            # Small frames that came together, as those of a peer that does not wait for answers: a slice each.
            length, flag = _unpack_header(buffer, pos)
            end = pos + HEADER_SIZE + length
            if flag == 0 and 0 < length <= self._small and end < len(buffer) and buffer[end] == 0x0A:
                self._pos = end + 1
                self._wanted = HEADER_SIZE
                if self._pos == len(buffer):
                    self._buffer, self._pos = b"", 0
                return buffer[pos + HEADER_SIZE : end]
        while self._whole is not None or self._available() >= HEADER_SIZE:
            if self._wanted == HEADER_SIZE:
                if beats := _HEARTBEATS.match(self._buffer, self._pos):
                    self._pos = beats.end()
                    continue
                self._read_header()
            if self._whole is None:
                here = self._available()
                if here < self._wanted and here * WORTH_ITS_MEMORY < self._wanted:
                    return None
                if here < self._wanted or self._tail:
                    self._gather()
            message = self._cut_out() if self._whole is None else self._take_whole()
            if message is None or message:
                return message
        return None

    def _available(self) -> int:
        return len(self._buffer) - self._pos + self._tail_size

    def _read_header(self) -> None:
        if self._tail and len(self._buffer) - self._pos < HEADER_SIZE:
            self._buffer = b"".join((self._buffer[self._pos :], *self._tail))
            self._pos = self._tail_size = 0
            self._tail.clear()
        length, flag = _unpack_header(self._buffer, self._pos)
        if length > self._limits.frame:
            raise LimitExceeded("frame", actual=length, allowed=self._limits.frame)
        if flag > 1:
            raise ProtocolError(f"frame flag {flag}: only 0 (plain) and 1 (zlib) exist; is this an RPyC peer?")
        self._wanted = OVERHEAD + length
        self._flag = flag

    def _gather(self) -> None:
        """Give the begun frame its memory, and put what is here in its place."""
        size = self._wanted - HEADER_SIZE
        if size > UNMETERED:
            self._measure(size)
        self._whole, self._filled = _memory(size) if size > UNMETERED else bytearray(size), 0
        first, rest = memoryview(self._buffer)[self._pos + HEADER_SIZE :], self._tail
        self._buffer, self._tail = b"", []
        self._pos = self._tail_size = 0
        self.receive(first)
        for chunk in rest:
            self.receive(chunk)

    def _fill(self, chunk: bytes | memoryview) -> bytes | memoryview:
        """Put bytes in the begun frame's place; gives those that are not its own."""
        assert self._whole is not None
        own = min(len(chunk), len(self._whole) - self._filled)
        begin, self._filled = self._filled, self._filled + own
        with memoryview(self._whole) as place:  # a bytearray would make a bytearray of the chunk first
            place[begin : self._filled] = memoryview(chunk)[:own]
        return chunk[own:]

    def _cut_out(self) -> Message:
        """The message at the buffer's beginning, which holds all of it."""
        start, end = self._pos + HEADER_SIZE, self._pos + self._wanted - 1
        _check_terminator(self._buffer[end])
        data = self._buffer[start:end]
        self._pos = end + 1
        self._wanted = HEADER_SIZE
        if self._pos == len(self._buffer):
            self._buffer, self._pos = b"", 0  # it may be large, and the next frame may not come soon
        return self._handed_out(self._inflate(data)) if self._flag and data else data

    def _take_whole(self) -> Message | None:
        """The message that was put into its own memory; None while it is not all there."""
        whole = self._whole
        assert whole is not None
        if self._filled < len(whole):
            return None
        _check_terminator(whole[-1])
        del whole[-1]
        self._whole, self._wanted = None, HEADER_SIZE
        if self._flag and whole:
            return self._handed_out(self._inflate(whole))
        return self._handed_out(whole if len(whole) > UNMETERED else bytes(whole))

    def rest(self) -> bytes:
        """What came after the last message that was taken."""
        begun = b""
        if self._whole is not None:
            begun = _pack_header(len(self._whole) - 1, self._flag) + self._whole[: self._filled]
        return b"".join((begun, self._buffer[self._pos :], *self._tail))

    def _inflate(self, data: Message) -> bytes:
        allowed = self._limits.inflated
        inflater = zlib.decompressobj()
        pieces: list[bytes] = []
        size = 0
        rest: Message = data
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


def recycle(message: Message) -> None:
    """Nothing refers to this message any more: the next large one may have its memory.

    Else malloc gives it back to the system as often as it comes, and each page costs a fault.
    """
    if type(message) is bytearray and len(message) <= SPARE:
        _spare[:] = (message,)


def joined(pieces: Sequence[Message]) -> Message:
    """The pieces in one; a large message is made in memory that `recycle` got, and is to go there again."""
    size = sum(map(len, pieces))
    if size <= LARGE:
        return b"".join(pieces)
    memory = _memory(size)
    place = 0
    with memoryview(memory) as whole:
        for piece in pieces:
            whole[place : place + len(piece)] = piece
            place += len(piece)
    return memory


def _memory(size: int) -> bytearray:
    try:
        memory = _spare.pop()
    except IndexError:
        return bytearray(size)
    if not size - 1 <= len(memory) <= 2 * size:
        return bytearray(size)
    try:
        del memory[size:]
        if len(memory) < size:
            memory.append(0)
    except BufferError:  # somebody still looks at it, such as the frames of an error
        return bytearray(size)
    return memory


def _check_terminator(byte: int) -> None:
    if byte != 0x0A:
        raise ProtocolError(f"frame ends in 0x{byte:02x}, not 0x0a; bytes were lost or it is no RPyC peer")
