"""What a gateway says about itself on the network, as DNS-SD records (RFC 6763).

    _instrument-gw._tcp.local.         PTR  bench._instrument-gw._tcp.local.
    bench._instrument-gw._tcp.local.   SRV  port 18871 on a host name of the gateway's own
                                       TXT  "id=3f2a91..." "version=0.1.0" "devices=3" "tls=0"

A TXT record is a row of items, each a length byte and that many bytes `key=value`. Keys that are not ours are skipped
unread, so that a later version may add some; ours are all required, and checked before anything is built from them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from gateway.errors import ConfigError

SERVICE_TYPE: Final = "_instrument-gw._tcp.local."
"""The type that gateways register and browsers ask for; `instrument-gw` keeps RFC 6763's 15 characters."""

MAX_NAME: Final = 63
"""Bytes of an instance name: one DNS label."""
MAX_TXT: Final = 1300
"""Bytes of a TXT record: RFC 6763 section 6.2 asks for less, so that the answer fits one Ethernet packet."""
MAX_ADDRESSES: Final = 16
MAX_VERSION: Final = 64
MAX_DEVICES: Final = 100_000

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_COUNT: Final = re.compile(r"[0-9]{1,6}")
_FLAG: Final = {"0": False, "1": True}
_KEYS: Final = ("id", "version", "devices", "tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """One gateway's facts. Raises ConfigError, which is a ValueError, for a fact that no record can carry."""

    name: str
    """The instance name as people see it: at most 63 bytes of UTF-8, printable, such as `bench 3`."""
    port: int
    id: str
    """Stays the same when the gateway is renamed, moved or restarted; see `stable_id`."""
    version: str
    devices: int = 0
    """How many devices it serves."""
    tls: bool = False
    addresses: tuple[str, ...] = ()
    """Where it listens; empty stands for the addresses of the interfaces it is advertised on."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not _is_count(self.port, 1, 65535):
            raise ConfigError(f"a gateway's port is a number from 1 to 65535, not {self.port!r}")
        if not _ID.fullmatch(self.id):
            raise ConfigError(f"a gateway's id is 1 to 64 letters, digits, '.', '_' or '-', not {self.id[:80]!r}")
        if not 1 <= len(self.version) <= MAX_VERSION or not _is_plain(self.version):
            raise ConfigError(f"a version is 1 to {MAX_VERSION} printable characters, not {self.version[:80]!r}")
        if not _is_count(self.devices, 0, MAX_DEVICES):
            raise ConfigError(f"a count of devices is a number from 0 to {MAX_DEVICES}, not {self.devices!r}")
        if len(self.addresses) > MAX_ADDRESSES:
            raise ConfigError(f"{len(self.addresses)} addresses; at most {MAX_ADDRESSES} can be advertised")
        for address in self.addresses:
            _check_address(address)

    @property
    def txt(self) -> bytes:
        """The TXT record."""
        values = (self.id, self.version, str(self.devices), "1" if self.tls else "0")
        items = [f"{key}={value}".encode() for key, value in zip(_KEYS, values, strict=True)]
        return b"".join(bytes([len(item)]) + item for item in items)

    @classmethod
    def from_records(cls, *, name: str, port: int, txt: bytes, addresses: Sequence[str] = ()) -> Self:
        """The advertisement that a peer's records make. Raises ValueError for anything that we would not send."""
        facts = _read_txt(txt)
        missing = [key for key in _KEYS if key not in facts]
        if missing:
            raise ValueError(f"no {missing[0]!r} in the TXT record")
        if not _COUNT.fullmatch(facts["devices"]):
            raise ValueError(f"devices={facts['devices'][:20]!r} is no count")
        if facts["tls"] not in _FLAG:
            raise ValueError(f"tls={facts['tls'][:20]!r} is neither 0 nor 1")
        return cls(
            name=name,
            port=port,
            id=facts["id"],
            version=facts["version"],
            devices=int(facts["devices"]),
            tls=_FLAG[facts["tls"]],
            addresses=tuple(addresses),
        )


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` can be an instance name."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_NAME:
        raise ConfigError(f"a gateway's name is 1 to {MAX_NAME} bytes long; {name[:80]!r} has {size}")
    if not _is_plain(name) or name != name.strip():
        raise ConfigError(f"a gateway's name is printable text without blanks at its ends, not {name!r}")


def numbered(name: str, number: int) -> str:
    """The name to try when `name` is taken: `bench (2)`. Shortened where 63 bytes would not hold it."""
    if number == 1:
        return name
    suffix = f" ({number})"
    room = name.encode()[: MAX_NAME - len(suffix)]
    return room.decode("utf-8", "ignore").rstrip() + suffix


def _read_txt(txt: bytes) -> dict[str, str]:
    """Our keys and their values. Raises ValueError, also for text that is not UTF-8."""
    if len(txt) > MAX_TXT:
        raise ValueError(f"a TXT record of {len(txt)} bytes; {MAX_TXT} is the limit")
    facts: dict[str, str] = {}
    at = 0
    while at < len(txt):
        end = at + 1 + txt[at]
        if end > len(txt):
            raise ValueError("a TXT record that is cut off")
        key, _, value = txt[at + 1 : end].partition(b"=")
        at = end
        # Of a repeated key the first one counts, and case does not (RFC 6763 section 6.4).
        known = key.lower().decode("ascii", "replace")
        if known in _KEYS and known not in facts:
            facts[known] = value.decode("utf-8")
    return facts


def _is_plain(text: str) -> bool:
    # U+FFFD is what a name's bad UTF-8 has become by the time we see it. Format characters, which can turn a terminal's
    # line around, are not printable in Python's sense.
    return text.isprintable() and "\ufffd" not in text


def _is_count(value: int, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _check_address(address: str) -> None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise ConfigError(f"{address[:80]!r} is no IP address") from None
    if ip.is_unspecified or ip.is_multicast:
        raise ConfigError(f"{address} is no address that a client can connect to")
