"""Doorman: the listener that lets in only who proves who it is.

    socket ── accept ──> strangers ── handshake, certificate, list of clients ──> waiting ── accept() ──> server
                             └── too much, too slow, too many, no proof ──> closed

One thread does all of it, for any number of peers, and waits for none. What a server is given has proved who it is, so
nothing of a stranger ever reaches the server: it costs no thread, no place among the connections, no memory but that
of its handshake, which begins with its first bytes. It may send `Limits.handshake_bytes` and take `handshake_s`. One
stranger too many pushes out the one of the busiest host that has been there longest: a flood keeps nobody else out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from gateway.channels.base import Channel
from gateway.channels.listener import MAPPED_IPV4, Listener, SocketListener
from gateway.channels.sockets import SocketStream
from gateway.channels.stream import StreamChannel
from gateway.channels.tls_stream import Engine, TlsStream
from gateway.errors import GatewayError, LinkDown, ProtocolError, Unauthenticated
from gateway.limits import Limits

_log: Final = logging.getLogger(__name__)

_AT_ONCE: Final = 32
"""Peers taken in before those who are here already are looked after again."""
_COMPLAIN_S: Final = 1.0
"""Strangers who were not let in are logged this often."""
_IDLE_S: Final = 60.0

# A record is type, version (2), length (2); the message in it type, length (3), body (RFC 8446 sections 4 and 5.1).
_HANDSHAKE: Final = b"\x16"
_TYPE_AT: Final = 5
_CLIENT_HELLO: Final = 1
_BODY_AT: Final = 9

Admit = Callable[[bytes], str]
"""Certificate in DER -> the client's name. Raises GatewayError for one that may not come in."""


@dataclass(slots=True, eq=False)
class _Stranger:
    """A peer that has not proved yet who it is."""

    sock: socket.socket
    host: str
    until: float
    room: int
    """Bytes that it may still send."""
    begun: bytes = b""
    """What came, until it is enough to see that a handshake of a size that may be begins."""
    engine: Engine | None = None
    """From then on."""


