"""A server behind TLS, with our client and with a stock rpyc's."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import gateway
from gateway.errors import LinkDown
from tests.identity.kit import Pairing


class Adder(gateway.Service):
    @gateway.exposed
    def add(self, one: int, other: int) -> int:
        return one + other

    @gateway.exposed
    def data(self, size: int) -> bytes:
        return bytes(size)

    @gateway.exposed
    def wait(self, call: object) -> object:
        return call()  # type: ignore[operator]


@pytest.fixture
def pairing(tmp_path: Path) -> Pairing:
    return Pairing(tmp_path)


@pytest.fixture
def server(pairing: Pairing) -> Iterator[gateway.Server]:
    with gateway.Server(Adder, pairing.listen_url) as server:
        yield server


def test_calls_data_and_callbacks_go_over_tls(server: gateway.Server, pairing: Pairing) -> None:
    with closing(gateway.connect(pairing.url_of(server.url))) as conn:
        assert conn.root.add(2, 3) == 5
        assert conn.root.data(5_000_000) == bytes(5_000_000)
        assert conn.root.wait(lambda: 7) == 7
        assert server.connections == 1


def test_threads_share_a_connection_over_tls(server: gateway.Server, pairing: Pairing) -> None:
    with closing(gateway.connect(pairing.url_of(server.url))) as conn:
        wrong: list[int] = []

        def call(mine: int) -> None:
            for number in range(100):
                answers = conn.root.add(mine, number), len(conn.root.data(20_000))
                wrong.extend(set(answers) - {mine + number, 20_000})

        threads = [threading.Thread(target=call, args=(each,)) for each in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_an_idle_connection_is_served_again(server: gateway.Server, pairing: Pairing) -> None:
    with closing(gateway.connect(pairing.url_of(server.url))) as conn:
        for _ in range(5):
            assert conn.root.add(1, 1) == 2
            threading.Event().wait(0.1)  # long enough for the worker to leave it to the reactor


def test_strangers_take_no_place_among_the_connections(server: gateway.Server, pairing: Pairing) -> None:
    other = Pairing(pairing.folder / "other")
    with ExitStack() as stack:
        for _ in range(30):  # more than one host may have connections
            with pytest.raises((LinkDown, PermissionError)):
                stack.enter_context(closing(gateway.connect(pairing.url_of(server.url, other.client)))).ping()
        conn = stack.enter_context(closing(gateway.connect(pairing.url_of(server.url))))
        assert conn.root.add(1, 2) == 3
        assert server.connections == 1


@pytest.mark.interop
def test_a_stock_rpyc_client_connects_with_the_exported_files(server: gateway.Server, pairing: Pairing) -> None:
    stock = Path(__file__).with_name("stock.py")
    port = server.url.rpartition(":")[2]
    words = [sys.executable, str(stock), "127.0.0.1", port, str(pairing.client)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["5", "300000"], 0), done.stderr


@pytest.mark.interop
def test_a_stock_rpyc_client_without_a_certificate_gets_nothing(server: gateway.Server, pairing: Pairing) -> None:
    port = server.url.rpartition(":")[2]
    script = (
        f"import rpyc, ssl; c = rpyc.ssl_connect('127.0.0.1', {port}, ca_certs={str(pairing.client / 'ca.pem')!r},"
        "ssl_version=ssl.PROTOCOL_TLS_CLIENT); print(c.root.add(1, 1))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "2" not in done.stdout
