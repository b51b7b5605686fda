"""Whose connections there are, and what a revocation does to them."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic

import pytest

import gateway
from gateway.channels import listen, open_channel
from gateway.errors import LinkDown, Unauthenticated
from gateway.identity.clients import Clients
from gateway.identity.principal import Kind
from gateway.server.admission import Admission
from tests.identity.kit import Pairing


class Hello(gateway.Service):
    @gateway.exposed
    def hello(self) -> str:
        return "hello"


class Bench:
    """A server of the barest kind: it takes each peer in through an admission."""

    def __init__(self, stack: ExitStack, pairing: Pairing) -> None:
        self.pairing = pairing
        self.stack = stack
        self.admission = Admission(Clients(pairing.gateway))
        self.admission.start()
        stack.callback(self.admission.close)
        self.listener = stack.enter_context(closing(listen(pairing.listen_url)))

    def connect(self, own: Path) -> gateway.Connection:
        channel = open_channel(self.pairing.url_of(self.listener.url, own))
        assert select.select([self.listener.fileno()], [], [], 5.0)[0]
        served = self.listener.accept()
        assert served is not None
        conn = gateway.connect_channel(served, Hello)
        self.stack.callback(conn.close)
        self.admission.enter(conn, served)
        client = gateway.connect_channel(channel)
        self.stack.callback(client.close)
        return client


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, Pairing(tmp_path))


def wait_until_closed(conn: gateway.Connection) -> None:
    deadline, pause = monotonic() + 10, threading.Event()
    while not conn.closed:
        assert monotonic() < deadline
        pause.wait(0.01)


def test_revoking_ends_that_client_s_connections_and_no_others(bench: Bench) -> None:
    alice, bob = bench.pairing.add("alice"), bench.pairing.add("bob")
    hers, also_hers, his = bench.connect(alice), bench.connect(alice), bench.connect(bob)
    assert [conn.root.hello() for conn in (hers, also_hers, his)] == ["hello"] * 3
    assert sorted(who.name for who in bench.admission.principals()) == ["alice", "alice", "bob"]
    Clients(bench.pairing.gateway).revoke("alice")  # as another process does
    wait_until_closed(hers)
    wait_until_closed(also_hers)
    with pytest.raises(LinkDown):
        hers.root.hello()
    assert his.root.hello() == "hello"
    assert [who.name for who in bench.admission.principals()] == ["bob"]


def test_who_leaves_is_forgotten(bench: Bench) -> None:
    conn = bench.connect(bench.pairing.client)
    assert len(bench.admission.principals()) == 1
    conn.close()
    deadline, pause = monotonic() + 5, threading.Event()
    while bench.admission.principals():
        assert monotonic() < deadline
        pause.wait(0.01)


def test_who_is_revoked_on_the_way_in_does_not_get_in(bench: Bench) -> None:
    with closing(open_channel(bench.pairing.url_of(bench.listener.url))):
        assert select.select([bench.listener.fileno()], [], [], 5.0)[0]
        served = bench.listener.accept()
        assert served is not None
        bench.pairing.clients.revoke("client")
        with closing(gateway.connect_channel(served, Hello)) as conn:
            with pytest.raises(Unauthenticated, match="client was revoked"):
                bench.admission.enter(conn, served)


def test_who_needs_no_certificate_is_taken_in_without_a_list() -> None:
    admission = Admission()
    admission.start()
    with closing(listen("tcp://127.0.0.1:0")) as listener, closing(open_channel(listener.url)):
        assert select.select([listener.fileno()], [], [], 5.0)[0]
        served = listener.accept()
        assert served is not None
        with closing(gateway.connect_channel(served, Hello)) as conn:
            assert admission.enter(conn, served).kind is Kind.LOOPBACK
            assert len(admission.principals()) == 1
    assert admission.principals() == []
    admission.close()
