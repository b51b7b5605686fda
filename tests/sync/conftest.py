"""Servers, clients and joined pairs that are closed after the test, whatever it did to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

import gateway
from tests.behaviour.lines import cut

CALL_S = 10.0
"""No call of these tests takes as long as that: a lost answer is an error and no hang."""


def _config(given: dict[str, Any] | None) -> dict[str, Any]:
    return {"sync_request_timeout": CALL_S, **(given or {})}


@pytest.fixture
def serve() -> Iterator[Callable[..., gateway.Server]]:
    """`serve(service, url=, config=, limits=, strict=)` -> a started server."""
    with ExitStack() as stack:

        def serve(
            service: Any, url: str = "tcp://127.0.0.1:0", config: dict[str, Any] | None = None, **how: Any
        ) -> gateway.Server:
            server = gateway.Server(service, url, _config(config), **how)
            stack.callback(server.close)
            server.start()
            return server

        yield serve


@pytest.fixture
def connect() -> Iterator[Callable[..., gateway.Connection]]:
    """`connect(server, service=, config=, background=)` -> a client connection."""
    with ExitStack() as stack:

        def connect(server: gateway.Server, service: Any = gateway.VoidService, config: Any = None, **how: Any) -> Any:
            conn = gateway.connect(server.url, service, _config(config), timeout=5, **how)
            stack.callback(_end, conn)
            return conn

        yield connect


@pytest.fixture
def pair() -> Iterator[Callable[..., tuple[Any, Any]]]:
    """`pair(here, there, config=, remote_config=, served=)` -> two joined connections of this process.

    Nobody serves the first one but its own callers; the other is served in the background, unless `served=False`.
    """
    with ExitStack() as stack:

        def pair(
            here: Any = gateway.VoidService,
            there: Any = gateway.VoidService,
            config: dict[str, Any] | None = None,
            remote_config: dict[str, Any] | None = None,
            *,
            served: bool = True,
            **how: Any,
        ) -> tuple[Any, Any]:
            from gateway.channels import memory_pair

            ours, theirs = memory_pair(how.get("limits"))
            remote = gateway.connect_channel(theirs, there, _config(remote_config), background=served, **how)
            conn = gateway.connect_channel(ours, here, _config(config), background=False, limits=how.get("limits"))
            for end in (conn, remote):
                stack.callback(_end, end)
            return conn, remote

        yield pair


def _end(conn: gateway.Connection) -> None:
    """Close without waiting for an answer, and without minding what a test broke."""
    with suppress(Exception):
        cut(conn)
    with suppress(Exception):
        conn.close()
