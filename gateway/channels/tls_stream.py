"""TlsStream: TLS over a socket, for a reader and a writer at once.

    read   socket ── bytes ──> incoming ── OpenSSL ──> data
    write  data ── OpenSSL ──> outgoing ── bytes ──> socket

OpenSSL's state is no place for two threads, so a lock is held while it works, and never while anything is waited for.
All waiting, and all that can be said about a broken socket, is `SocketStream`'s.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Final

from gateway.channels.sockets import SocketStream
from gateway.channels.stream import Stream
from gateway.errors import LinkDown
from gateway.protocol.framing import Message

RECORD: Final = 16 * 1024
"""Data of one TLS record, at most."""
MAX_READ: Final = 256 * 1024
MAX_WRITE: Final = 64 * 1024
"""Data that is sealed before it is sent."""
MAX_REPLIES: Final = 16 * 1024
"""Bytes that the peer's own messages, such as requests for new keys, may have us owe it."""
_SEALING: Final = 22
"""Bytes that a record of TLS 1.3 has beside its data: header, kind, and a tag that is as long for all its ciphers."""
_REPLY_S: Final = 1.0

_REFUSED: Final = {
    "CERTIFICATE_REQUIRED": "it wants a certificate and got none",
    "UNKNOWN_CA": "this computer's certificate is from another gateway, or from one that was set up anew",
    "CERTIFICATE_EXPIRED": "this computer's certificate has expired there; compare the clocks",
    "CERTIFICATE_REVOKED": "this computer was revoked",
    "BAD_CERTIFICATE": "this computer's certificate can't be used",
    "CERTIFICATE_UNKNOWN": "this computer's certificate can't be used",
    "UNSUPPORTED_CERTIFICATE": "this computer's certificate is for another purpose",
    "ACCESS_DENIED": "this computer may not come in",
}
_PAIR: Final = "pair this computer with it: `gateway pair` there, `gateway trust` here"


