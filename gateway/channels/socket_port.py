"""socket://host:port - RPyC over a serial port that a device server passes on as bare bytes, such as ser2net's `raw`.

    socket://10.0.0.7:4001                              the link goes as fast as the network takes it
    socket://10.0.0.7:4001?baudrate=115200              the speed of the line behind it: nothing piles up there

The same URL as pyserial's. Both ends of RPyC may be reached like this: what connects to the device server here may
serve as well as call. Nothing is encrypted, and nobody is asked who they are: docs/reference/channels.md.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from typing import Any, Final

from gateway.channels import tcp
from gateway.channels.base import Channel
from gateway.channels.line import connect_line, line_trunk, listen_line
from gateway.channels.line_options import LineOptions, check_framing
from gateway.channels.listener import Listener
from gateway.channels.ports import Port, SocketPort
from gateway.channels.trunk import Trunk
from gateway.channels.url import ChannelUrl, Scheme
from gateway.errors import ConfigError, GatewayError, NotFound, Unreachable
from gateway.limits import Limits

SCHEME: Final = Scheme(options=LineOptions, takes=frozenset({"host", "port"}))


def check(url: ChannelUrl[LineOptions]) -> None:
    check_place(url)
    check_framing(url)


def connect(url: ChannelUrl[LineOptions], limits: Limits, timeout: float) -> Channel:
    """See `connect_line`."""
    return connect_line(url, partial(open_port, url, limits), limits, timeout)


def listen(url: ChannelUrl[LineOptions], limits: Limits) -> Listener:
    """See `listen_line`."""
    return listen_line(url, partial(open_port, url, limits), limits, local_only=is_here(url))


def trunk(url: ChannelUrl[LineOptions], limits: Limits) -> Trunk:
    """See `line_trunk`."""
    return line_trunk(url, partial(open_port, url, limits), limits)


def open_port(url: ChannelUrl[LineOptions], limits: Limits, timeout: float) -> Port:
    """Connect to the device server. Raises NotFound for an unknown host, Unreachable if nobody answers."""
    return SocketPort(connect_socket(url, limits, timeout), url.shown.partition("?")[0])


# ------------------------------------------------------------------------------------- shared with the rfc2217 scheme


def check_place(url: ChannelUrl[Any]) -> None:
    """Raise ConfigError where host or port is missing: a device server has no usual one."""
    if not url.host or not url.port:
        raise ConfigError(f"{url.shown!r} needs the device server's host and port: {url.scheme}://host:port")


def is_here(url: ChannelUrl[Any]) -> bool:
    """Whether the device server runs on this machine."""
    try:
        return ipaddress.ip_address((url.host or "").partition("%")[0]).is_loopback
    except ValueError:
        return url.host == "localhost"


def connect_socket(url: ChannelUrl[Any], limits: Limits, timeout: float) -> socket.socket:
    """A connected socket that finds a vanished server by keepalive. Raises NotFound, Unreachable."""
    try:
        sock = socket.create_connection((url.host or "", url.port or 0), timeout=timeout)
    except OSError as error:
        raise connection_error(url, error) from None
    try:
        tcp.tune(sock, limits)
    except OSError as error:
        sock.close()
        raise connection_error(url, error) from None
    return sock


def connection_error(url: ChannelUrl[Any], error: OSError) -> GatewayError:
    """The error for a device server that could not be connected to."""
    if isinstance(error, socket.gaierror):
        return NotFound(f"{url}: no host of that name; check its spelling, or use an address")
    reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
    return Unreachable(f"can't reach the device server at {url.host}:{url.port}: {reason.lower()}")
