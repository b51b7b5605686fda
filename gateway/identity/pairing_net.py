"""Pairing over TCP: the gateway's desk, where clients come with a code, and the client that goes there.

The desk is a listener of its own for as long as a code is good; the gateway's own port has no part in it. One thread
looks after a few peers at a time, each for ten seconds.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from gateway.errors import ConfigError, GatewayError, LinkDown, NotFound, ProtocolError, Unreachable
from gateway.identity.pairing import MAX_MESSAGE, ClientSide, GatewaySide, Inbox, Invitation, Issue, Paired, framed

DEFAULT_PORT: Final = 18872
PEER_S: Final = 10.0
PEERS: Final = 8
"""At the desk at a time; one more takes the place of the one that has been there longest."""
TICK_S: Final = 0.25
_CHUNK: Final = 4096


@dataclass(slots=True, eq=False)
class _Peer:
    sock: socket.socket
    side: GatewaySide
    until: float
    inbox: Inbox = field(default_factory=Inbox)


class PairingDesk:
    """Listens at `host` (empty: every interface) and `port` (0: any free one) for clients that know the code."""

    def __init__(self, invitation: Invitation, issue: Issue, *, host: str = "", port: int = DEFAULT_PORT) -> None:
        """Raises ConfigError where it can't listen there."""
        self._invitation = invitation
        self._issue = issue
        self._listener = _listening(host, port)
        self._peers: dict[int, _Peer] = {}
        self.failures: list[str] = []
        """Why peers were refused."""

    @property
    def port(self) -> int:
        """The real one."""
        return int(self._listener.getsockname()[1])

    def run(self, stopped: Callable[[], bool] = lambda: False) -> str:
        """Serve until a client is paired, the code is good no more, or `stopped()`. Why the code is good no more.

        Empty where it was `stopped`. Whether a client was paired is what the invitation's `used` says.
        """
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(self._listener, selectors.EVENT_READ)
            try:
                while not stopped():
                    problem = self._invitation.problem(monotonic())
                    if problem:
                        return problem
                    for key, _ in selector.select(TICK_S):
                        peer = self._peers.get(key.fd)
                        if peer is None:
                            self._take_in(selector)
                        else:
                            self._hear(peer, selector)
                    self._dismiss_the_slow(selector)
                return ""
            finally:
                for peer in list(self._peers.values()):
                    self._dismiss(peer, selector)

    def _take_in(self, selector: selectors.BaseSelector) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # gone again
        sock.setblocking(False)
        if len(self._peers) >= PEERS:
            self._dismiss(next(iter(self._peers.values())), selector)
        self._peers[sock.fileno()] = _Peer(sock, GatewaySide(self._invitation, self._issue), monotonic() + PEER_S)
        selector.register(sock, selectors.EVENT_READ)

    def _hear(self, peer: _Peer, selector: selectors.BaseSelector) -> None:
        try:
            data = peer.sock.recv(_CHUNK)
            message = peer.inbox.receive(data, peer.side.max_message) if data else None
            if message is not None:
                reply = framed(peer.side.receive(message, monotonic()))
                if peer.sock.send(reply) < len(reply):
                    raise ConnectionAbortedError
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as problem:
            self.failures.append(str(problem))
            self._dismiss(peer, selector)
            return
        if peer.side.failure:
            self.failures.append(peer.side.failure)
        if peer.side.finished or not data:
            self._dismiss(peer, selector)

    def _dismiss_the_slow(self, selector: selectors.BaseSelector) -> None:
        now = monotonic()
        for peer in [peer for peer in self._peers.values() if peer.until <= now]:
            self._dismiss(peer, selector)

    def _dismiss(self, peer: _Peer, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(peer.sock)
        self._peers.pop(peer.sock.fileno(), None)
        peer.sock.close()


def pair_with(host: str, port: int, side: ClientSide, *, timeout: float = PEER_S) -> Paired:
    """Go to the desk at `host` and come back with a certificate, within `timeout` seconds for each answer.

    Raises NotFound and Unreachable where there is no desk, and what `ClientSide.receive` raises.
    """
    try:
        sock = socket.create_connection((host, port), timeout=timeout)
    except socket.gaierror:
        raise NotFound(f"no host {host[:80]!r}; check its spelling, or use an address") from None
    except OSError as problem:
        raise Unreachable(f"can't reach {host}, port {port}: {_advice(problem)}") from None
    with sock:
        return _converse(sock, side, host)


def _converse(sock: socket.socket, side: ClientSide, host: str) -> Paired:
    message, inbox = side.hello(), Inbox()
    try:
        while message:
            sock.sendall(framed(message))
            answer = None
            while answer is None:
                data = sock.recv(_CHUNK)
                if not data:
                    raise LinkDown(
                        f"{host} closed the connection; is the code still good? run `gateway pair` there again"
                    )
                answer = inbox.receive(data, MAX_MESSAGE)
            message = side.receive(answer)
    except OSError as problem:
        if isinstance(problem, GatewayError):
            raise
        raise Unreachable(f"{host} went away while pairing: {problem.strerror or 'no answer'}") from None
    assert side.result is not None
    return side.result


def _listening(host: str, port: int) -> socket.socket:
    try:
        if host:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            return _no_wait(socket.create_server((host, port), family=family))
        if socket.has_dualstack_ipv6():
            return _no_wait(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True))
        return _no_wait(socket.create_server(("", port)))
    except OSError as problem:
        hint = "; is another `gateway pair` running?" if problem.errno == errno.EADDRINUSE else ""
        raise ConfigError(f"can't wait for clients at port {port}: {problem.strerror or problem}{hint}") from None


def _no_wait(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


def _advice(problem: OSError) -> str:
    if isinstance(problem, ConnectionRefusedError):
        return "nobody waits for clients there; run `gateway pair` on the gateway first"
    if isinstance(problem, TimeoutError):
        return "no answer; check the address, the network and a firewall"
    return (problem.strerror or str(problem)).lower()
