"""rfc2217://host:port - RPyC over a serial port that a device server passes on with its settings (RFC 2217).

    rfc2217://10.0.0.7:2217?baudrate=921600&dtr=off

The protocol is pyserial's, whose port has no descriptor: two threads carry its bytes to and from a pair of sockets,
which has one. Nothing is encrypted, and nobody is asked who they are: docs/reference/channels.md.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from serial import rfc2217

from gateway.channels.base import Channel
from gateway.channels.line import connect_line, line_trunk, listen_line
from gateway.channels.line_options import PortOptions, check_port_options, level
from gateway.channels.listener import Listener
from gateway.channels.ports import CHUNK, LineKeeper, Port, PortSettings, SocketPort
from gateway.channels.socket_port import check_place, connection_error, is_here
from gateway.channels.trunk import Trunk
from gateway.channels.url import READ, ChannelUrl, Scheme, flag
from gateway.errors import ConfigError, GatewayError, Unreachable
from gateway.limits import Limits

IDLE_S: Final = 0.5
"""How long a read may take before it is looked whether the port is still wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rfc2217Options(PortOptions):
    dtr_at_close: bool | None = field(default=None, metadata={READ: level})
    """None: the device server does as it likes."""
    rts_at_close: bool | None = field(default=None, metadata={READ: level})
    ign_set_control: bool = field(default=False, metadata={READ: flag})
    """Go on though the server does not confirm flow control, DTR and RTS."""


SCHEME: Final = Scheme(options=Rfc2217Options, takes=frozenset({"host", "port"}))


def check(url: ChannelUrl[Rfc2217Options]) -> None:
    check_place(url)
    check_port_options(url)


def connect(url: ChannelUrl[Rfc2217Options], limits: Limits, timeout: float) -> Channel:
    """See `connect_line`."""
    return connect_line(url, partial(open_port, url, limits), limits, timeout)


def listen(url: ChannelUrl[Rfc2217Options], limits: Limits) -> Listener:
    """See `listen_line`."""
    return listen_line(url, partial(open_port, url, limits), limits, local_only=is_here(url))


def trunk(url: ChannelUrl[Rfc2217Options], limits: Limits) -> Trunk:
    """See `line_trunk`."""
    return line_trunk(url, partial(open_port, url, limits), limits)


def open_port(url: ChannelUrl[Rfc2217Options], limits: Limits, timeout: float) -> Port:
    """Connect to the device server and set its port.

    Raises NotFound for an unknown host, Unreachable if nobody answers or what answers knows no RFC 2217, ConfigError if
    it refuses the settings.
    """
    name, settings = url.shown.partition("?")[0], url.options.settings
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    options = f"?timeout={timeout:g}" + ("&ign_set_control" if url.options.ign_set_control else "")
    port = _RemotePort()
    port.keep_lines(settings)
    port.timeout = IDLE_S
    port.port = f"rfc2217://{host}:{url.port}{options}"
    settings.apply(port)
    try:
        port.open()
    except (OSError, ValueError, AttributeError) as error:  # AttributeError: its reader found the port closed under it
        raise _refused(url, name, error) from None
    return _Pump(port, settings, name, limits).port


def _refused(url: ChannelUrl[Rfc2217Options], name: str, error: Exception) -> GatewayError:
    if isinstance(error.__context__, OSError):  # as it connected: pyserial keeps the text only
        return connection_error(url, error.__context__)
    if isinstance(error, ValueError):
        return ConfigError(f"{name}: the device server refuses these settings: {error}")
    return Unreachable(f"{name}: the device server does not do as RFC 2217 says: {error}")


class _RemotePort(LineKeeper, rfc2217.Serial):
    """pyserial's port. Where the server has hung up, its `close` leaves the socket to the garbage collector."""

    _socket: socket.socket | None

    def close(self) -> None:
        sock = self._socket
        super().close()
        if sock is not None:
            sock.close()


class _RemoteEnd(SocketPort):
    """What a link reads and writes of a remote port. Its lines are set past the bytes."""

    def __init__(self, sock: socket.socket, name: str, remote: _RemotePort, settings: PortSettings) -> None:
        super().__init__(sock, name)
        self._remote = remote
        self.dtr, self.rts = settings.dtr is not False, settings.rts is not False

    def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        if dtr is not None:
            self._remote.dtr = dtr
        if rts is not None:
            self._remote.rts = rts

    def send_break(self, seconds: float) -> None:
        self._remote.send_break(seconds)


class _Pump:
    """Carries bytes between a port of pyserial's and a pair of sockets, until either ends."""

    def __init__(self, remote: _RemotePort, settings: PortSettings, name: str, limits: Limits) -> None:
        self._remote = remote
        self._settings = settings
        ours, self._theirs = socket.socketpair()
        self._theirs.settimeout(limits.progress_s)
        self.port = _RemoteEnd(ours, name, remote, settings)
        for job in (self._carry_out, self._carry_in):
            threading.Thread(target=job, name=f"{name} {job.__name__.strip('_')}", daemon=True).start()

    def _carry_in(self) -> None:
        """From the line to the socket. A reader that takes nothing ends it: pyserial's queue has no bound."""
        with contextlib.suppress(OSError):  # gone, or closed: the other end of the pair is told below
            while self._remote.is_open:
                data = self._remote.read(max(1, min(CHUNK, self._remote.in_waiting)))
                if data:
                    self._theirs.sendall(data)
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)

    def _carry_out(self) -> None:
        """From the socket to the line; closes both."""
        with contextlib.suppress(OSError):
            while True:
                try:
                    data = self._theirs.recv(CHUNK)
                except TimeoutError:
                    continue
                if not data:
                    break
                self._remote.write(data)
        self._restore_lines()
        self._remote.close()
        self._theirs.close()

    def _restore_lines(self) -> None:
        with contextlib.suppress(OSError):
            if self._settings.dtr_at_close is not None:
                self._remote.dtr = self._settings.dtr_at_close
            if self._settings.rts_at_close is not None:
                self._remote.rts = self._settings.rts_at_close
