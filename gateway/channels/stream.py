"""StreamChannel: RPyC frames over anything that carries a stream of bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import monotonic
from typing import Final

from gateway.channels.base import Account, Channel
from gateway.errors import LinkDown, ProtocolError
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.protocol.framing import (
    HEADER,
    HEADERS,
    HEARTBEAT,
    SHORT,
    TERMINATOR,
    WORTH_ITS_MEMORY,
    FrameDecoder,
    Message,
    frame,
    header,
    whole_message,
)

CHUNK: Final = 32 * 1024
"""What a read asks for. From 64 KiB on, each buffer that is freed makes glibc tidy up its heap."""
LARGE_CHUNK: Final = 1024 * 1024
LARGE_MESSAGE: Final = 256 * 1024
TURN_S: Final = 0.01
"""How far over its timeout `recv_within` goes on while bytes come that are no message yet, such as heartbeats."""


_header: Final = HEADER.pack


class Stream(ABC):
    """A pair of byte streams: what a socket, a pipe pair and a tty have in common."""

    @abstractmethod
    def read(self, size: int, timeout: float | None) -> bytes | memoryview | None:
        """At most `size` bytes, or all that has come where it is here anyway; at least one. None if none came within
        `timeout` seconds (0: don't wait, None: for ever). A memoryview is lent until the next `read`.

        Raises LinkDown at the end of the stream and for every way in which the other end can be gone.
        """

    def read_into(self, room: memoryview, timeout: float | None) -> int | None:
        """As `read`, but the bytes are put into `room`: how many there were. Only where `reads_into`.

        May wait for as many as there is room for, but not long: `timeout` is for the first ones.
        """
        raise NotImplementedError

    reads_into = False
    """Whether it can, without reading first and copying then."""

    @abstractmethod
    def write(self, data: Message, progress_s: float) -> None:
        """Write all of `data`. Raises LinkDown if the peer is gone or took nothing for `progress_s` seconds."""

    def write_parts(self, parts: tuple[Message, ...], progress_s: float) -> None:
        """Write the parts of one large message, without putting them together where that can be saved."""
        for part in parts:
            self.write(part, progress_s)

    @abstractmethod
    def wait_readable(self, timeout: float | None) -> bool:
        """Wait until `read` would give something (also an end of stream)."""

    def takes_at_once(self) -> bool:
        """See `Channel.takes_at_once`."""
        return False

    def take_exactly(self, data: bytes) -> bool:
        """Read `data` where it is all that has come; whether it was. Never waits. False where nobody can look ahead."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Close both directions and wake a blocked `read`. Idempotent."""

    @property
    @abstractmethod
    def closed(self) -> bool: ...

    @abstractmethod
    def fileno(self) -> int: ...

    @property
    def wrote_whole(self) -> bool:
        """After an interrupt of `write`: whether all of it is out."""
        return False

    @property
    def buffered(self) -> bool:
        """`read` may give something without waiting on `fileno`."""
        return False

    def acknowledge(self) -> None:
        """See `Channel.acknowledge`."""

    def assume_prompt_peer(self) -> None:
        """See `Channel.assume_prompt_peer`."""

    @property
    def endpoints(self) -> tuple[object, object] | None:
        return None

    @property
    def certificate(self) -> bytes | None:
        """See `Channel.certificate`."""
        return None

    @property
    def ends_with_eof(self) -> bool:
        return True


class StreamChannel(Channel):
    """Frames messages over a `Stream`.

    `compress` deflates what gets smaller by it: worth it on slow lines only (SPEED: zlib is slower than a LAN).
    """

    keeps_nothing = True

    def __init__(self, stream: Stream, limits: Limits | None = None, *, compress: bool = False) -> None:
        self._stream = stream
        self._limits = limits or DEFAULT_LIMITS
        self._progress_s = self._limits.progress_s
        self._compress = compress
        self._decoder = FrameDecoder(self._limits)
        self._progress_at = 0.0
        self._read = stream.read
        self._write = stream.write
        self._in_parts = False
        self._heard = True
        self._between_frames = True
        """Nothing of a frame is here, and nothing is charged for one."""
        self._plain = 0 if compress else min(LARGE_MESSAGE, self._limits.frame + 1)
        """Messages shorter than this leave as they are, in one piece."""

    def heard(self) -> bool:
        heard, self._heard = self._heard, False
        return heard

    def take_heartbeat(self) -> bool:
        if self._decoder.begun or not self._stream.take_exactly(HEARTBEAT):
            return False
        self._heard = True
        return True

    def send(self, data: Message) -> None:
        size, progress_s = len(data), self._progress_s
        if size < self._plain:
            self._write((HEADERS[size] if size < SHORT else _header(size, 0)) + data + TERMINATOR, progress_s)
        elif size < LARGE_MESSAGE or self._compress:
            self._write(frame(data, self._limits, compress=self._compress), progress_s)
        else:
            # Two more system calls cost less than another copy.
            self._in_parts = True
            self._stream.write_parts((header(data, self._limits), data, TERMINATOR), progress_s)
            self._in_parts = False

    def send_many(self, messages: Sequence[Message]) -> None:
        pieces: list[Message] = []
        for message in messages:
            if self._compress:
                pieces.append(frame(message, self._limits, compress=True))
            else:
                pieces += header(message, self._limits), message, TERMINATOR
        self._write(b"".join(pieces), self._progress_s)

    def takes_at_once(self) -> bool:
        return self._stream.takes_at_once()

    def recv(self) -> Message:
        while True:
            message = self.recv_within(None)
            if message is not None:
                return message

    def recv_within(self, timeout: float | None) -> Message | None:
        if not self._between_frames:
            return self._go_on(timeout)
        # Nearly always, and one read brings one message: nothing to be put together.
        begin = 0.0 if timeout is None else monotonic()
        chunk = self._read(CHUNK, timeout)
        if chunk is None:
            return None
        self._heard = True
        message = whole_message(chunk, self._limits)
        if message is not None:
            return message
        return self._settled(self._put_together(chunk, timeout, begin + (timeout or 0.0)))

    def _go_on(self, timeout: float | None) -> Message | None:
        """The next message, where something is here already."""
        message = None if self._decoder.metered else self._decoder.next_message()  # it came together with the last one
        if message is None:
            message = self._put_together(None, timeout, 0.0 if timeout is None else monotonic() + timeout)
        return self._settled(message)

    def _settled(self, message: Message | None) -> Message | None:
        self._between_frames = not (self._decoder.begun or self._decoder.metered)
        return message

    def _put_together(self, chunk: bytes | memoryview | None, timeout: float | None, deadline: float) -> Message | None:
        """The next message, from `chunk` and what comes until the deadline."""
        decoder = self._decoder
        if decoder.metered:
            decoder.settle()
        message = decoder.next_message() if decoder.begun else None
        if message is not None:
            return message
        if chunk is not None:
            self._heard = True
            decoder.receive(chunk)
            message = self._looked_at()
        wait = timeout
        while message is None:
            if not self._receive(wait):
                return None
            message = self._looked_at()
            if message is None and timeout is not None:
                now = monotonic()
                if now > deadline + TURN_S:
                    return None
                wait = max(0.0, deadline - now)
        return message

    def _looked_at(self) -> Message | None:
        """A message, if there is one now that something has come."""
        message = self._decoder.next_message()
        if self._decoder.begun:
            self._progress_at = monotonic()
            self._stream.acknowledge()
        return message

    def _receive(self, wait: float | None) -> bool:
        """Read once. Goes on with a begun frame no longer than its progress limit allows."""
        decoder = self._decoder
        if not decoder.begun:
            chunk = self._read(CHUNK, wait)
            if chunk is None:
                return False
            decoder.receive(chunk)
        else:
            patience = max(0.0, self._progress_at + self._limits.progress_s - monotonic())
            if not self._receive_rest(patience if wait is None else min(wait, patience)):
                if self.stalled(monotonic()):
                    raise ProtocolError(f"a begun frame made no progress for {self._limits.progress_s:g} s")
                return False
        self._heard = True
        return True

    def _receive_rest(self, wait: float) -> bool:
        room = self._decoder.room if self._stream.reads_into else None
        if room is not None:
            with room:
                count = self._stream.read_into(room, wait)
            self._decoder.filled(count or 0)
            return count is not None
        # So much that the frame gets its memory with it, but no more: the rest can go there at once.
        size = min(max(CHUNK, self._decoder.missing // WORTH_ITS_MEMORY), LARGE_CHUNK)
        chunk = self._read(size, wait)
        if chunk is not None:
            self._decoder.receive(chunk)
        return chunk is not None

    def charge_to(self, account: Account) -> None:
        super().charge_to(account)
        self._decoder.meter = self._charge

    def _charge(self, size: int) -> None:
        account, more = self.account, size - self._decoder.metered
        if account is not None:
            account.take(more) if more > 0 else account.give(-more)

    def poll(self, timeout: float | None) -> bool:
        return self._decoder.ready or self._stream.wait_readable(timeout)

    @property
    def buffered(self) -> bool:
        return self._decoder.ready or self._stream.buffered

    def stalled(self, now: float) -> bool:
        return self._decoder.begun and not self._decoder.ready and now > self._progress_at + self._limits.progress_s

    def close(self) -> None:
        self._stream.close()
        self._decoder = FrameDecoder(self._limits)  # what had come is of no use; a thread that still reads has its own

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def fileno(self) -> int:
        if self._stream.closed:
            raise LinkDown("the channel is closed")
        return self._stream.fileno()

    @property
    def wrote_whole(self) -> bool:
        return self._stream.wrote_whole and not self._in_parts

    def acknowledge(self) -> None:
        self._stream.acknowledge()

    def assume_prompt_peer(self) -> None:
        self._stream.assume_prompt_peer()

    @property
    def endpoints(self) -> tuple[object, object] | None:
        return self._stream.endpoints

    @property
    def certificate(self) -> bytes | None:
        return self._stream.certificate

    @property
    def ends_with_eof(self) -> bool:
        return self._stream.ends_with_eof
