"""Admission: who each connection belongs to, and the end of those whose client is revoked.

server ── enter(conn, channel) ──> Principal           clients.json ── revoked ──> conn.abandon
"""

from __future__ import annotations

import logging
from threading import Lock
from typing import Final

from gateway.channels.base import Channel
from gateway.errors import LinkDown
from gateway.identity.clients import Client, Clients
from gateway.identity.principal import Principal
from gateway.server.principals import principal_of
from gateway.sync.connection import Connection

_log: Final = logging.getLogger(__name__)


class Admission:
    """Keeps account of whose connections there are. `clients` is None where nobody comes with a certificate."""

    def __init__(self, clients: Clients | None = None) -> None:
        self._clients = clients
        self._lock = Lock()
        self._inside: dict[Connection, Principal] = {}
        if clients is not None:
            clients.on_revoked.append(self._put_out)

    def start(self) -> None:
        """From now on, notice within about half a second who is revoked, also by another process."""
        if self._clients is not None:
            self._clients.watch()

    def close(self) -> None:
        """Notice no more. Connections stay as they are. Idempotent."""
        if self._clients is not None:
            self._clients.close()

    def enter(self, conn: Connection, channel: Channel) -> Principal:
        """Who is at the other end of `conn`, which goes over `channel`; ended as soon as that client is revoked.

        Raises Unauthenticated for a client that may not come in, ConfigError for a list of clients that is broken. Then
        the connection has to be abandoned, before anything of it is served.
        """
        principal = principal_of(channel, self._clients)
        with self._lock:
            self._inside[conn] = principal
        conn.on_lost.append(self._leave)
        if self._clients is not None and principal.fingerprint:
            # Revoked since it was looked up: nobody was told of this connection then.
            self._clients.admit(principal.fingerprint)
        if conn.closed:
            self._leave(conn)
        return principal

    def principals(self) -> list[Principal]:
        """Who is connected now, one for each connection."""
        with self._lock:
            return list(self._inside.values())

    def _leave(self, conn: Connection) -> None:
        with self._lock:
            self._inside.pop(conn, None)

    def _put_out(self, client: Client) -> None:
        with self._lock:
            theirs = [conn for conn, who in self._inside.items() if who.fingerprint == client.fingerprint]
        _log.warning("%s is revoked: %d connections end", client.name, len(theirs))
        for conn in theirs:
            conn.abandon(LinkDown(f"{client.name} was revoked"))
