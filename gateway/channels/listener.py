"""Listener: where channels come from on the serving side. SocketListener: one over a listening socket of any family."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from gateway.channels.base import Channel
from gateway.channels.sockets import SocketStream
from gateway.channels.stream import StreamChannel
from gateway.errors import LinkDown
from gateway.limits import Limits

BACKLOG: Final = 128
MAPPED_IPV4: Final = "::ffff:"
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0

_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_OUT_OF_MEMORY: Final = frozenset({errno.ENOMEM, errno.ENOBUFS})
# accept(2) on Linux also hands over what befell the waiting connection before it was taken.
_PEER_GAVE_UP: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    }
)


class Listener(ABC):
    """Gives a channel for each peer that comes. `accept` is called by one thread, the rest from anywhere."""

    @abstractmethod
    def accept(self) -> Channel | None:
        """The next waiting peer's channel; None when nobody waits, without blocking.

        Also None when a peer could not be served, for want of descriptors or memory: `retry_after_s` then says how long
        to leave the listener alone. Raises LinkDown only if the listener itself can't go on.
        """

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that is readable when `accept` should be called. Raises LinkDown once closed."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients on this machine reach it: with the real port, without secrets."""

    @property
    @abstractmethod
    def local_only(self) -> bool:
        """Whether only this machine, or what a cable joins to it, can reach the listener."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening and remove what listening left in the file system. Channels live on. Idempotent."""

    @property
    @abstractmethod
    def closed(self) -> bool: ...

    @property
    def retry_after_s(self) -> float:
        """After a None from `accept`: call it again after this time and not before, whatever `fileno` says.

        0.0: wait for `fileno`. Above 0 descriptors or memory ran out, or a serial port is gone and may come back.
        """
        return 0.0

    def peer_host(self, channel: Channel) -> str:
        """What connections from one host have in common, for limits per host: its address, or `local`."""
        endpoints = channel.endpoints
        remote = endpoints[1] if endpoints else None
        if isinstance(remote, tuple) and remote and isinstance(remote[0], str):
            return remote[0].removeprefix(MAPPED_IPV4)
        return "local"


class Pause:
    """How long to leave a listener alone: doubled by each failure in a row, up to `LONGEST_PAUSE_S`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def longer(self) -> None:
        self.seconds = min(max(FIRST_PAUSE_S, 2 * self.seconds), LONGEST_PAUSE_S)

    def over(self) -> None:
        self.seconds = 0.0


class SocketListener(Listener):
    """Accepts on `sock`, which is bound, listens and then belongs to the listener.

    `tune` gets each accepted socket before it is used; `on_close` runs once, when the listener closes. When descriptors
    run out, a spare one is given up to take the waiting peer and to close its connection: it sees an end instead of
    waiting, and the queue does not keep the listener busy.
    """

    def __init__(
        self,
        sock: socket.socket,
        url: str,
        limits: Limits,
        *,
        local_only: bool,
        compress: bool = False,
        tune: Callable[[socket.socket], None] = lambda sock: None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._url = url
        self._limits = limits
        self._local_only = local_only
        self._compress = compress
        self._tune = tune
        self._on_close = on_close
        self._pause = Pause()
        self._lock = threading.Lock()
        self._closed = False
        self._spare = _spare_descriptor()

    def accept(self) -> Channel | None:
        sock = self.accept_socket()
        try:
            return None if sock is None else StreamChannel(SocketStream(sock), self._limits, compress=self._compress)
        except OSError:
            if sock is not None:
                sock.close()  # the peer is gone already
            return None

    def accept_socket(self) -> socket.socket | None:
        """The next waiting peer's socket, tuned; None as with `accept`."""
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            self._pause.over()
            return None
        except OSError as error:
            self._survive(error)
            return None
        self._pause.over()
        try:
            self._tune(sock)
        except OSError:
            sock.close()
            return None
        return sock

    def _survive(self, error: OSError) -> None:
        if self._closed or error.errno in _PEER_GAVE_UP:
            return
        if error.errno in _OUT_OF_DESCRIPTORS:
            self._turn_one_away()
        elif error.errno not in _OUT_OF_MEMORY:
            raise LinkDown(f"{self._url} can't accept any more: {error.strerror or error}") from None
        self._pause.longer()

    def _turn_one_away(self) -> None:
        with self._lock:
            if self._closed:
                return
            if self._spare is not None:
                os.close(self._spare)
                with contextlib.suppress(OSError):
                    self._sock.accept()[0].close()
            self._spare = _spare_descriptor()

    @property
    def retry_after_s(self) -> float:
        return self._pause.seconds

    def fileno(self) -> int:
        if self._closed:
            raise LinkDown(f"{self._url} does not listen any more")
        return self._sock.fileno()

    @property
    def url(self) -> str:
        return self._url

    @property
    def local_only(self) -> bool:
        return self._local_only

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._spare is not None:
                os.close(self._spare)
        self._on_close()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes who waits on the descriptor
        self._sock.close()

    @property
    def closed(self) -> bool:
        return self._closed


def _spare_descriptor() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None
