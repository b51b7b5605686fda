"""SocketStream: a connected stream socket, tuned so that the common read is one system call."""

from __future__ import annotations

import contextlib
import select
import socket
from struct import pack
from time import monotonic
from typing import Final

from gateway.channels.stream import Stream
from gateway.errors import LinkDown
from gateway.protocol.framing import Message

TICK_S: Final = 0.02
"""SO_RCVTIMEO of a socket: a blocking read looks at its deadline this often. A shorter wait polls first.

It is also how long a worker lingers on a connection (reactor.LINGER_S), so that lingering is one system call too."""
_DONTWAIT: Final = socket.MSG_DONTWAIT
_WAITALL: Final = socket.MSG_WAITALL
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


class SocketStream(Stream):
    """A socket of any family. Takes ownership of `sock`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        _set_receive_timeout(sock, TICK_S)
        self._sock = sock
        self._recv = sock.recv
        self._send = sock.send
        self._sent: list[int] = []
        self._size = 0
        self._quick_ack = sock.family != getattr(socket, "AF_UNIX", None) and _QUICKACK is not None
        self._closed = False

    def read(self, size: int, timeout: float | None) -> bytes | None:
        try:
            if timeout is None or timeout >= TICK_S:
                try:
                    chunk = self._recv(size)
                except BlockingIOError:
                    chunk = self._read_on(size, timeout)
            else:
                chunk = self._recv_within(size, timeout)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone(f"the connection was lost: {error.strerror or error}") from None
        if not chunk:
            raise self._gone("the peer closed the connection")
        return chunk

    reads_into = True

    def read_into(self, room: memoryview, timeout: float | None) -> int | None:
        try:
            if timeout is not None and timeout < TICK_S and not self.wait_readable(timeout):
                return None
            try:
                count = self._sock.recv_into(room, 0, _WAITALL)  # for a tick at most
            except BlockingIOError:
                if not self.wait_readable(None if timeout is None else max(0.0, timeout - TICK_S)):
                    return None
                count = self._sock.recv_into(room, 0, _DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone(f"the connection was lost: {error.strerror or error}") from None
        if not count:
            raise self._gone("the peer closed the connection")
        return count

    def _recv_within(self, size: int, timeout: float) -> bytes:
        """What is here, or comes within less than a tick; BlockingIOError when nothing does."""
        if timeout > 0:
            with contextlib.suppress(BlockingIOError):
                return self._recv(size, _DONTWAIT)
            self.wait_readable(timeout)
        return self._recv(size, _DONTWAIT)

    def _read_on(self, size: int, timeout: float | None) -> bytes:
        """Go on with a blocking read that SO_RCVTIMEO has interrupted once; BlockingIOError when its time is over."""
        # The first tick has passed before the clock is read at all: that keeps the common case short.
        deadline = None if timeout is None else monotonic() - TICK_S + timeout
        while True:
            remaining = TICK_S if deadline is None else deadline - monotonic()
            if remaining < TICK_S:
                self.wait_readable(max(0.0, remaining))
                return self._recv(size, _DONTWAIT)
            with contextlib.suppress(BlockingIOError):
                return self._recv(size)

    def _gone(self, why: str) -> LinkDown:
        """Why there is nothing to read any more; a close in another thread looks like many other things."""
        return LinkDown("the connection was closed by this side" if self._closed else why)

    def acknowledge(self) -> None:
        # The kernel forgets the option again at once, so it is set each time.
        if self._quick_ack:
            try:  # noqa: SIM105 - once for each call of a stock peer, and `suppress` costs as much again
                self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # type: ignore[arg-type]
            except OSError:
                pass

    def assume_prompt_peer(self) -> None:
        self._quick_ack = False

    def write(self, data: Message, progress_s: float) -> None:
        # An interrupt (Ctrl-C) may come when the system call is done: `extend` notes its result before Python looks.
        sent: list[int] = []
        self._sent = sent
        self._size = len(data)
        try:
            sent.extend(map(self._send, (data,), (_DONTWAIT,)))
        except BlockingIOError:
            sent.append(0)
        except OSError as error:
            raise LinkDown(f"the connection was lost: {error.strerror or error}") from None
        if sent[0] < self._size:
            self._write_rest(memoryview(data)[sent[0] :], progress_s)

    @property
    def wrote_whole(self) -> bool:
        return self._sent == [self._size]

    def take_exactly(self, data: bytes) -> bool:
        return self.take_whole(len(data), data) is not None

    def take_whole(self, size: int, data: bytes | None = None) -> bytes | None:
        """What has come, if that is `size` bytes, and just `data` where it is given; else None. Never waits."""
        try:
            ahead = self._recv(size + 1, _DONTWAIT | socket.MSG_PEEK)
            if len(ahead) != size or (data is not None and ahead != data):
                return None
            return self._recv(size, _DONTWAIT)
        except OSError:
            return None  # whoever reads next finds out

    def takes_at_once(self) -> bool:
        # Linux calls a socket writable when a third of its buffer or more is free.
        try:
            return bool(select.select((), (self._sock,), (), 0)[1])
        except (OSError, ValueError):
            return False

    def _write_rest(self, rest: memoryview, progress_s: float) -> None:
        poller = select.poll()
        try:
            poller.register(self._sock, select.POLLOUT)
            while rest:
                if not poller.poll(progress_s * 1000):
                    raise LinkDown(f"the peer took no data for {progress_s:g} s")
                with contextlib.suppress(BlockingIOError):
                    rest = rest[self._sock.send(rest, _DONTWAIT) :]
        except (OSError, ValueError) as error:
            raise LinkDown(f"the connection was lost: {error}") from None

    @property
    def writable(self) -> bool:
        """Whether the socket takes something at once. Raises LinkDown once closed."""
        try:
            poller = select.poll()
            poller.register(self._sock, select.POLLOUT)
            return bool(poller.poll(0))
        except (OSError, ValueError):
            raise LinkDown("the connection was closed by this side") from None

    def wait_readable(self, timeout: float | None) -> bool:
        try:
            poller = select.poll()
            poller.register(self._sock, select.POLLIN)
            return bool(poller.poll(None if timeout is None else timeout * 1000))
        except (OSError, ValueError):
            raise LinkDown("the connection was closed by this side") from None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def endpoints(self) -> tuple[object, object] | None:
        try:
            return self._sock.getsockname(), self._sock.getpeername()
        except OSError:
            return None


def _set_receive_timeout(sock: socket.socket, seconds: float) -> None:
    whole, micros = int(seconds), int(seconds % 1 * 1_000_000)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pack("@ll", whole, micros))
    except OSError:
        # 32-bit systems whose time_t has 64 bits want a wider struct timeval.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pack("@qq", whole, micros))
