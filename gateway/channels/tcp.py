"""tcp://host:port - RPyC over TCP.

    tcp://bench3                  port 18871            tcp://:0          listen on loopback, at any free port
    tcp://[fe80::1%eth0]:4000                           tcp://0.0.0.0     listen on every interface; tcp://[::] IPv6 too

Both ends switch Nagle's algorithm off, and keepalive on, so that a peer that vanished without a word is found within
about `Limits.liveness_s`. Without a host a URL means this machine's loopback.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from functools import partial
from time import monotonic
from typing import Any, Final

from gateway.channels.base import Channel
from gateway.channels.listener import BACKLOG, SocketListener
from gateway.channels.sockets import SocketStream
from gateway.channels.stream import StreamChannel
from gateway.channels.url import DEFAULT_PORT, ChannelUrl, Options, Scheme, host_url
from gateway.errors import ConfigError, GatewayError, NotFound, Unreachable
from gateway.limits import Limits

SCHEME: Final = Scheme(options=Options, takes=frozenset({"host", "port"}), default_port=DEFAULT_PORT)
LOOPBACK: Final = "127.0.0.1"
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are tried."""
PROBES: Final = 3
LONGEST_LIVENESS_S: Final = 32_767
"""What the kernel takes for a keepalive time (tcp(7), MAX_TCP_KEEPIDLE)."""

Address = tuple[int, tuple[Any, ...]]
"""Family and socket address."""


def check(url: ChannelUrl[Options]) -> None:
    """Nothing beyond what `parse_url` checks."""


def connect(url: ChannelUrl[Options], limits: Limits, timeout: float) -> Channel:
    """Try each address of the host, within `timeout` seconds in all (the look-up of the name has its own time limit).

    Raises NotFound for an unknown name, otherwise Unreachable; both say what to check.
    """
    stream = dial(url, limits, timeout)
    return StreamChannel(stream, limits, compress=bool(url.options.compress))


def dial(url: ChannelUrl[Any], limits: Limits, timeout: float) -> SocketStream:
    """The stream of a new connection; see `connect`."""
    if url.port == 0:
        raise ConfigError(f"{url}: port 0 is for listening; give the port that the gateway printed")
    deadline = monotonic() + timeout
    addresses = _addresses(url)
    problem: OSError = TimeoutError()
    for index, address in enumerate(addresses):
        left = deadline - monotonic()
        if left <= 0:
            break
        try:
            sock = _connect_to(address, left / (len(addresses) - index), limits)
        except OSError as error:
            problem = error
            continue
        return SocketStream(sock)
    raise Unreachable(f"can't reach {url}: {_advice(problem, timeout)}")


def _addresses(url: ChannelUrl[Any], flags: int = 0) -> list[Address]:
    host = url.host or LOOPBACK
    try:
        found = socket.getaddrinfo(host, url.port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError) as error:
        raise _lookup_error(url, error) from None
    return [(family, address) for family, _, _, _, address in found[:MAX_ADDRESSES]]


def _lookup_error(url: ChannelUrl[Any], error: Exception) -> GatewayError:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return Unreachable(f"can't reach {url}: the name service does not answer; check the network, or use an address")
    return NotFound(f"{url}: no host of that name; check its spelling, or use an address")


def _connect_to(address: Address, timeout: float, limits: Limits) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)  # SocketStream takes it off again
        sock.connect(where)
        if sock.getsockname() == sock.getpeername():
            # A free local port in the ephemeral range can be given to the very socket that tries to reach it.
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
        tune(sock, limits)
    except OSError:
        sock.close()
        raise
    return sock


def _advice(problem: OSError, timeout: float) -> str:
    if isinstance(problem, ConnectionRefusedError):
        return "nobody listens there; is the gateway running, on this port, and bound to more than its loopback?"
    if isinstance(problem, TimeoutError):
        return f"no answer within {timeout:g} s; check the address, the network and a firewall"
    if problem.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EINVAL}:
        return f"{(problem.strerror or 'no route').lower()}; check the address and this machine's network"
    return problem.strerror or str(problem)


def tune(sock: socket.socket, limits: Limits) -> None:
    """NODELAY, and keepalive that gives up after about `limits.liveness_s` seconds of silence."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    liveness_s = min(limits.liveness_s, LONGEST_LIVENESS_S)
    interval = max(1, round(liveness_s / (2 * PROBES)))
    idle = max(1, round(liveness_s) - PROBES * interval)
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", PROBES),
        # Data that is never acknowledged would otherwise be resent for a quarter of an hour.
        ("TCP_USER_TIMEOUT", max(1000, round(liveness_s * 1000))),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def listen(url: ChannelUrl[Any], limits: Limits) -> SocketListener:
    """Bind and listen. Raises ConfigError if the address can't be used, NotFound for an unknown name."""
    family, where = _addresses(url, socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and where[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # tcp://[::] means every interface, IPv4 too
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"can't listen at {url}: {_listen_advice(error)}") from None
    bound = sock.getsockname()
    return SocketListener(
        sock,
        host_url(url.scheme, bound[0], bound[1]),
        limits,
        local_only=ipaddress.ip_address(bound[0].partition("%")[0]).is_loopback,
        compress=bool(url.options.compress),
        tune=partial(tune, limits=limits),
    )


def _listen_advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; stop it or choose another port (0 takes a free one)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; use one of its own, or 0.0.0.0 for all of them"
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges; choose a higher one"
    return error.strerror or str(error)
