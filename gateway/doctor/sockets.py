"""The sockets of the machine: /proc/net/tcp, tcp6, udp and udp6."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from typing import Final

from gateway.doctor.system import System

LISTEN: Final = "0A"
MAX_ROWS: Final = 20_000

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound to an address."""

    address: Address
    port: int
    inode: int
    uid: int

    def meets(self, address: Address | None) -> bool:
        """Whether nobody else can have `address` (None: any) at this port, as long as this socket doesn't share it."""
        if address is None or address.is_unspecified or self.address.is_unspecified:
            return True
        return self.address in (address, getattr(address, "ipv4_mapped", None)) or (
            isinstance(self.address, ipaddress.IPv6Address) and self.address.ipv4_mapped == address
        )


def udp(system: System, port: int) -> list[Bound]:
    """The UDP sockets at `port`."""
    return [row for kind in ("udp", "udp6") for _, row in _rows(system, kind) if row.port == port]


def listening(system: System, port: int) -> list[Bound]:
    """The TCP sockets that listen at `port`."""
    rows = [row for kind in ("tcp", "tcp6") for row in _rows(system, kind)]
    return [bound for state, bound in rows if state == LISTEN and bound.port == port]


def _rows(system: System, kind: str) -> list[tuple[str, Bound]]:
    found = []
    for line in (system.text(f"/proc/net/{kind}") or "").splitlines()[1:MAX_ROWS]:
        words = line.split()
        try:
            local, state, uid, inode = words[1], words[3], words[7], words[9]
            address, _, port = local.partition(":")
            found.append((state, Bound(_address(address), int(port, 16), int(inode), int(uid))))
        except (IndexError, ValueError):
            continue
    return found


def _address(digits: str) -> Address:
    """Words of 32 bits, each in the machine's own order of bytes."""
    raw = bytes.fromhex(digits)
    if len(raw) not in (4, 16):
        raise ValueError(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    return ipaddress.ip_address(raw)
