"""Servers: many clients at once, over TCP and Unix sockets, and servers that end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

Serve = Callable[..., Any]


class Bench:
    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.count = 0
        self.gone = 0

    def on_disconnect(self, conn: Any) -> None:
        self.gone += 1

    def exposed_add(self, left: int, right: int) -> int:
        return left + right

    def exposed_next(self) -> int:
        self.count += 1
        return self.count

    def exposed_wait(self) -> str:
        self.entered.set()
        assert self.opened.wait(10), "the test never let go"
        return "waited"

    def exposed_numbers(self) -> list[int]:
        return [1, 2, 3]


@pytest.fixture(params=["tcp", "unix"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    return {"path": str(tmp_path / "socket")} if request.param == "unix" else {}


def test_a_client_connects_calls_and_closes(serve: Serve, where: dict[str, str]) -> None:
    server = serve(Bench, **where)
    for _ in range(3):
        with server.connect() as conn:
            assert conn.root.add(2, 3) == 5
            assert list(conn.root.numbers()) == [1, 2, 3]


def test_clients_of_a_class_have_a_service_each(serve: Serve, where: dict[str, str]) -> None:
    server = serve(Bench, **where)
    with server.connect() as first, server.connect() as second:
        assert [first.root.next(), first.root.next(), second.root.next()] == [1, 2, 1]


def test_clients_of_an_instance_share_it(serve: Serve, as_service: Callable[[type], type]) -> None:
    server = serve(as_service(Bench)())
    with server.connect() as first, server.connect() as second:
        assert [first.root.next(), second.root.next(), first.root.next()] == [1, 2, 3]


def test_a_client_that_waits_delays_no_other(rpc: Any, serve: Serve, as_service: Callable[[type], type]) -> None:
    bench = as_service(Bench)()
    server = serve(bench)
    with server.connect() as slow, server.connect() as quick:
        wait = rpc.async_(slow.root.wait)
        waiting = wait()
        assert bench.entered.wait(5)
        assert quick.root.add(1, 1) == 2
        assert not waiting.ready
        bench.opened.set()
        assert waiting.value == "waited"


def test_the_server_learns_of_a_client_that_left(rpc: Any, serve: Serve, as_service: Callable[[type], type]) -> None:
    bench = as_service(Bench)()
    server = serve(bench)
    polite, rude = server.connect(), server.connect()
    assert polite.root.add(1, 1) == rude.root.add(1, 1) == 2
    polite.close()
    assert eventually(lambda: bench.gone == 1)
    cut(rude)
    assert eventually(lambda: bench.gone == 2)


def test_closing_the_server_ends_its_connections(serve: Serve, where: dict[str, str]) -> None:
    server = serve(Bench, **where)
    conn = server.connect()
    assert conn.root.add(1, 1) == 2
    server.close()
    with pytest.raises(EOFError):
        conn.root.add(1, 1)
    with pytest.raises((OSError, EOFError)):
        server.connect()


def test_the_servers_config_is_that_of_every_connection(serve: Serve) -> None:
    server = serve(Bench, {"allow_public_attrs": True})
    with server.connect() as conn:
        assert conn.root.count == 0


def test_a_service_may_end_its_server_when_its_client_leaves(serve: Serve, as_service: Callable[[type], type]) -> None:
    servers: list[Any] = []
    ended = threading.Event()

    class OneShot(Bench):
        def on_disconnect(self, conn: Any) -> None:
            servers[0].close()
            ended.set()

    servers.append(serve(OneShot))
    conn = servers[0].connect()
    assert conn.root.add(1, 2) == 3
    assert not ended.is_set()
    conn.close()
    assert ended.wait(5)
    with pytest.raises((OSError, EOFError)):
        servers[0].connect()
