"""Fifty clients that each send a call as soon as the last one is answered, from one loop over raw sockets.

What they send is made once, so that they cost little: one process keeps up with a server that has a CPU to itself.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

from measure import WARM_UP, Site

from gateway.protocol.brine import dump, load
from gateway.protocol.constants import Handler

CLIENTS: Final = 50
BLOCKED: Final = 5
BLOCKED_S: Final = 2.0
_HEADER: Final = struct.Struct("!LB")


def rate(site: Site) -> float:
    """Calls per second of all clients together."""
    times, elapsed = _load(site)
    return len(times) / elapsed


def slowest(site: Site) -> float:
    """Microseconds within which 99 of 100 calls are answered."""
    return 1e6 * quantiles(_load(site)[0], n=100)[98]


def rate_beside_blocked(site: Site) -> float:
    """As `rate`, while five more clients are in calls that block for two seconds."""
    with _clients(site, BLOCKED) as others:
        for sock, root in others:
            sock.sendall(_call(root, "block", BLOCKED_S))
        return rate(site)


def _load(site: Site) -> tuple[list[float], float]:
    """How long each call took, and how long it was measured."""
    with _clients(site, CLIENTS) as clients, select.epoll() as poller:
        requests: dict[int, tuple[socket.socket, bytes]] = {}
        begun: dict[int, float] = {}
        for sock, root in clients:
            poller.register(sock, select.EPOLLIN)
            requests[sock.fileno()] = sock, _call(root, "method", 1)
        for number, (sock, request) in requests.items():
            begun[number] = perf_counter()
            sock.sendall(request)
        _turn(poller, requests, begun, site.seconds * WARM_UP)
        begin = perf_counter()
        times = _turn(poller, requests, begun, site.seconds)
        return times, perf_counter() - begin


def _turn(
    poller: select.epoll, requests: dict[int, tuple[socket.socket, bytes]], begun: dict[int, float], seconds: float
) -> list[float]:
    times: list[float] = []
    end = perf_counter() + seconds
    while True:
        for number, _ in poller.poll(1.0):
            sock, request = requests[number]
            if not sock.recv(4096):
                raise EOFError("the server closed a connection")
            now = perf_counter()
            times.append(now - begun[number])
            begun[number] = now
            sock.send(request)
        if perf_counter() > end:
            return times


@contextmanager
def _clients(site: Site, count: int) -> Iterator[list[tuple[socket.socket, Any]]]:
    """Sockets, and what the root is called on each."""
    parts = urlsplit(site.endpoints["tcp-nodelay"])
    clients: list[tuple[socket.socket, Any]] = []
    try:
        for _ in range(count):
            sock = socket.create_connection((parts.hostname, parts.port), timeout=10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(_request(Handler.GETROOT, (1, ())))
            clients.append((sock, _answer(sock)))
        yield clients
    finally:
        for sock, _ in clients:
            sock.close()


def _request(handler: int, box: Any) -> bytes:
    message = b"\x01" + dump((1000, (int(handler), box)))
    return _HEADER.pack(len(message), 0) + message + b"\n"


def _call(root: Any, name: str, argument: float) -> bytes:
    return _request(Handler.CALLATTR, (2, ((3, root), (1, name), (1, (argument,)), (1, ()))))


def _answer(sock: socket.socket) -> Any:
    """The object that an answer names."""
    data = b""
    while len(data) < _HEADER.size or len(data) < _HEADER.size + _HEADER.unpack_from(data)[0] + 1:
        data += sock.recv(4096)
    _, (_, reference) = load(data[_HEADER.size + 1 : -1])
    return reference