class Doorman(Listener):
    """Lets in who comes to `door` with a certificate that `context` and `admit` accept. Takes ownership of `door`."""

    def __init__(
        self, door: SocketListener, context: ssl.SSLContext, admit: Admit, limits: Limits, *, compress: bool = False
    ) -> None:
        self._door = door
        self._context = context
        self._admit = admit
        self._limits = limits
        self._compress = compress
        self._strangers: dict[int, _Stranger] = {}
        """By descriptor, the one that came first in front."""
        self._by_host: Counter[str] = Counter()
        self._waiting: deque[Channel] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._failure: LinkDown | None = None
        self._refused = 0
        self._complained_at = -_COMPLAIN_S
        self._door_opens_at = 0.0
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(door.fileno(), selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="gateway-doorman", daemon=True)
        self._thread.start()

    # -- for the server ---------------------------------------------------------------------------------------------

    def accept(self) -> Channel | None:
        with self._lock:
            if self._closed:
                return None
            channel = self._waiting.popleft() if self._waiting else None
            if not self._waiting and self._failure is None:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._ready)
        if channel is None and self._failure is not None:
            raise self._failure
        return channel

    def fileno(self) -> int:
        if self._closed:
            raise LinkDown(f"{self.url} does not listen any more")
        return self._ready

    @property
    def url(self) -> str:
        return self._door.url

    @property
    def local_only(self) -> bool:
        return self._door.local_only

    @property
    def strangers(self) -> int:
        """How many peers have not proved yet who they are."""
        return len(self._strangers)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            unwanted = list(self._waiting)
            self._waiting.clear()
            os.close(self._ready)
            os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
            os.close(self._wake)
        for channel in unwanted:
            channel.close()

    @property
    def closed(self) -> bool:
        return self._closed

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        except Exception as problem:  # noqa: BLE001 - the server has to hear that nobody comes any more
            _log.exception("%s: nobody is let in any more", self.url)
            self._fail(LinkDown(f"{self.url} can't let anybody in any more: {problem}"))
        finally:
            for stranger in list(self._strangers.values()):
                self._dismiss(stranger)
            self._selector.close()
            self._door.close()

    def _turn(self) -> None:
        now = monotonic()
        for key, _ in self._selector.select(self._patience(now)):
            stranger = self._strangers.get(key.fd)
            if stranger is not None:
                self._hear(stranger)
            elif key.fd != self._wake:
                self._take_in()
        now = monotonic()
        self._dismiss_the_slow(now)
        if self._door_opens_at and now >= self._door_opens_at and not self._closed:
            self._door_opens_at = 0.0
            self._selector.register(self._door.fileno(), selectors.EVENT_READ)

    def _patience(self, now: float) -> float:
        waits = [_IDLE_S]
        first = next(iter(self._strangers.values()), None)
        if first is not None:
            waits.append(first.until - now)
        if self._door_opens_at:
            waits.append(self._door_opens_at - now)
        return max(0.0, min(waits))

    def _take_in(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                sock = self._door.accept_socket()
                if sock is None:
                    break
                self._greet(sock)
            if self._door.retry_after_s > 0:
                self._selector.unregister(self._door.fileno())
                self._door_opens_at = monotonic() + self._door.retry_after_s
        except LinkDown as error:
            if not self._closed:
                with contextlib.suppress(LinkDown, KeyError, ValueError):
                    self._selector.unregister(self._door.fileno())
                self._fail(error)

    def _greet(self, sock: socket.socket) -> None:
        try:
            host = str(sock.getpeername()[0]).removeprefix(MAPPED_IPV4)
        except OSError:
            sock.close()  # gone already
            return
        self._make_room(host)
        stranger = _Stranger(sock, host, monotonic() + self._limits.handshake_s, self._limits.handshake_bytes)
        self._strangers[sock.fileno()] = stranger
        self._by_host[host] += 1
        self._selector.register(sock, selectors.EVENT_READ)

    def _make_room(self, host: str) -> None:
        if self._by_host[host] >= self._limits.handshakes_per_host:
            busiest = host
        elif len(self._strangers) >= self._limits.handshakes:
            busiest = self._by_host.most_common(1)[0][0]
        else:
            return
        oldest = next(stranger for stranger in self._strangers.values() if stranger.host == busiest)
        self._complain(oldest, "too many are at the door")
        self._dismiss(oldest)

    def _dismiss_the_slow(self, now: float) -> None:
        while self._strangers:
            first = next(iter(self._strangers.values()))
            if first.until > now:
                return
            self._complain(first, f"no proof within {self._limits.handshake_s:g} s")
            self._dismiss(first)

    # -- one stranger -----------------------------------------------------------------------------------------------

    def _hear(self, stranger: _Stranger) -> None:
        """Go on with its handshake by what came. Whatever it does, nobody else notices."""
        try:
            engine = self._go_on(stranger)
            if engine is not None:
                self._let_in(stranger, engine)
        except BlockingIOError:
            pass
        except ssl.SSLError as problem:
            self._say(stranger)  # TLS's own word for it
            self._turn_away(stranger, _reason(problem))
        except GatewayError as problem:
            self._turn_away(stranger, str(problem))
        except OSError:
            self._dismiss(stranger)  # it has gone

    def _go_on(self, stranger: _Stranger) -> Engine | None:
        """The engine, once its handshake is complete. Raises ssl.SSLError, GatewayError, OSError."""
        data = stranger.sock.recv(stranger.room, socket.MSG_DONTWAIT)
        if not data:
            raise ConnectionResetError
        stranger.room -= len(data)
        engine = stranger.engine
        if engine is None:
            stranger.begun = data = stranger.begun + data
            if not _hello_begins(data, self._limits.handshake_bytes):
                return None
            engine = stranger.engine = Engine.of(self._context, server=True)
        engine.incoming.write(data)
        complete = engine.handshake()
        self._say(stranger)
        if complete:
            return engine
        if stranger.room <= 0:
            raise ProtocolError(f"it sent {self._limits.handshake_bytes} bytes and no proof")
        return None

    def _say(self, stranger: _Stranger) -> None:
        words = stranger.engine.outgoing.read() if stranger.engine is not None else b""
        if words and stranger.sock.send(words, socket.MSG_DONTWAIT) < len(words):
            raise ConnectionAbortedError("it takes nothing")

    def _let_in(self, stranger: _Stranger, engine: Engine) -> None:
        certificate = engine.tls.getpeercert(binary_form=True)
        if certificate is None:
            raise Unauthenticated("it has no certificate")
        name = self._admit(certificate)
        self._leave(stranger)
        channel = StreamChannel(TlsStream(SocketStream(stranger.sock), engine), self._limits, compress=self._compress)
        _log.debug("%s: %s came in from %s", self.url, name, stranger.host)
        with self._lock:
            if not self._closed and len(self._waiting) < self._limits.connections:
                self._waiting.append(channel)
                os.eventfd_write(self._ready, 1)
                return
        channel.close()

    def _turn_away(self, stranger: _Stranger, why: str) -> None:
        self._complain(stranger, why)
        self._dismiss(stranger)

    def _dismiss(self, stranger: _Stranger) -> None:
        self._leave(stranger)
        stranger.sock.close()

    def _leave(self, stranger: _Stranger) -> None:
        """It is a stranger no more."""
        fd = stranger.sock.fileno()
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(fd)
        if self._strangers.pop(fd, None) is not None:
            self._by_host[stranger.host] -= 1
            if not self._by_host[stranger.host]:
                del self._by_host[stranger.host]

    def _complain(self, stranger: _Stranger, why: str) -> None:
        self._refused += 1
        now = monotonic()
        if now - self._complained_at >= _COMPLAIN_S:
            _log.warning(
                "%s: %d were not let in; the last one, from %s: %s", self.url, self._refused, stranger.host, why
            )
            self._refused, self._complained_at = 0, now

    def _fail(self, failure: LinkDown) -> None:
        with self._lock:
            if not self._closed:
                self._failure = failure
                os.eventfd_write(self._ready, 1)


def _hello_begins(data: bytes, most: int) -> bool:
    """Whether a ClientHello begins that has at most `most` bytes; False while that can't be seen yet.

    OpenSSL takes memory for as many bytes as a message says it has, up to 128 KiB, before they have come. Raises
    ProtocolError for what is no ClientHello of that size.
    """
    if data[:1] != _HANDSHAKE or (len(data) > _TYPE_AT and data[_TYPE_AT] != _CLIENT_HELLO):
        raise ProtocolError("it does not speak TLS")
    if len(data) < _BODY_AT:
        return False
    size = int.from_bytes(data[_TYPE_AT + 1 : _BODY_AT], "big")
    if size > most:
        raise ProtocolError(f"it begins with {size} bytes, and may send {most} before it proves who it is")
    return True


def _reason(problem: ssl.SSLError) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not good here: {problem.verify_message}"
    word = problem.reason or str(problem)
    if word == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it has no certificate"
    return f"it does not speak TLS 1.3 as we do ({word.lower().replace('_', ' ')})"
