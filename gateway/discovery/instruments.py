"""Instruments that say on the network that they are there: `_lxi._tcp` and `_scpi-raw._tcp`.

    _scpi-raw._tcp   the port where SCPI is spoken over TCP as it is (usually 5025)
    _lxi._tcp        the instrument's web page; its TXT records are Manufacturer, Model, SerialNumber and
                     FirmwareVersion (LXI Device Specification), and scpi-raw may have them too

Nothing is sent to an instrument but the questions of mDNS. Each interface is asked by itself, as for gateways.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from zeroconf.asyncio import AsyncServiceInfo

from gateway.discovery.interfaces import Interface, browse_interfaces
from gateway.discovery.loop_thread import LoopThread
from gateway.discovery.search import Key, MdnsSearch, best_first

LXI: Final = "_lxi._tcp.local."
SCPI_RAW: Final = "_scpi-raw._tcp.local."
MAX_INSTRUMENTS: Final = 128
MAX_TEXT: Final = 64
"""Characters kept of a text that an instrument says about itself."""
FACTS: Final = ("Manufacturer", "Model", "SerialNumber", "FirmwareVersion")

log = logging.getLogger("gateway.discovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundInstrument:
    """An instrument on the network."""

    name: str
    """What it calls itself."""
    address: str
    port: int | None
    """Where it speaks SCPI over TCP; None if it did not say so."""
    identity: str = ""
    """`manufacturer,model,serial number,firmware`, as an answer to `*IDN?`, by its records; empty if they don't say."""


@dataclass(frozen=True, slots=True)
class Instruments:
    """What browsing gave."""

    found: tuple[FoundInstrument, ...]
    """By address, each once."""
    troubles: tuple[str, ...]
    """One line for each interface that could not be asked."""


def browse_instruments(timeout_s: float = 2.0, interfaces: Sequence[str] | None = None) -> Instruments:
    """The instruments that answer within `timeout_s`.

    `interfaces` are addresses of this machine's interfaces; by default all that are up, or those that
    INSTRUMENT_GATEWAY_INTERFACES names. Raises ConfigError for a bad address.
    """
    search = _Search(browse_interfaces(interfaces))
    thread = LoopThread(partial(search.run, timeout_s), name="gateway-mdns-instruments")
    try:
        thread.start()
        thread.join()
    finally:
        thread.stop()
        thread.join()
    return thread.result()


def merged(instruments: Sequence[FoundInstrument]) -> tuple[FoundInstrument, ...]:
    """Each instrument once: what its web page says of it completes what its SCPI port does.

    An instrument has one name for all its services (LXI Device Specification).
    """
    pages = {(each.address, each.name): each for each in instruments if each.port is None}
    ports = {(each.address, each.port): each for each in instruments if each.port is not None}
    complete = [
        replace(each, identity=page.identity)
        if not each.identity and (page := pages.get((each.address, each.name))) is not None
        else each
        for each in ports.values()
    ]
    spoken = {(each.address, each.name) for each in complete}
    rest = [page for key, page in pages.items() if key not in spoken]
    return tuple(sorted((*complete, *rest), key=lambda each: (each.address, each.port or 0, each.name)))


def identity_of(records: Mapping[bytes, bytes | None]) -> str:
    """The identity in TXT records; empty unless they name manufacturer and model."""
    by_name = {key.decode("ascii", "replace").lower(): value or b"" for key, value in records.items()}
    texts = [_text(by_name.get(fact.lower(), b"")) for fact in FACTS]
    return ",".join(texts) if texts[0] and texts[1] else ""


def _text(value: bytes) -> str:
    text = value.decode("utf-8", "replace").replace(",", " ")
    return "".join(char for char in text if char.isprintable()).strip()[:MAX_TEXT]


class _Search(MdnsSearch):
    """One browsing for instruments."""

    def __init__(self, wanted: Sequence[str]) -> None:
        super().__init__(wanted, [LXI, SCPI_RAW])
        self._heard: dict[Key, FoundInstrument] = {}

    async def run(self, timeout_s: float) -> Instruments:
        await self.listen(timeout_s)
        return Instruments(merged(list(self._heard.values())), tuple(self.troubles))

    def may_ask(self) -> bool:
        return len(self._heard) + len(self.asking) < MAX_INSTRUMENTS

    def drop(self, key: Key) -> None:
        """One that has just gone is listed all the same: it was there when it was asked."""

    def take(self, interface: Interface, key: Key, info: AsyncServiceInfo) -> None:
        addresses = best_first(info, interface, self.networks)
        if not addresses or not 1 <= (info.port or 0) <= 65535 or len(self._heard) >= MAX_INSTRUMENTS:
            return
        raw = info.type.lower() == SCPI_RAW
        self._heard[key] = FoundInstrument(
            name=_text(info.name.removesuffix(f".{info.type}").encode()),
            address=addresses[0],
            port=info.port if raw else None,
            identity=identity_of(info.properties),
        )
