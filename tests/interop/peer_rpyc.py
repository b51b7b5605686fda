"""Stock rpyc (6.0.2, or 5.3.1 where that comes first on the path) as a peer of the matrix."""

from __future__ import annotations

import os
import tty
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import rpyc  # type: ignore[import-untyped]
from rpyc.core.stream import PipeStream  # type: ignore[import-untyped]
from rpyc.utils.factory import unix_connect  # type: ignore[import-untyped]

from tests.interop.bench import ALLOW, Bench

VERSION: str = rpyc.__version__

AsyncResultTimeout = rpyc.AsyncResultTimeout
async_ = rpyc.async_
buffiter = rpyc.buffiter
timed = rpyc.timed


class BenchService(Bench, rpyc.Service):  # type: ignore[misc]
    """The bench as a service of stock rpyc."""


def connect(url: str) -> Any:
    """A client connection to the server at `url`."""
    parts = urlsplit(url)
    if parts.scheme == "tcp":
        return rpyc.connect(parts.hostname, parts.port)
    if parts.scheme == "unix":
        return unix_connect(parts.path)
    return rpyc.connect_stream(open_tty(parts.path))


def class_name_of(error: Exception) -> str:
    """`module.Class` of a remote exception whose class was not built here."""
    return type(error).__name__


def connect_inner(plain: type) -> Any:
    """A connection to a service of that class, served by a thread of this process."""
    service = type(plain.__name__, (plain, rpyc.Service), {})
    return rpyc.connect_thread(remote_service=service, remote_config=ALLOW)


def close(conn: Any) -> None:
    """Close as rpyc's users do. It waits for the line's end, which never comes on a tty: there the wait is short."""
    if isinstance(conn._channel.stream, PipeStream):
        conn._config["sync_request_timeout"] = 0.3
    conn.close()


def serve(url: str, config: dict[str, Any], listening: Callable[[str], None]) -> None:
    """Serve the bench at `url` for ever; `listening` is told the URL to connect to."""
    parts = urlsplit(url)
    if parts.scheme == "serial":
        serve_tty(parts.path, config, listening)
        return
    where = {"socket_path": parts.path} if parts.scheme == "unix" else {"hostname": parts.hostname, "port": 0}
    server = rpyc.ThreadedServer(BenchService, protocol_config=config, **where)
    server._listen()  # `start` alone would not return to tell the port
    listening(url if parts.scheme == "unix" else f"tcp://127.0.0.1:{server.port}")
    server.start()


def open_tty(path: str) -> Any:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    return PipeStream(open(fd, "rb", buffering=0), open(os.dup(fd), "wb", buffering=0))


def serve_tty(path: str, config: dict[str, Any], listening: Callable[[str], None]) -> None:
    stream = open_tty(path)
    listening(f"serial://{path}")
    rpyc.connect_stream(stream, BenchService, config).serve_all()
