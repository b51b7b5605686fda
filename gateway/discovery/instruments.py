"""Instruments that say on the network that they are there: `_lxi._tcp` and `_scpi-raw._tcp`.

    _scpi-raw._tcp   the port where SCPI is spoken over TCP as it is (usually 5025)
    _lxi._tcp        the instrument's web page; its TXT records are Manufacturer, Model, SerialNumber and
                     FirmwareVersion (LXI Device Specification), and scpi-raw may have them too

Nothing is sent to an instrument but the questions of mDNS. Each interface is asked by itself, as for gateways.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import zeroconf
from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gateway.discovery.browser import best_first, questions
from gateway.discovery.interfaces import Interface, Network, browse_interfaces, hear_only, local_interfaces, openable
from gateway.discovery.loop_thread import LoopThread, finish

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


class _Search:
    """One browsing; lives in its loop's thread."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = wanted
        self._networks: tuple[Network, ...] = ()
        self._heard: dict[tuple[str, str], FoundInstrument] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._troubles: list[str] = []

    async def run(self, timeout_s: float) -> Instruments:
        places = openable(self._wanted)
        self._troubles += places.refused
        self._networks = tuple(network for interface in local_interfaces() for network in interface.networks)
        listeners = [asyncio.ensure_future(self._listen(interface)) for interface in places.usable]
        try:
            if listeners:
                await asyncio.sleep(timeout_s)
        finally:
            await finish(_end([*self._asking.values(), *listeners]))
        return Instruments(merged(list(self._heard.values())), tuple(self._troubles))

    async def _listen(self, interface: Interface) -> None:
        """Ask and hear on one interface until cancelled."""
        try:
            mdns = AsyncZeroconf(interfaces=[interface.address])
        except (OSError, RuntimeError) as problem:
            self._troubles.append(f"{interface.address}: {problem}")
            return
        try:
            await mdns.zeroconf.async_wait_for_start()
            hear_only(mdns.zeroconf, [interface])
            changed = partial(self._changed, interface)
            browsers = [
                AsyncServiceBrowser(mdns.zeroconf, [LXI, SCPI_RAW], handlers=[changed], question_type=kind)
                for kind in questions(interface)
            ]
            try:
                await asyncio.Event().wait()
            finally:
                for browser in browsers:
                    await browser.async_cancel()
        except zeroconf.Error as problem:
            self._troubles.append(f"{interface.address}: {problem!r}")
        finally:
            await finish(mdns.async_close())

    def _changed(
        self, interface: Interface, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """zeroconf's handler: it names its arguments so."""
        key = (interface.address, name.lower())
        if state_change is ServiceStateChange.Removed or len(self._heard) + len(self._asking) >= MAX_INSTRUMENTS:
            return
        try:
            info = AsyncServiceInfo(service_type, name)
        except Exception as problem:  # noqa: BLE001 - a name from the network; zeroconf's checks raise many kinds
            log.debug("skipped %r: %s", name[:80], problem)
            return
        if info.load_from_cache(zeroconf):
            self._take(interface, key, info)
        elif key not in self._asking:
            self._asking[key] = asyncio.ensure_future(self._ask(interface, key, info, zeroconf))

    async def _ask(self, interface: Interface, key: tuple[str, str], info: AsyncServiceInfo, mdns: Zeroconf) -> None:
        try:
            if await info.async_request(mdns, 3000, DNSQuestionType.QM):
                self._take(interface, key, info)
        finally:
            del self._asking[key]

    def _take(self, interface: Interface, key: tuple[str, str], info: AsyncServiceInfo) -> None:
        addresses = best_first(info, interface, self._networks)
        if not addresses or not 1 <= (info.port or 0) <= 65535:
            return
        raw = info.type.lower() == SCPI_RAW
        self._heard[key] = FoundInstrument(
            name=_text(info.name.removesuffix(f".{info.type}").encode()),
            address=addresses[0],
            port=info.port if raw else None,
            identity=identity_of(info.properties),
        )


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.warning("browsing ended badly: %r", outcome)
