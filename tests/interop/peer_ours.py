"""This project as a peer of the matrix."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import gateway
from gateway import AsyncResultTimeout, async_, buffiter, connect_pair, timed
from tests.interop.bench import ALLOW, Bench

__all__ = ["AsyncResultTimeout", "async_", "buffiter", "timed"]

VERSION = version("instrument-gateway")


class BenchService(Bench, gateway.Service):
    """The bench as a service of ours."""


def connect(url: str) -> Any:
    """A client connection to the server at `url`."""
    return gateway.connect(url)


def class_name_of(error: Any) -> str:
    """`module.Class` of a remote exception whose class was not built here."""
    name: str = error.remote_class
    return name


def connect_inner(plain: type) -> Any:
    """A connection to a service of that class, served in the background."""
    service = type(plain.__name__, (plain, gateway.Service), {})
    return connect_pair(gateway.VoidService, service, {}, ALLOW)[0]


def close(conn: Any) -> None:
    conn.close()


def serve(url: str, config: dict[str, Any], listening: Callable[[str], None]) -> None:
    """Serve the bench at `url` for ever; `listening` is told the URL to connect to."""
    with gateway.Server(BenchService, url, config) as server:
        listening(server.url)
        server.serve_forever()
