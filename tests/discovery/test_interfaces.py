"""Which interfaces there are, and which belong to what a gateway listens on."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from typing import Any

import pytest

from gateway.discovery import addresses_for, interfaces, interfaces_for
from gateway.discovery.interfaces import Interface, browse_interfaces, local_interfaces, openable
from gateway.errors import ConfigError

ETHERNET = Interface(
    "192.168.1.20",
    "eth0",
    3,
    (ipaddress.ip_network("192.168.1.0/24"), ipaddress.ip_network("fd00::/64"), ipaddress.ip_network("fe80::/64")),
)


@pytest.mark.parametrize(
    ("host", "advertised_on", "addresses"),
    [
        ("127.0.0.1", ["127.0.0.1"], ("127.0.0.1",)),
        ("127.0.0.2", ["127.0.0.1"], ("127.0.0.2",)),
        ("::1", ["127.0.0.1"], ("::1",)),
        ("0.0.0.0", ["0.0.0.0"], ()),
        ("::", ["0.0.0.0"], ()),
        ("", ["0.0.0.0"], ()),
        ("192.168.1.20", ["192.168.1.20"], ("192.168.1.20",)),
        ("fd00::5", ["fd00::5"], ("fd00::5",)),
        ("no such host, ever", ["no such host, ever"], ()),
    ],
)
def test_a_gateway_is_advertised_on_what_it_is_bound_to(
    host: str, advertised_on: list[str], addresses: tuple[str, ...]
) -> None:
    assert interfaces_for(host) == advertised_on
    assert addresses_for(host) == addresses


def test_localhost_is_the_loopback_interface() -> None:
    assert interfaces_for("localhost") == ["127.0.0.1"]
    assert addresses_for("localhost")[0] in {"127.0.0.1", "::1"}


def test_loopback_is_an_interface_that_can_be_used() -> None:
    (loopback,) = (one for one in local_interfaces() if one.address == "127.0.0.1")
    assert loopback.is_loopback
    assert ipaddress.ip_network("127.0.0.0/8") in loopback.networks
    assert openable(["127.0.0.1"]) == interfaces.Openable((loopback,), ())
    assert loopback in openable(["127.0.0.1", "0.0.0.0"]).usable


def test_no_interface_is_tried_that_was_not_wanted() -> None:
    assert openable([]) == interfaces.Openable((), ("there is no network interface to use",))
    assert openable(["203.0.113.9"]).usable == ()


@pytest.mark.parametrize(
    ("source", "reached"),
    [
        (("192.168.1.7", 5353), True),
        (("192.168.2.7", 5353), False),
        (("127.0.0.1", 5353), False),
        (("::ffff:192.168.1.7", 5353, 0, 0), True),
        (("fd00::7", 5353, 0, 0), True),
        (("fd01::7", 5353, 0, 0), False),
        (("fe80::7", 5353, 0, 3), True),
        (("fe80::7%eth1", 5353, 0, 4), False),
    ],
)
def test_a_packet_comes_from_an_interface_if_its_source_is_a_neighbour_there(
    source: tuple[Any, ...], reached: bool
) -> None:
    assert ETHERNET.reaches(source) is reached


def test_only_neighbours_reach_zeroconf() -> None:
    class Behind(asyncio.DatagramProtocol):
        seen: list[Any]

        def __init__(self) -> None:
            self.seen = []

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.seen.append(data)

        def error_received(self, exc: Exception) -> None:
            self.seen.append(exc)

        def connection_lost(self, exc: Exception | None) -> None:
            self.seen.append("lost")

    behind = Behind()
    gate = interfaces._OnLink(behind, [ETHERNET])
    gate.datagram_received(b"near", ("192.168.1.7", 5353))
    gate.datagram_received(b"far", ("10.0.0.1", 5353))
    problem = OSError()
    gate.error_received(problem)
    gate.connection_lost(None)
    assert behind.seen == [b"near", problem, "lost"]


def test_an_interface_without_multicast_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_flags", lambda _: 0x1 | 0x10)  # up, point to point
    assert interfaces.refusal(ETHERNET) == "eth0 does not carry multicast"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EADDRINUSE, "held by another program"),
        (errno.EADDRNOTAVAIL, "no interface of this machine has that address"),
        (errno.ENETUNREACH, "does not carry multicast just now"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_what_the_system_says_is_told_in_our_words(code: int, said: str) -> None:
    assert said in interfaces._reason(OSError(code, "Permission denied"))


def test_the_environment_names_the_interfaces_to_browse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INSTRUMENT_GATEWAY_INTERFACES", raising=False)
    assert browse_interfaces(None) == ["0.0.0.0"]
    assert browse_interfaces(["127.0.0.1"]) == ["127.0.0.1"]
    monkeypatch.setenv("INSTRUMENT_GATEWAY_INTERFACES", " 127.0.0.1, 10.0.0.5 ")
    assert browse_interfaces(None) == ["127.0.0.1", "10.0.0.5"]
    assert browse_interfaces([]) == []
    monkeypatch.setenv("INSTRUMENT_GATEWAY_INTERFACES", "127.0.0.1,eth0")
    with pytest.raises(ConfigError, match="INSTRUMENT_GATEWAY_INTERFACES: 'eth0' is no IP address"):
        browse_interfaces(None)


def test_the_probe_for_an_interface_shares_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with interfaces._shared_socket(socket.AF_INET) as one, interfaces._shared_socket(socket.AF_INET) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(one.getsockname())
        assert one.getsockname() == other.getsockname()
