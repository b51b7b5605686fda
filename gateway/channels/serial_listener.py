"""SerialListener: the serving side of a line with framing=raw, one channel after the other.

A line that is silent has no channel. The first byte on it makes `accept` give one. When that channel is closed the port
listens again, and three cases differ:

    the peer said CLOSE       what came after its last message is the next client's: the next channel begins with it
    a frame was damaged       input is thrown away until the line was quiet for `QUIET_S`, then the port listens again
    the port was unplugged    a thread tries to open it until it is back
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from gateway.channels.base import Channel
from gateway.channels.listener import Listener, Pause
from gateway.channels.ports import OpenPort, Port, discard_input
from gateway.channels.serial_stream import SerialStream
from gateway.channels.stream import StreamChannel
from gateway.channels.url import ChannelUrl
from gateway.errors import GatewayError, LinkDown, ProtocolError
from gateway.limits import Limits
from gateway.protocol.framing import Message

QUIET_S: Final = 0.1
"""After a damaged frame, bytes that follow each other faster than this belong to the damage."""
STALE_S: Final = 0.2
OPEN_S: Final = 10.0
REOPEN_S: Final = 0.1
"""How often a lost port is looked for."""


class SerialChannel(StreamChannel):
    """A channel over a port that outlives it.

    `on_close` gets what was received and not taken; None after a damaged frame.
    """

    thrifty = True

    def __init__(
        self,
        stream: SerialStream,
        limits: Limits,
        *,
        compress: bool,
        unread: bytes,
        on_close: Callable[[bytes | None], None],
    ) -> None:
        super().__init__(stream, limits, compress=compress)
        self._line = self._decoder
        self._line.receive(unread)
        self._between_frames = not unread
        self._progress_at = monotonic()
        self._on_close = on_close
        self._damaged = False
        self._closing = threading.Lock()

    def recv_within(self, timeout: float | None) -> Message | None:
        try:
            return super().recv_within(timeout)
        except ProtocolError:
            self._damaged = True
            raise

    def close(self) -> None:
        with self._closing:
            if self._stream.closed:
                return
            self._stream.close()
        # Who watches the channel may have found the stall before a read did.
        damaged = self._damaged or self.stalled(monotonic())
        self._on_close(None if damaged else self._line.rest())


class SerialListener(Listener):
    """Listens at the port of `url`, and keeps it open between channels. One channel lives at a time.

    Making one raises as `open_port` does. `fileno` is a descriptor of its own, beside the live channel's.
    """

    def __init__(self, url: ChannelUrl[Any], open_port: OpenPort, limits: Limits, *, local_only: bool) -> None:
        self._url = url
        self._open_port = open_port
        self._limits = limits
        self._local_only = local_only
        self._port: Port | None = open_port(OPEN_S)
        self._unread = b""
        self._live: SerialChannel | None = None
        self._noise_at: float | None = None
        self._pause = Pause()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        with contextlib.suppress(OSError):  # gone already: `accept` will notice
            discard_input(self._port, STALE_S)
        # An epoll descriptor is readable while one of those in it is: the port is in it while the port listens.
        self._ready = select.epoll()
        self._nudge = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ready.register(self._nudge, select.EPOLLIN)
        self._watch()

    def accept(self) -> Channel | None:
        with self._lock:
            if self.closed or self._live is not None:
                return None
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._nudge)
            if self._port is None or not (self._unread or self._input_waits(self._port)):
                return None
            try:
                self._live = self._new_channel(self._port)
            except OSError:
                self._pause.longer()  # no descriptor left
                return None
            self._unwatch()
            self._pause.over()
            return self._live

    def _new_channel(self, port: Port) -> SerialChannel:
        fd = os.dup(port.fileno())
        try:
            stream = SerialStream(port, fd, owns=False)
        except OSError:
            os.close(fd)
            raise
        unread, self._unread = self._unread, b""
        return SerialChannel(
            stream, self._limits, compress=self._url.options.deflates, unread=unread, on_close=self._listen_again
        )

    def _listen_again(self, unread: bytes | None) -> None:
        """The live channel was closed."""
        with self._lock:
            self._live = None
            if self.closed:
                if self._port is not None:
                    self._port.close()
                return
            if unread is None:
                self._noise_at = monotonic()
                self._drop_input()
            elif unread:
                self._unread = unread
                os.eventfd_write(self._nudge, 1)
            self._watch()

    def _input_waits(self, port: Port) -> bool:
        """Whether somebody began to speak. Notices a port that is gone, and drops what follows a damaged frame."""
        poller = select.poll()
        poller.register(port.fileno(), select.POLLIN)
        events = dict(poller.poll(0)).get(port.fileno(), 0)
        if events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self._lose_port(port)
            return False
        return bool(events) and not self._is_noise()

    def _is_noise(self) -> bool:
        if self._noise_at is None:
            return False
        now = monotonic()
        if now - self._noise_at >= QUIET_S:
            self._noise_at = None
            return False
        self._noise_at = now
        self._drop_input()
        return True

    # ---------------------------------------------------------------------------------------------------- the port

    def _drop_input(self) -> None:
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.discard_input()

    def _watch(self) -> None:
        if self._port is not None:
            self._ready.register(self._port.fileno(), select.EPOLLIN)

    def _unwatch(self) -> None:
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._ready.unregister(self._port.fileno())

    def _lose_port(self, port: Port) -> None:
        self._unwatch()
        self._port = None
        self._unread = b""
        threading.Thread(target=self._reopen, args=(port,), name=f"reopen {self._url}", daemon=True).start()

    def _reopen(self, lost: Port) -> None:
        """Open the port as soon as it is back. Opening may wait, so the loop that accepts can't do it."""
        lost.close()
        while not self._ended.wait(REOPEN_S):
            try:
                port = self._open_port(OPEN_S)
            except GatewayError:
                continue  # not back yet, or udev has not set its permissions yet
            with self._lock:
                if self.closed:
                    port.close()
                    return
                self._port = port
                self._watch()
                return

    @property
    def retry_after_s(self) -> float:
        return self._pause.seconds

    def fileno(self) -> int:
        if self.closed:
            raise LinkDown(f"{self._url} does not listen any more")
        return self._ready.fileno()

    @property
    def url(self) -> str:
        return self._url.shown

    @property
    def local_only(self) -> bool:
        return self._local_only

    def peer_host(self, channel: Channel) -> str:
        return self._url.path or self._url.shown

    def close(self) -> None:
        with self._lock:
            if self.closed:
                return
            self._ended.set()
            self._ready.close()
            os.close(self._nudge)
            if self._port is not None and self._live is None:  # a live channel needs the port's lines as they are
                self._port.close()

    @property
    def closed(self) -> bool:
        return self._ended.is_set()
