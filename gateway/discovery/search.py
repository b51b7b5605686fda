"""MdnsSearch: browsing for services, on each interface by itself. What was found is a subclass's matter."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import zeroconf
from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gateway.discovery.advertisement import MAX_ADDRESSES
from gateway.discovery.interfaces import Interface, Network, hear_only, local_interfaces, openable
from gateway.discovery.loop_thread import finish

log = logging.getLogger("gateway.discovery")

Key = tuple[str, str]
"""The address of the interface where a service was heard of, and the service's name in small letters."""


class MdnsSearch(ABC):
    """One browsing for services of `types`, on the interfaces of the addresses `wanted`; lives in its loop's thread."""

    def __init__(self, wanted: Sequence[str], types: Sequence[str]) -> None:
        self._wanted = wanted
        self._types = types
        self.networks: tuple[Network, ...] = ()
        """Those of this machine."""
        self.asked: tuple[str, ...] = ()
        """The addresses of the interfaces that are asked."""
        self.asking: dict[Key, asyncio.Task[None]] = {}
        """Whose records are asked for."""
        self.troubles: list[str] = []
        """One line for each interface that could not be asked."""

    @abstractmethod
    def take(self, interface: Interface, key: Key, info: AsyncServiceInfo) -> None:
        """A service was heard of, with its records."""

    @abstractmethod
    def drop(self, key: Key) -> None:
        """A service was withdrawn."""

    @abstractmethod
    def may_ask(self) -> bool:
        """Whether the records of one more service may be asked for."""

    async def wait(self, timeout_s: float) -> None:
        """Return when enough was heard, at the latest after `timeout_s`."""
        await asyncio.sleep(timeout_s)

    async def listen(self, timeout_s: float) -> None:
        """Ask and hear until `wait` is over."""
        places = openable(self._wanted)
        self.troubles += places.refused
        self.asked = tuple(interface.address for interface in places.usable)
        self.networks = tuple(network for interface in local_interfaces() for network in interface.networks)
        listeners = [asyncio.ensure_future(self._listen(interface)) for interface in places.usable]
        try:
            if listeners:
                await self.wait(timeout_s)
        finally:
            await finish(_end([*self.asking.values(), *listeners]))

    async def _listen(self, interface: Interface) -> None:
        """Ask and hear on one interface until cancelled."""
        try:
            mdns = AsyncZeroconf(interfaces=[interface.address])
        except (OSError, RuntimeError) as problem:
            self.troubles.append(f"{interface.address}: {problem}")
            return
        try:
            await mdns.zeroconf.async_wait_for_start()
            hear_only(mdns.zeroconf, [interface])
            changed = partial(self._changed, interface)
            browsers = [
                AsyncServiceBrowser(mdns.zeroconf, list(self._types), handlers=[changed], question_type=kind)
                for kind in questions(interface)
            ]
            try:
                await asyncio.Event().wait()
            finally:
                for browser in browsers:
                    await browser.async_cancel()
        except zeroconf.Error as problem:
            self.troubles.append(f"{interface.address}: {problem!r}")
        finally:
            await finish(mdns.async_close())

    def _changed(
        self, interface: Interface, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """zeroconf's handler: it names its arguments so."""
        key = (interface.address, name.lower())
        if state_change is ServiceStateChange.Removed:
            self.drop(key)
            return
        try:
            info = AsyncServiceInfo(service_type, name)
        except Exception as problem:  # noqa: BLE001 - a name from the network; zeroconf's checks raise many kinds
            log.debug("skipped %r: %s", name[:80], problem)
            return
        if info.load_from_cache(zeroconf):
            self.take(interface, key, info)
        elif key not in self.asking and self.may_ask():
            self.asking[key] = asyncio.ensure_future(self._ask(interface, key, info, zeroconf))

    async def _ask(self, interface: Interface, key: tuple[str, str], info: AsyncServiceInfo, mdns: Zeroconf) -> None:
        """Most send all their records with the first answer; ask for those that did not."""
        try:
            if await info.async_request(mdns, 3000, DNSQuestionType.QM):
                self.take(interface, key, info)
        finally:
            del self.asking[key]


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


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.warning("browsing ended badly: %r", outcome)
