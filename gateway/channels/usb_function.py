"""The device's end of `usb://`: sessions as a host begins and ends them, and the bytes of the one that runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from gateway.channels import usb_session as session
from gateway.channels.inbox import Inbox
from gateway.channels.stream import Stream
from gateway.errors import LinkDown
from gateway.protocol.framing import Message

Piece: TypeAlias = Sequence[bytes | memoryview]
MARKER_S: Final = 1.0


class Wire(Protocol):
    """The endpoints, as the function's controller has them."""

    def send(self, piece: Piece, progress_s: float, is_over: Callable[[], bool], *, ends: bool = True) -> None:
        """Send a piece of a transfer, which need not be in one place: full packets, unless it `ends` it.

        Raises LinkDown where the host takes nothing for so long, is gone, or `is_over` says so.
        """

    def begin(self) -> None:
        """A session begins: what `halt` asked for is not to be done any more."""

    def halt(self) -> None:
        """Answer the host's reads with a stall, as soon as it has what was sent. Must not wait."""

    def wake(self) -> None:
        """What comes can be taken again, or a stream is over: who waits looks again."""


def pieces_of(parts: Sequence[Message]) -> list[Piece]:
    """Cut what is in `parts` into pieces that a controller takes in one go, without a copy."""
    pieces: list[Piece] = []
    piece: list[bytes | memoryview] = []
    room = session.DEVICE
    for part in parts:
        rest = memoryview(part)
        while len(rest) > room:
            pieces.append([*piece, rest[:room]])
            rest, piece, room = rest[room:], [], session.DEVICE
        piece.append(rest)
        room -= len(rest)
    return [*pieces, piece]


class Function:
    """What the controller tells, made into streams: `on_stream` gets each new one, and must not wait.

    `opened`, `closed` and `lost` come from the thread of control requests, `received` from the one that reads.
    """

    def __init__(self, wire: Wire, on_stream: Callable[[FunctionStream], None], name: str) -> None:
        self._wire = wire
        self._on_stream = on_stream
        self._name = name
        self._lock = threading.Lock()
        self._expected: bytes | None = None
        self._stream: FunctionStream | None = None

    def opened(self, nonce: bytes) -> None:
        """OPEN: a session begins as soon as its marker comes."""
        self._end("the host began anew")
        self._wire.begin()
        with self._lock:
            self._expected = session.marker(nonce)

    def closed(self) -> None:
        """CLOSE."""
        self._end("closed by the peer")

    def lost(self) -> None:
        """The cable was pulled, or the host configures the device anew."""
        self._end("unplugged")

    def _end(self, why: str) -> None:
        with self._lock:
            stream, self._stream, self._expected = self._stream, None, None
        if stream is not None:
            stream.ended(LinkDown(f"{self._name}: {why}"))

    def received(self, data: bytes) -> None:
        """What came on the endpoint from the host; waits while nobody takes it."""
        stream = self._stream
        if stream is not None:
            if data:
                stream.inbox.put(data)
            return
        with self._lock:
            if data != self._expected:
                return  # of a session that is over
            begun = FunctionStream(self._wire, self._name)
            self._expected, self._stream = None, begun
        try:
            self._wire.send([data], MARKER_S, lambda: False)
        except LinkDown as error:
            begun.ended(error)
            begun.close()  # nobody else will
            return
        self._on_stream(begun)

    @property
    def has_room(self) -> bool:
        """Whether `received` would not wait."""
        stream = self._stream
        return stream is None or stream.inbox.has_room or stream.inbox.is_over


class FunctionStream(Stream):
    """The bytes of a session, as the device sees them."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self._name = name
        self.inbox = Inbox(wire.wake)
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._closed = False

    def ended(self, error: LinkDown) -> None:
        """The host has ended the session, or is gone."""
        self.inbox.end(error)

    def read(self, size: int, timeout: float | None) -> bytes | memoryview | None:
        return self.inbox.take(timeout)

    reads_into = True

    def read_into(self, room: memoryview, timeout: float | None) -> int | None:
        return self.inbox.take_into(room, timeout)

    def wait_readable(self, timeout: float | None) -> bool:
        return self.inbox.wait(timeout)

    def write(self, data: Message, progress_s: float) -> None:
        self.write_parts((data,), progress_s)

    def write_parts(self, parts: tuple[Message, ...], progress_s: float) -> None:
        pieces = pieces_of(parts)  # all of them are one transfer
        with self._writing:
            for number, piece in enumerate(pieces, 1):
                self.inbox.raise_if_over()
                try:
                    self._wire.send(piece, progress_s, lambda: self.inbox.is_over, ends=number == len(pieces))
                except LinkDown:
                    self.inbox.raise_if_over()
                    raise

    def takes_at_once(self) -> bool:
        return False  # it may be read, or not: only the host knows

    def fileno(self) -> int:
        return self.inbox.fileno()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        by_us = not self.inbox.is_over
        self.inbox.close(LinkDown(f"{self._name} was closed by this side"))
        self._wire.wake()
        if by_us:
            self._wire.halt()

    @property
    def closed(self) -> bool:
        return self._closed