@dataclass(slots=True)
class Engine:
    """OpenSSL's side of one connection: an object, and what goes into it and comes out of it."""

    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO

    @classmethod
    def of(cls, context: ssl.SSLContext, *, server: bool) -> Engine:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(context.wrap_bio(incoming, outgoing, server_side=server), incoming, outgoing)

    def handshake(self) -> bool:
        """Go on with the handshake; whether it is complete. Raises ssl.SSLError."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


class TlsStream(Stream):
    """Data over `under`, by an engine whose handshake is complete. Takes ownership of `under`."""

    def __init__(self, under: SocketStream, engine: Engine) -> None:
        self._under = under
        self._tls = engine.tls
        self._incoming = engine.incoming
        self._outgoing = engine.outgoing
        self._state = Lock()
        """Held while OpenSSL works."""
        self._writing = Lock()
        """Held while anything is sent, so that it is sent in the order in which it was sealed."""
        self._unread = True
        """There may be data that came already: after the handshake, and where a read stopped before its end."""
        self._ahead = b""
        """Data that was looked at and is to be read first."""
        self._heard = engine.tls.server_side
        self._turned_away = False
        self._pieces_left = 0
        self._closed = False
        self._certificate = engine.tls.getpeercert(binary_form=True)

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, size: int, timeout: float | None) -> bytes | None:
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        if self._unread:
            data = self._open(b"", size)
            if data:
                return data
        deadline = None if not timeout else monotonic() + timeout
        wait = timeout
        while True:
            chunk = self._receive(max(1, min(size, MAX_READ) - self._incoming.pending), wait)
            if chunk is None:
                return None
            data = self._open(chunk, size)
            if data:
                return data
            # A part of a record, or one that holds no data.
            if deadline is not None:
                wait = max(0.0, deadline - monotonic())

    def take_exactly(self, data: bytes) -> bool:
        if self.buffered or self._incoming.pending:
            return False
        record = self._under.take_whole(len(data) + _SEALING)
        if record is None:
            return False
        try:
            self._ahead = self._open(record, RECORD)
        except LinkDown:
            self._unread = True  # whoever reads next finds out
            return False
        if self._ahead != data:
            return False
        self._ahead = b""
        return True

    def _receive(self, size: int, wait: float | None) -> bytes | None:
        try:
            return self._under.read(size, wait)
        except LinkDown as lost:
            raise self._explained(lost) from None

    def _explained(self, lost: LinkDown) -> LinkDown:
        """A gateway can't refuse a client before the client's own handshake is over: it looks like a broken line."""
        if self._heard or (self._closed and not self._turned_away):
            return lost
        self._turned_away = True  # what other threads meet after the connection was closed for it has the same cause
        return LinkDown(f"{lost} before it said anything: it may not know this computer any more; {_PAIR}")

    def _open(self, chunk: bytes, size: int) -> bytes:
        """The data of what has come; empty where that is none. Leaves nothing unread unless `size` bytes are full."""
        with self._state:
            try:
                self._incoming.write(chunk)
                data = self._tls.read(min(size, RECORD))
                if not data:
                    raise LinkDown("the peer closed the connection")
                left = size - len(data)
                if left and (self._incoming.pending or self._tls.pending()):
                    data += self._open_more(left)
                self._unread = len(data) == size
                self._heard = True
            except ssl.SSLWantReadError:
                data = b""
                self._unread = False
            except ssl.SSLError as problem:
                raise self._broken(problem) from None
            owed = self._outgoing.pending
        if owed:
            self._reply(owed)
        return data

    def _open_more(self, size: int) -> bytes:
        parts = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while size and (part := self._tls.read(min(size, RECORD))):
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def _reply(self, owed: int) -> None:
        """Send what OpenSSL answers by itself, such as its part of new keys. Whoever writes just now sends it too."""
        if owed > MAX_REPLIES:
            raise LinkDown("the peer asks for new keys without end")
        if self._writing.acquire(blocking=False):
            try:
                self._send_if_possible()
            finally:
                self._writing.release()

    def _send_if_possible(self) -> None:
        """Send what is sealed. Where the socket takes nothing just now it stays, and goes before what is sent next."""
        if self._under.writable:
            with self._state:
                sealed = self._outgoing.read()
            self._under.write(sealed, _REPLY_S)

    def _broken(self, problem: ssl.SSLError) -> LinkDown:
        if self._closed:
            return LinkDown("the connection was closed by this side")
        reason = str(problem.reason or problem)
        for alert, meaning in _REFUSED.items():
            if reason.endswith(f"ALERT_{alert}"):
                return LinkDown(f"the gateway refuses: {meaning}; {_PAIR}")
        return LinkDown(f"the connection was lost: what came was no TLS, or was changed on its way ({reason.lower()})")

    def wait_readable(self, timeout: float | None) -> bool:
        return self.buffered or self._under.wait_readable(timeout)

    @property
    def buffered(self) -> bool:
        if self._ahead and not self._closed:
            return True
        return self._unread and bool(self._incoming.pending or self._tls.pending()) and not self._closed

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, data: Message, progress_s: float) -> None:
        with self._writing:
            size = len(data)
            if size <= MAX_WRITE:
                self._pieces_left = 1
                self._write_piece(data, progress_s)
                return
            rest = memoryview(data)
            self._pieces_left = -(-size // MAX_WRITE)
            while rest:
                self._write_piece(rest[:MAX_WRITE], progress_s)
                rest = rest[MAX_WRITE:]
                self._pieces_left -= bool(rest)

    def _write_piece(self, piece: Message | memoryview, progress_s: float) -> None:
        with self._state:
            try:
                self._tls.write(piece)
            except ssl.SSLError as problem:
                raise self._broken(problem) from None
            sealed = self._outgoing.read()
        try:
            self._under.write(sealed, progress_s)
        except LinkDown as lost:
            raise self._explained(lost) from None

    def takes_at_once(self) -> bool:
        return not self._writing.locked() and self._under.takes_at_once()

    @property
    def wrote_whole(self) -> bool:
        return self._pieces_left == 1 and self._under.wrote_whole

    # -- the rest ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._say_goodbye()
            self._under.close()

    def _say_goodbye(self) -> None:
        """TLS's own end of file, if it can be said without waiting for anybody."""
        if not self._writing.acquire(blocking=False):
            return
        try:
            with self._state, contextlib.suppress(ssl.SSLError, ValueError):
                self._tls.unwrap()
            with contextlib.suppress(LinkDown):
                self._send_if_possible()
        finally:
            self._writing.release()

    @property
    def closed(self) -> bool:
        return self._closed

    def fileno(self) -> int:
        return self._under.fileno()

    def acknowledge(self) -> None:
        self._under.acknowledge()

    def assume_prompt_peer(self) -> None:
        self._under.assume_prompt_peer()

    @property
    def endpoints(self) -> tuple[object, object] | None:
        return self._under.endpoints

    @property
    def certificate(self) -> bytes | None:
        return self._certificate
