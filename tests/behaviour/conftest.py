"""Every test of this folder runs on stock rpyc first and on this project's RPyC then, over the same fixtures."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.behaviour.lines import cut

IMPLEMENTATIONS = ("rpyc", "ours")

Connect = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stock's own untidiness (a serving thread that dies noisily, a socket left to the collector) is not under test."""
    for item in items:
        if "[rpyc" in item.name and "behaviour" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))


@pytest.fixture(params=IMPLEMENTATIONS)
def rpc(request: pytest.FixtureRequest) -> Any:
    """The implementation under test: a module with the names of `stock.py`."""
    module = {"rpyc": "tests.behaviour.stock", "ours": "tests.behaviour.ours"}[request.param]
    return importlib.import_module(module)


@pytest.fixture
def as_service(rpc: Any) -> Callable[[type], type]:
    """Make a service class of a plain class that holds `exposed_` members and hooks."""

    def compose(plain: type) -> type:
        return plain if issubclass(plain, rpc.Service) else type(plain.__name__, (plain, rpc.Service), {})

    return compose


@pytest.fixture
def connect_both(rpc: Any, as_service: Callable[[type], type]) -> Iterator[Connect]:
    """`connect_both(Remote, config=, service=, remote_config=, served=True)` -> (our connection, the peer's).

    `Remote` and `service` are plain classes, service classes or service instances; the default is a service without
    members. The peer serves in the background unless `served=False`. Both ends are closed after the test.
    """
    with ExitStack() as stack:

        def connect_both(
            remote_service: Any = None,
            *,
            service: Any = None,
            config: dict[str, Any] | None = None,
            remote_config: dict[str, Any] | None = None,
            served: bool = True,
        ) -> tuple[Any, Any]:
            here, there = (
                rpc.VoidService if it is None else as_service(it) if isinstance(it, type) else it
                for it in (service, remote_service)
            )
            pair = (rpc.served_pair if served else rpc.raw_pair)(here, there, config or {}, remote_config or {})
            stack.callback(close_both, *pair)
            return pair  # type: ignore[no-any-return]

        yield connect_both


def close_both(conn: Any, remote: Any) -> None:
    """Close without waiting for a peer that nobody serves, and without minding what a test broke."""
    with suppress(Exception):
        cut(conn)
    for end in (conn, remote):
        with suppress(Exception):
            end.close()


@pytest.fixture
def connect(connect_both: Connect) -> Connect:
    """`connect_both`, for tests that look at one end only."""

    def connect(*args: Any, **kwargs: Any) -> Any:
        return connect_both(*args, **kwargs)[0]

    return connect


def end(server: Any) -> None:
    """Close the server after the clients that a test left open."""
    for client in server.clients:
        with suppress(Exception):
            client.close()
    server.close()
    server.settle()


@pytest.fixture
def serve(rpc: Any, as_service: Callable[[type], type]) -> Iterator[Callable[..., Any]]:
    """`serve(Remote, config=None, path="")` -> a listening server; its `connect` makes clients."""
    with ExitStack() as stack:

        def serve(service: Any, config: dict[str, Any] | None = None, **how: Any) -> Any:
            server = rpc.Server(as_service(service) if isinstance(service, type) else service, config, **how)
            stack.callback(end, server)
            return server

        yield serve
