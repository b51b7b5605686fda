"""Stock rpyc under the names the behaviour tests use; `ours.py` is its twin."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any, Final

import rpyc  # type: ignore[import-untyped]
from rpyc.core.protocol import DEFAULT_CONFIG, PingError  # type: ignore[import-untyped]
from rpyc.utils.server import ThreadedServer  # type: ignore[import-untyped]

NAME: Final = "rpyc"

AsyncResultTimeout = rpyc.AsyncResultTimeout
BaseNetref = rpyc.BaseNetref
BgServingThread = rpyc.BgServingThread
Connection = rpyc.Connection
Service = rpyc.Service
VoidService = rpyc.VoidService
async_ = rpyc.async_
buffiter = rpyc.buffiter
exposed = rpyc.exposed
restricted = rpyc.restricted
service = rpyc.service
timed = rpyc.timed

__all__ = ["DEFAULT_CONFIG", "PingError"]

Config = dict[str, Any]


def raw_pair(here: Any, there: Any, config: Config, remote_config: Config) -> tuple[Any, Any]:
    """Two joined connections; nobody serves either. Services are classes or instances."""
    sockets = socket.socketpair()
    settings = ((here, config), (there, remote_config))
    conn, remote = (
        rpyc.connect_stream(rpyc.SocketStream(sock), service, settings)
        for sock, (service, settings) in zip(sockets, settings, strict=True)
    )
    return conn, remote


def served_pair(here: Any, there: Any, config: Config, remote_config: Config) -> tuple[Any, Any]:
    """Two joined connections, the second served in the background."""
    conn, remote = raw_pair(here, there, config, remote_config)

    def serve() -> None:
        # Cut lines and raised SystemExits end this thread by exception; what the tests look at is the other end.
        with suppress(BaseException):
            remote.serve_all()

    threading.Thread(target=serve, daemon=True).start()
    return conn, remote


def settings_of(conn: Any) -> Config:
    """The connection's own config, as a service reads it in `on_connect`."""
    config: Config = conn._config
    return config


def class_name_of(error: Exception) -> str:
    """`module.Class` of a remote exception whose class was not built here."""
    return type(error).__name__


class TidyServer(ThreadedServer):  # type: ignore[misc]
    """ThreadedServer, but its threads die quietly and `settle` closes its sockets instead of the collector."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._served: list[tuple[threading.Thread, socket.socket]] = []

    def _accept_method(self, sock: socket.socket) -> None:
        def serve() -> None:
            with suppress(Exception):
                self._authenticate_and_serve_client(sock)

        thread = threading.Thread(target=serve, daemon=True)
        self._served.append((thread, sock))
        thread.start()

    def settle(self) -> None:
        for thread, sock in self._served:
            thread.join(5)
            sock.close()


class Server:
    """A server of `service` on a loopback port, or on the Unix socket `path`; listens when constructed."""

    def __init__(self, service: Any, config: Config | None = None, *, path: str = "") -> None:
        where: dict[str, Any] = {"socket_path": path} if path else {"hostname": "127.0.0.1", "port": 0}
        self._path = path
        self.clients: list[Any] = []
        self._server = TidyServer(service, protocol_config=dict(config or {}), **where)
        self._thread = self._server._start_in_thread()

    def connect(self, service: Any = VoidService, config: Config | None = None) -> Any:
        """A new client connection, also kept in `clients`; raises OSError when the server is gone."""
        if self._path:
            conn = rpyc.utils.factory.unix_connect(self._path, service, dict(config or {}))
        else:
            conn = rpyc.connect("127.0.0.1", self._server.port, service, dict(config or {}))
        self.clients.append(conn)
        return conn

    def close(self) -> None:
        self._server.close()
        self._thread.join(10)

    def settle(self) -> None:
        """Wait until nothing of the closed server is left."""
        self._server.settle()
