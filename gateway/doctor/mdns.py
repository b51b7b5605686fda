"""Discovery: the port of mDNS, and whether multicast really works on the interfaces."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from gateway.discovery.interfaces import (
    ALL,
    GROUP,
    GROUP6,
    LOOPBACK,
    PORT,
    Interface,
    browse_interfaces,
    interfaces_for,
    local_interfaces,
    refusal,
)
from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.processes import holders_of_sockets
from gateway.doctor.sockets import udp
from gateway.doctor.subject import Subject
from gateway.doctor.system import System

HEAR_S: Final = 1.0
"""Our own packet is back within milliseconds, if it comes back."""
MAX_PACKET: Final = 9000
AVAHI: Final = "/etc/avahi/avahi-daemon.conf"

_SHARE: Final = (
    f"sudo sed -i 's/^#*disallow-other-stacks=.*/disallow-other-stacks=no/' {AVAHI}",
    "sudo systemctl restart avahi-daemon",
)
_FIXED: Final = (
    "# or give clients a fixed address in ~/.config/instrument-gateway/gateways.toml, and set advertise = false"
)


def mdns(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether the gateway can be found by its name."""
    if not subject.advertise:
        yield ok("not advertised, as the config says: clients need the URL")
        return
    wanted = _wanted(subject)
    if not wanted:
        yield problem("there is no network interface to advertise on", "ip -br addr    # shows those that there are")
    for interface in wanted:
        if isinstance(interface, str):
            yield problem(
                f"{interface}: no interface of this computer has that address",
                "ip -br addr    # shows the addresses; write one of them into `interfaces` or `listen`",
            )
        else:
            yield _interface(system, interface)


def _wanted(subject: Subject) -> list[Interface | str]:
    addresses = list(subject.interfaces)
    if not addresses:
        addresses = interfaces_for(subject.tcp[0]) if subject.tcp and not subject.trouble else browse_interfaces(None)
    here = local_interfaces()
    if ALL in addresses:
        return [each for each in here if not each.is_loopback] or list(here)
    return [next((each for each in here if each.address == address), address) for address in addresses]


def _interface(system: System, interface: Interface) -> Finding:
    where = f"{interface.name} ({interface.address})"
    refused = refusal(interface)
    if refused is not None and f"port {PORT}" in refused:
        return _taken(system, where)
    if refused is not None:
        return problem(f"{where}: {refused}", f"sudo ip link set {interface.name} multicast on", _FIXED)
    if not hears_itself(interface):
        return problem(
            f"{where}: a question to the group {GROUP} did not come back to this computer: a firewall, or no multicast",
            f"sudo ip link set {interface.name} multicast on",
            "sudo gateway doctor    # the findings of `firewall` name the rule",
            _FIXED,
        )
    if interface.address != LOOPBACK and interface.is_loopback:
        return warning(f"{where}: multicast works, and only this computer hears it")
    return ok(f"{where}: multicast works: a question to {GROUP} came back")


def _taken(system: System, where: str) -> Finding:
    holders = holders_of_sockets(system, [row.inode for row in udp(system, PORT)])
    names = {process.name for process in holders.found}
    what = f"{where}: UDP port {PORT} is held by {holders.named} without sharing it"
    if any(name.startswith("avahi-daemon") for name in names):
        return problem(what, *_SHARE)
    return problem(what, *holders.fixes, _FIXED)


def avahi(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether avahi, if it is here, lets others use mDNS."""
    text = system.text(AVAHI)
    if text is None:
        yield ok("avahi is not installed")
    elif any(line.replace(" ", "") == "disallow-other-stacks=yes" for line in text.splitlines()):
        yield problem(f"{AVAHI} keeps all other programs from mDNS", *_SHARE)
    else:
        yield ok("avahi shares mDNS with others")


def hears_itself(interface: Interface, timeout_s: float = HEAR_S) -> bool:
    """Whether a question to mDNS's group that leaves by `interface` comes back to this computer, as it should."""
    v6 = ":" in interface.address
    family = socket.AF_INET6 if v6 else socket.AF_INET
    question = _question(f"_igw-{secrets.token_hex(6)}")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as hearing, socket.socket(family, socket.SOCK_DGRAM) as speaking:
            hearing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            hearing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            hearing.bind(("", PORT))
            (_join6 if v6 else _join4)(interface, hearing, speaking)
            speaking.sendto(question, (GROUP6, PORT, 0, interface.index) if v6 else (GROUP, PORT))
            return _heard(hearing, question, timeout_s)
    except OSError:
        return False


def _heard(hearing: socket.socket, question: bytes, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        hearing.settimeout(left)
        if hearing.recv(MAX_PACKET) == question:
            return True
    return False


def _join4(interface: Interface, hearing: socket.socket, speaking: socket.socket) -> None:
    own = socket.inet_aton(interface.address)
    hearing.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + own)
    speaking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
    speaking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)


def _join6(interface: Interface, hearing: socket.socket, speaking: socket.socket) -> None:
    group = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("@I", interface.index)
    hearing.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    speaking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
    speaking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)


def _question(name: str) -> bytes:
    """Who has the service NAME? Nobody: it is made up, so no neighbour answers (RFC 6762 section 18)."""
    labels = (name.encode(), b"_tcp", b"local")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", 0, 0, 1, 0, 0, 0) + encoded + struct.pack("!2H", 12, 1)
