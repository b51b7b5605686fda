"""Browsing: which gateways answer on the network, with their facts checked and the same gateway listed once.

Each interface is asked by itself. So a name that exists on two networks is two gateways, and a gateway that another
machine calls "127.0.0.1" is never taken for one of this machine: loopback addresses count only when they are heard on
loopback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import zeroconf
from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gateway.discovery.advertisement import MAX_ADDRESSES, SERVICE_TYPE, Advertisement
from gateway.discovery.interfaces import (
    Interface,
    Network,
    browse_interfaces,
    hear_only,
    local_interfaces,
    openable,
)
from gateway.discovery.loop_thread import LoopThread, finish
from gateway.discovery.static import static_gateways, without_password

MAX_GATEWAYS: Final = 256
"""So many are kept, and so many are asked for what their first answer lacked."""
TICK_S: Final = 0.1

log = logging.getLogger("gateway.discovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundGateway:
    """A gateway one can connect to at `url`. What a fixed address does not tell is None."""

    name: str
    url: str
    source: Literal["mdns", "static"]
    addresses: tuple[str, ...] = ()
    """The best one first, which is the one in `url`."""
    port: int | None = None
    id: str | None = None
    version: str | None = None
    devices: int | None = None
    tls: bool = False

    @property
    def shown_url(self) -> str:
        """`url` without a password, for people and logs."""
        return without_password(self.url)


@dataclass(frozen=True, slots=True)
class Survey:
    """What browsing gave."""

    gateways: tuple[FoundGateway, ...]
    """By name."""
    asked: tuple[str, ...]
    """The addresses of the interfaces that were asked."""
    troubles: tuple[str, ...]
    """One line for each interface that could not be asked."""


Enough = Callable[[list[FoundGateway]], bool]


def browse(
    timeout_s: float = 2.0,
    interfaces: Sequence[str] | None = None,
    *,
    until: Enough | None = None,
    static: Mapping[str, str] | None = None,
) -> list[FoundGateway]:
    """The gateways that answer within `timeout_s`, and those with a fixed address; sorted by name.

    `interfaces` are addresses of this machine's interfaces; by default all that are up, loopback included, or those
    that INSTRUMENT_GATEWAY_INTERFACES names. `until` is given what was found so far and ends the wait by True; it runs
    in another thread. `static` is name -> URL, by default `static_gateways()`. Raises ConfigError for bad
    configuration and what `until` raises; trouble with the network is logged, and told by `survey`.
    """
    found = survey(timeout_s, interfaces, until=until, static=static)
    for trouble in found.troubles:
        log.warning("not browsed on %s", trouble)
    return list(found.gateways)


def survey(
    timeout_s: float = 2.0,
    interfaces: Sequence[str] | None = None,
    *,
    until: Enough | None = None,
    static: Mapping[str, str] | None = None,
) -> Survey:
    """Like `browse`, and tells which interfaces were asked and what went wrong."""
    wanted = browse_interfaces(interfaces)
    fixed = _fixed(static_gateways() if static is None else static)
    search = _Search(wanted, fixed, until)
    thread = LoopThread(partial(search.run, timeout_s), name="gateway-mdns-browse")
    try:
        thread.start()
        thread.join()
    finally:
        thread.stop()  # Ctrl-C: leave no socket behind
        thread.join()
    return thread.result()


class _Search:
    """One browsing; lives in its loop's thread."""

    def __init__(self, wanted: Sequence[str], fixed: list[FoundGateway], until: Enough | None) -> None:
        self._wanted = wanted
        self._fixed = fixed
        self._until = until
        self._networks: tuple[Network, ...] = ()
        self._heard: dict[tuple[str, str], FoundGateway] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._troubles: list[str] = []
        self._full = False

    async def run(self, timeout_s: float) -> Survey:
        places = openable(self._wanted)
        self._troubles += places.refused
        self._networks = tuple(network for interface in local_interfaces() for network in interface.networks)
        listeners = [asyncio.ensure_future(self._listen(interface)) for interface in places.usable]
        try:
            if listeners:
                await self._wait(timeout_s)
        finally:
            await finish(_end([*self._asking.values(), *listeners]))
        asked = tuple(interface.address for interface in places.usable)
        return Survey(tuple(self._found()), asked, tuple(self._troubles))

    async def _wait(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while (left := end - loop.time()) > 0:
            if self._until is not None and self._until(self._found()):
                return
            await asyncio.sleep(min(left, TICK_S) if self._until is not None else left)

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
                AsyncServiceBrowser(mdns.zeroconf, SERVICE_TYPE, handlers=[changed], question_type=kind)
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
        if state_change is ServiceStateChange.Removed:
            self._heard.pop(key, None)
            return
        try:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
        except Exception as problem:  # noqa: BLE001 - a name from the network; zeroconf's checks raise many kinds
            log.debug("skipped %r: %s", name[:80], problem)
            return
        if info.load_from_cache(zeroconf):
            self._take(interface, key, info)
        elif key not in self._asking and len(self._asking) < MAX_GATEWAYS:
            self._asking[key] = asyncio.ensure_future(self._ask(interface, key, info, zeroconf))

    async def _ask(self, interface: Interface, key: tuple[str, str], info: AsyncServiceInfo, mdns: Zeroconf) -> None:
        """Most gateways send all their records with the first answer; ask for those that did not."""
        try:
            if await info.async_request(mdns, 3000, DNSQuestionType.QM):
                self._take(interface, key, info)
        finally:
            del self._asking[key]

    def _take(self, interface: Interface, key: tuple[str, str], info: AsyncServiceInfo) -> None:
        try:
            gateway = _found(info, interface, self._networks)
        except ValueError as problem:
            log.debug("skipped %r heard on %s: %s", info.name[:80], interface.address, problem)
            self._heard.pop(key, None)
            return
        if key in self._heard or len(self._heard) < MAX_GATEWAYS:
            self._heard[key] = gateway
        elif not self._full:
            self._full = True
            log.warning("more than %d gateways on the network; the rest is left out", MAX_GATEWAYS)

    def _found(self) -> list[FoundGateway]:
        return merged([*self._heard.values(), *self._fixed])


def merged(gateways: Iterable[FoundGateway]) -> list[FoundGateway]:
    """Sorted by name, each gateway once.

    The same gateway is one with the same name, id and port and an address in common: an id alone can be that of another
    gateway of the machine, or of a copied SD card. A fixed address that mDNS has found too is left out.
    """
    kept: list[FoundGateway] = []
    for gateway in gateways:
        if not any(_same(gateway, other) for other in kept):
            kept.append(gateway)
    return sorted(kept, key=lambda gateway: (gateway.name.casefold(), gateway.name, gateway.url))


def _same(one: FoundGateway, other: FoundGateway) -> bool:
    if one.name.casefold() != other.name.casefold():
        return False
    if one.source == other.source == "mdns":
        return (one.id, one.port) == (other.id, other.port) and not set(one.addresses).isdisjoint(other.addresses)
    return one.url in _urls(other) or other.url in _urls(one)


def _urls(gateway: FoundGateway) -> set[str]:
    scheme = "tls" if gateway.tls else "tcp"
    return {gateway.url} | {_url(scheme, address, gateway.port or 0) for address in gateway.addresses}


def _fixed(static: Mapping[str, str]) -> list[FoundGateway]:
    return [_fixed_gateway(name, url) for name, url in static.items()]


def _fixed_gateway(name: str, url: str) -> FoundGateway:
    tls = url.startswith("tls:")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    return FoundGateway(name=name, url=url, source="static", addresses=(host,) if host else (), port=port, tls=tls)


def _found(info: AsyncServiceInfo, interface: Interface, networks: Sequence[Network]) -> FoundGateway:
    """Raises ValueError for records that make no gateway."""
    suffix = f".{SERVICE_TYPE}"
    if not info.name.lower().endswith(suffix):
        raise ValueError("a name of another type")
    facts = Advertisement.from_records(
        name=info.name[: -len(suffix)],
        port=info.port or 0,
        txt=info.text,
        addresses=best_first(info, interface, networks),
    )
    if not facts.addresses:
        raise ValueError("no address that can be reached from here")
    return FoundGateway(
        name=facts.name,
        url=_url("tls" if facts.tls else "tcp", facts.addresses[0], facts.port),
        source="mdns",
        addresses=facts.addresses,
        port=facts.port,
        id=facts.id,
        version=facts.version,
        devices=facts.devices,
        tls=facts.tls,
    )


def questions(interface: Interface) -> list[DNSQuestionType | None]:
    """How to ask: for a multicast answer, and elsewhere than on loopback for a unicast one before it.

    A multicast answer always comes, but a second late if there was one just before. A unicast one comes at once, but on
    one machine it may reach any program that shares the port. If that is the gateway itself, it takes it for an answer
    just given, and then the multicast one is late.
    """
    return [DNSQuestionType.QM] if interface.is_loopback else [None, DNSQuestionType.QM]


def best_first(info: AsyncServiceInfo, interface: Interface, networks: Sequence[Network]) -> list[str]:
    """The addresses that a client here can use: those on our own networks first, then IPv4 before IPv6."""
    ranked: list[tuple[bool, bool, int, str]] = []
    for text in info.parsed_addresses():
        ip = ipaddress.ip_address(text)
        if ip.is_unspecified or ip.is_multicast or (ip.is_loopback and not interface.is_loopback):
            continue
        near = any(ip in network for network in networks if network.version == ip.version)
        shown = f"{text}%{interface.index}" if ip.version == 6 and ip.is_link_local else text
        ranked.append((ip.is_loopback, not near, ip.version, shown))
    return [shown for *_, shown in sorted(ranked)[:MAX_ADDRESSES]]


def _url(scheme: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}:{port}"


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.warning("browsing ended badly: %r", outcome)
