"""Browsing: which gateways answer on the network, with their facts checked and the same gateway listed once.

Each interface is asked by itself. So a name that exists on two networks is two gateways, and a gateway that another
machine calls "127.0.0.1" is never taken for one of this machine: loopback addresses count only when they are heard on
loopback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from urllib.parse import urlsplit

from zeroconf.asyncio import AsyncServiceInfo

from gateway.discovery.advertisement import SERVICE_TYPE, Advertisement
from gateway.discovery.interfaces import (
    Interface,
    Network,
    browse_interfaces,
)
from gateway.discovery.loop_thread import LoopThread
from gateway.discovery.search import Key, MdnsSearch, best_first
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


class _Search(MdnsSearch):
    """One browsing for gateways."""

    def __init__(self, wanted: Sequence[str], fixed: list[FoundGateway], until: Enough | None) -> None:
        super().__init__(wanted, [SERVICE_TYPE])
        self._fixed = fixed
        self._until = until
        self._heard: dict[Key, FoundGateway] = {}
        self._full = False

    async def run(self, timeout_s: float) -> Survey:
        await self.listen(timeout_s)
        return Survey(tuple(self._found()), self.asked, tuple(self.troubles))

    async def wait(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while (left := end - loop.time()) > 0:
            if self._until is not None and self._until(self._found()):
                return
            await asyncio.sleep(min(left, TICK_S) if self._until is not None else left)

    def may_ask(self) -> bool:
        return len(self.asking) < MAX_GATEWAYS

    def drop(self, key: Key) -> None:
        self._heard.pop(key, None)

    def take(self, interface: Interface, key: Key, info: AsyncServiceInfo) -> None:
        try:
            gateway = _found(info, interface, self.networks)
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


def _url(scheme: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}:{port}"
