"""The machine's network interfaces as mDNS sees them: which there are, and which of them it can be used on."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import ifaddr
from zeroconf import Zeroconf

from gateway.errors import ConfigError

ALL: Final = "0.0.0.0"  # noqa: S104 - a name for "every interface", never bound
LOOPBACK: Final = "127.0.0.1"
PORT: Final = 5353
GROUP: Final = "224.0.0.251"
GROUP6: Final = "ff02::fb"
ENVIRONMENT: Final = "INSTRUMENT_GATEWAY_INTERFACES"
MAX_INTERFACES: Final = 64

_IFF_UP: Final = 0x1
_IFF_LOOPBACK: Final = 0x8
_IFF_MULTICAST: Final = 0x1000

log = logging.getLogger("gateway.discovery")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface by one of its addresses, which is how mDNS is opened on it."""

    address: str
    name: str
    """Such as `eth0`."""
    index: int
    networks: tuple[Network, ...] = field(compare=False)
    """What is reached over it without a router."""

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.address).is_loopback

    def reaches(self, source: tuple[Any, ...]) -> bool:
        """Whether a packet from the socket address `source` can have come over this interface's own network."""
        ip = ipaddress.ip_address(source[0].partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            if ip.is_link_local:
                return bool(source[3] == self.index)
            ip = ip.ipv4_mapped or ip  # what IPv4 looks like on a socket for both
        return any(ip in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Openable:
    """Where mDNS can be opened just now, and where not."""

    usable: tuple[Interface, ...]
    refused: tuple[str, ...]
    """One `ADDRESS: reason` for each of the others."""


def local_interfaces() -> list[Interface]:
    """All that are up: one entry for each IPv4 address, and one for each interface that has IPv6 only."""
    found: list[Interface] = []
    for adapter in _adapters():
        if not _flags(adapter.name) & _IFF_UP:
            continue
        ips = [(ip.ip[0] if isinstance(ip.ip, tuple) else ip.ip, ip.network_prefix) for ip in adapter.ips]
        networks = tuple(ipaddress.ip_network(f"{ip}/{prefix}", strict=False) for ip, prefix in ips)
        v4 = [ip for ip, _ in ips if ":" not in ip]
        v6 = sorted((ip for ip, _ in ips if ":" in ip), key=lambda ip: ipaddress.ip_address(ip).is_link_local)
        found += [Interface(address, adapter.nice_name, adapter.index or 0, networks) for address in v4 or v6[:1]]
    return found[:MAX_INTERFACES]


def interfaces_for(listen_host: str) -> list[str]:
    """Where a gateway that is bound to `listen_host` is advertised: on what it is bound to, and nowhere else.

    A wildcard gives `["0.0.0.0"]`, which an `Advertiser` reads as every interface, also one that comes up later. Every
    loopback address gives `["127.0.0.1"]`.
    """
    address = _address_of(listen_host)
    if address is None:
        return [listen_host]
    if address.is_unspecified:
        return [ALL]
    return [LOOPBACK if address.is_loopback else str(address)]


def addresses_for(listen_host: str) -> tuple[str, ...]:
    """What to advertise as `Advertisement.addresses` for a gateway that is bound to `listen_host`.

    Empty for a wildcard (the interfaces' own addresses are taken then) and for a host name that does not resolve.
    """
    address = _address_of(listen_host)
    return () if address is None or address.is_unspecified else (str(address),)


def browse_interfaces(interfaces: Sequence[str] | None) -> list[str]:
    """`interfaces` if given, else those named in the environment, else all. Raises ConfigError for a bad address."""
    if interfaces is not None:
        return list(interfaces)
    named = os.environ.get(ENVIRONMENT, "").strip()
    if not named:
        return [ALL]
    addresses = [item.strip() for item in named.split(",")]
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ConfigError(
                f"{ENVIRONMENT}: {address[:80]!r} is no IP address; write addresses of this machine, comma between"
            ) from None
    return addresses


def openable(wanted: Iterable[str]) -> Openable:
    """Try each interface of `wanted`, where `"0.0.0.0"` stands for all that are up."""
    here = local_interfaces()
    chosen: dict[str, Interface] = {}
    refused: dict[str, str] = {}
    for address in wanted:
        if address == ALL:
            chosen.update((interface.address, interface) for interface in here)
            continue
        known = next((interface for interface in here if interface.address == address), None) or _by_other_address(
            address
        )
        if known is None:
            refused[address] = "no interface of this machine has that address"
        else:
            chosen[address] = known
    for interface in chosen.values():
        reason = refusal(interface)
        if reason is not None:
            refused[interface.address] = reason
    if not chosen and not refused:
        return Openable((), ("there is no network interface to use",))
    usable = tuple(interface for interface in chosen.values() if interface.address not in refused)
    return Openable(usable, tuple(f"{address}: {reason}" for address, reason in refused.items()))


def refusal(interface: Interface) -> str | None:
    """Why mDNS can't be used on `interface`, or None. Opens its sockets for a moment and sends nothing."""
    if not _flags(interface.name) & (_IFF_MULTICAST | _IFF_LOOPBACK):
        return f"{interface.name} does not carry multicast"
    family = socket.AF_INET6 if ":" in interface.address else socket.AF_INET
    try:
        with _shared_socket(family) as listening, _shared_socket(family) as sending:
            listening.bind(("", PORT))
            _join(listening, interface)
            _bind_sender(sending, interface)
    except OSError as problem:
        return _reason(problem)
    return None


def hear_only(zeroconf: Zeroconf, interfaces: Sequence[Interface]) -> None:
    """Have a just started `zeroconf` drop what did not come from a network of `interfaces` (RFC 6762 section 11).

    On Linux a socket bound to the wildcard gets what *any* program of the machine has joined, on any interface: a
    gateway that is bound to loopback would answer the LAN, and a browser could not tell where an answer came from.
    The option against that, IP_MULTICAST_ALL, can't be used together with SO_REUSEPORT: newer kernels then hand a
    packet to another socket of the port instead of the one that joined.
    """
    for reader in zeroconf.engine.readers:
        transport = reader.transport
        transport.set_protocol(_OnLink(cast(asyncio.DatagramProtocol, transport.get_protocol()), interfaces))
    # Its sockets were open before this: forget what came in meanwhile.
    cache = zeroconf.cache
    for name in list(cache.names()):
        cache.async_remove_records(list(cache.async_entries_with_name(name)))


class _OnLink(asyncio.DatagramProtocol):
    """Stands before zeroconf's own protocol and lets only neighbours through."""

    def __init__(self, behind: asyncio.DatagramProtocol, interfaces: Sequence[Interface]) -> None:
        self._behind = behind
        self._interfaces = tuple(interfaces)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if any(interface.reaches(addr) for interface in self._interfaces):
            self._behind.datagram_received(data, cast(tuple[str, int], addr))

    def error_received(self, exc: Exception) -> None:
        self._behind.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._behind.connection_lost(exc)


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if host in {"", "*"}:
        return ipaddress.IPv4Address(ALL)
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return ipaddress.ip_address(str(answers[0][4][0]))


def _by_other_address(address: str) -> Interface | None:
    """The interface that has `address` beside the one it is listed by: 127.0.0.2, or IPv6 beside IPv4."""
    for adapter in _adapters():
        for ip in adapter.ips:
            own = ip.ip[0] if isinstance(ip.ip, tuple) else ip.ip
            if own == address:
                network = ipaddress.ip_network(f"{own}/{ip.network_prefix}", strict=False)
                return Interface(address, adapter.nice_name, adapter.index or 0, (network,))
    return None


def _adapters() -> list[ifaddr.Adapter]:
    try:
        return list(ifaddr.get_adapters())
    except OSError as problem:
        log.warning("the network interfaces can't be listed: %s", problem)
        return []


def _flags(name: str) -> int:
    """The interface's flags, netdevice(7); where the system does not tell, those of one that works."""
    try:
        return int(Path("/sys/class/net", name.partition(":")[0], "flags").read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return _IFF_UP | _IFF_MULTICAST


def _shared_socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def _join(listening: socket.socket, interface: Interface) -> None:
    if listening.family == socket.AF_INET6:
        group = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("@I", interface.index)
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    else:
        group = socket.inet_aton(GROUP) + socket.inet_aton(interface.address)
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)


def _bind_sender(sending: socket.socket, interface: Interface) -> None:
    """Bind to the interface and look for a route to the group: connecting a datagram socket sends nothing."""
    if sending.family == socket.AF_INET6:
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
        sending.bind((interface.address, PORT, 0, interface.index))
        sending.connect((GROUP6, PORT, 0, interface.index))
    else:
        sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface.address))
        sending.bind((interface.address, PORT))
        sending.connect((GROUP, PORT))


def _reason(problem: OSError) -> str:
    if problem.errno == errno.EADDRINUSE:
        return (
            f"UDP port {PORT} is held by another program that does not share it "
            f"(`ss -ulpn 'sport = :{PORT}'` names it; avahi-daemon: disallow-other-stacks=no)"
        )
    if problem.errno == errno.EADDRNOTAVAIL:
        return "no interface of this machine has that address"
    if problem.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENODEV, errno.EINVAL}:
        return f"it does not carry multicast just now ({problem.strerror})"
    return problem.strerror or str(problem)
