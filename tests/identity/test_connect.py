"""Connecting by name: who is believed to be that gateway, wherever it is and whatever the network says."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import gateway
from gateway.discovery import Advertisement, Advertiser
from gateway.errors import LinkDown, Unauthenticated, Unreachable
from gateway.identity import trust
from gateway.identity.trust import Facts, Trusted, TrustStore
from tests.identity.kit import Pairing
from tests.identity.test_serving import Adder

pytestmark = pytest.mark.multicast


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("INSTRUMENT_GATEWAYS", raising=False)


@pytest.fixture
def pairing(tmp_path: Path) -> Pairing:
    return Pairing(tmp_path / "pairing")


@pytest.fixture
def server(pairing: Pairing) -> Iterator[gateway.Server]:
    with gateway.Server(Adder, pairing.listen_url) as server:
        yield server


@pytest.fixture
def name() -> str:
    return f"bench-{secrets.token_hex(4)}"


def port_of(server: gateway.Server) -> int:
    return int(server.url.rpartition(":")[2])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def keep(pairing: Pairing, name: str, id_: str, port: int) -> Trusted:
    files = {"ca": trust.CA, "certificate": trust.CERTIFICATE, "key": trust.KEY}
    data = {what: (pairing.client / file).read_bytes() for what, file in files.items()}
    return TrustStore().keep(Facts(name=name, id=id_, host="127.0.0.1", port=port), **data)


@contextmanager
def advertised(name: str, id_: str, port: int, *, tls: bool) -> Iterator[None]:
    facts = Advertisement(name=name, port=port, id=id_, version="1", tls=tls, addresses=("127.0.0.1",))
    with closing(Advertiser(facts, ["127.0.0.1"])) as advertiser:
        advertiser.start()
        assert advertiser.wait(10)
        yield


def test_the_last_address_needs_no_discovery(server: gateway.Server, pairing: Pairing, name: str) -> None:
    keep(pairing, name, "1", port_of(server))
    with closing(gateway.connect(name)) as conn:
        assert conn.root.add(1, 2) == 3


def test_a_gateway_that_moved_is_found_by_its_id_and_remembered(
    server: gateway.Server, pairing: Pairing, name: str
) -> None:
    id_ = secrets.token_hex(8)
    keep(pairing, name, id_, free_port())
    with advertised("renamed " + name, id_, port_of(server), tls=True), closing(gateway.connect(name)) as conn:
        assert conn.root.add(1, 2) == 3
    kept = TrustStore().named(name)
    assert kept is not None
    assert kept.facts.port == port_of(server)


def test_a_name_of_the_network_stands_for_the_gateway_of_that_id(
    server: gateway.Server, pairing: Pairing, name: str
) -> None:
    id_ = secrets.token_hex(8)
    keep(pairing, "my own name for it", id_, free_port())
    with advertised(name, id_, port_of(server), tls=True), closing(gateway.connect(name)) as conn:
        assert conn.root.add(1, 2) == 3


def test_a_gateway_that_was_not_paired_with_says_how(server: gateway.Server, name: str) -> None:
    with advertised(name, secrets.token_hex(8), port_of(server), tls=True):
        with pytest.raises(Unauthenticated, match=f"paired computers only; run `gateway pair` there.*trust {name}"):
            gateway.connect(name)


def test_a_paired_name_is_never_taken_from_somebody_who_asks_for_no_proof(pairing: Pairing, name: str) -> None:
    """The network says that the gateway of this name and id is here, without TLS."""
    keep(pairing, name, "1234", free_port())
    with gateway.Server(Adder, "tcp://127.0.0.1:0") as impostor:
        with advertised(name, "1234", port_of(impostor), tls=False), pytest.raises(Unreachable):
            gateway.connect(name, timeout=4)
        assert impostor.connections == 0


def test_a_paired_name_is_never_taken_from_somebody_with_another_ca(
    pairing: Pairing, name: str, tmp_path: Path
) -> None:
    other = Pairing(tmp_path / "other")
    kept = keep(pairing, name, "1234", free_port())
    with gateway.Server(Adder, other.listen_url) as impostor:
        with advertised(name, "1234", port_of(impostor), tls=True):
            with pytest.raises(Unauthenticated, match="not the gateway that was paired with"):
                gateway.connect(name, timeout=4)
    assert TrustStore().named(name) == kept  # and the impostor's address is not remembered


def test_an_address_that_another_gateway_has_by_now_does_not_keep_the_right_one_from_being_found(
    server: gateway.Server, pairing: Pairing, name: str, tmp_path: Path
) -> None:
    other, id_ = Pairing(tmp_path / "other"), secrets.token_hex(8)
    with gateway.Server(Adder, other.listen_url) as newcomer:
        keep(pairing, name, id_, port_of(newcomer))
        with advertised(name, id_, port_of(server), tls=True), closing(gateway.connect(name)) as conn:
            assert conn.root.add(1, 2) == 3


def test_a_fixed_address_goes_first(
    server: gateway.Server, pairing: Pairing, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(pairing, name, "1", free_port())
    monkeypatch.setenv("INSTRUMENT_GATEWAYS", f"{name}={pairing.url_of(server.url)}")
    with closing(gateway.connect(name)) as conn:
        assert conn.root.add(1, 2) == 3


def test_who_was_revoked_can_not_call(server: gateway.Server, pairing: Pairing, name: str) -> None:
    keep(pairing, name, "1", port_of(server))
    pairing.clients.revoke("client")
    with closing(gateway.connect(name)) as conn, pytest.raises(LinkDown, match="may not know this computer any more"):
        conn.root.add(1, 2)
