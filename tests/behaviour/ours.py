"""This project's RPyC under the names the behaviour tests use; `stock.py` is its twin."""

from __future__ import annotations

from typing import Any, Final

import gateway
from gateway import (
    DEFAULT_CONFIG,
    AsyncResultTimeout,
    BgServingThread,
    Connection,
    PingError,
    Service,
    VoidService,
    async_,
    buffiter,
    exposed,
    restricted,
    service,
    timed,
)
from gateway.channels import memory_pair
from gateway.sync.netref import BaseNetref

NAME: Final = "ours"

__all__ = [
    "DEFAULT_CONFIG",
    "AsyncResultTimeout",
    "BaseNetref",
    "BgServingThread",
    "Connection",
    "PingError",
    "Service",
    "VoidService",
    "async_",
    "buffiter",
    "exposed",
    "restricted",
    "service",
    "timed",
]

Config = dict[str, Any]


def raw_pair(here: Any, there: Any, config: Config, remote_config: Config) -> tuple[Any, Any]:
    """Two joined connections; nobody serves either. Services are classes or instances."""
    channels = memory_pair()
    settings = ((here, config), (there, remote_config))
    conn, remote = (
        gateway.connect_channel(channel, service, settings, background=False)
        for channel, (service, settings) in zip(channels, settings, strict=True)
    )
    return conn, remote


def served_pair(here: Any, there: Any, config: Config, remote_config: Config) -> tuple[Any, Any]:
    """Two joined connections, the second served in the background."""
    return gateway.connect_pair(here, there, config, remote_config)


def settings_of(conn: Any) -> Config:
    """The connection's own config, as a service reads it in `on_connect`."""
    config: Config = conn.config
    return config


def class_name_of(error: Exception) -> str:
    """`module.Class` of a remote exception whose class was not built here."""
    name: str = error.remote_class  # type: ignore[attr-defined]
    return name


class Server:
    """A server of `service` on a loopback port, or on the Unix socket `path`; listens when constructed."""

    def __init__(self, service: Any, config: Config | None = None, *, path: str = "") -> None:
        self._server = gateway.Server(service, f"unix://{path}" if path else "tcp://127.0.0.1:0", dict(config or {}))
        self._server.start()
        self.clients: list[Any] = []

    def connect(self, service: Any = VoidService, config: Config | None = None) -> Any:
        """A new client connection, also kept in `clients`; raises EOFError when the server is gone."""
        conn = gateway.connect(self._server.url, service, dict(config or {}), timeout=2)
        self.clients.append(conn)
        return conn

    def close(self) -> None:
        self._server.close()

    def settle(self) -> None:
        """`close` has left nothing behind."""
