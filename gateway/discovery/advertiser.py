"""Advertising a gateway by mDNS for as long as it runs, whatever the network does meanwhile.

The network is never a reason to fail: what can't be done now is said in `Advertiser.status` and the log, and tried
again. All of it happens in one thread with an event loop, which also gives the port back when it ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import zeroconf
from zeroconf import DNSQuestionType, RecordUpdate, RecordUpdateListener, ServiceInfo, Zeroconf
from zeroconf._dns import DNSPointer, DNSService  # the package re-exports them, but leaves them out of __all__
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from gateway.discovery.advertisement import MAX_ADDRESSES, SERVICE_TYPE, Advertisement, numbered
from gateway.discovery.interfaces import ALL, Openable, hear_only, openable
from gateway.discovery.loop_thread import LoopThread, finish

RETRY_S: Final = 15.0
MAX_SAME_NAME: Final = 20
"""So many gateways of one name are told apart by a number; with more, something is wrong on the network."""
CLOSE_S: Final = 5.0

log = logging.getLogger("gateway.discovery")


class Advertiser:
    """Puts `advertisement` on the network from `start` to `close`.

    `interfaces` are addresses of this machine's interfaces, such as `interfaces_for` gives; None or `"0.0.0.0"` stands
    for every interface, also one that comes up later. Every `retry_s` seconds they are looked up again, and what did
    not work is tried again. All methods may be called from any thread.
    """

    def __init__(
        self, advertisement: Advertisement, interfaces: Sequence[str] | None = None, *, retry_s: float = RETRY_S
    ) -> None:
        self._wanted = (ALL,) if interfaces is None else tuple(interfaces)
        self._retry_s = retry_s
        # The host name that the records point to. Not the machine's own, which another program may be advertising; not
        # the id, which copies of one SD card share; and the older one compares lower, which settles a name conflict.
        self._host = f"gw-{int(time.time()):010x}-{secrets.token_hex(6)}.local."
        self._advertisement = advertisement
        self._lock = threading.Lock()
        self._name: str | None = None
        self._status = "not advertised: not started"
        self._advertised = threading.Event()
        self._wake = asyncio.Event()
        self._closed = False
        self._thread: LoopThread[None] | None = None

    @property
    def status(self) -> str:
        """One line: the name and the interfaces it is advertised with, or why it is not."""
        return self._status

    @property
    def name(self) -> str | None:
        """The instance name it has on the network, `bench (2)` if `bench` was taken; None while not advertised."""
        return self._name

    def start(self) -> None:
        """Begin; returns at once. The name is on the network about 1.5 s later: see `wait`. Only the first call counts,
        and none after `close`.
        """
        with self._lock:
            if self._thread is not None or self._closed:
                return
            self._thread = LoopThread(self._supervise, name="gateway-mdns")
            self._status = "not advertised: starting"
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is advertised; whether it is."""
        return self._advertised.wait(timeout_s)

    def update(self, *, devices: int) -> None:
        """Say that the gateway has so many devices now. Raises ConfigError for a number that can't be."""
        with self._lock:
            self._advertisement = dataclasses.replace(self._advertisement, devices=devices)
            thread = self._thread
        if thread is not None:
            thread.call(self._wake.set)

    def close(self) -> None:
        """Withdraw: browsers drop the gateway at once. Idempotent; takes about 0.3 s if it was advertised."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.stop()
            if not thread.join(CLOSE_S):
                log.warning("mDNS has not ended within %.0f s", CLOSE_S)
        self._status = "not advertised: closed"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _supervise(self) -> None:
        while True:
            try:
                places = openable(self._wanted)
                trouble = "; ".join(places.refused)
                if places.usable:
                    await self._advertise(places)
                    continue  # the interfaces have changed
            except Exception as problem:  # whatever the network comes up with, the gateway goes on
                trouble = str(problem) or type(problem).__name__
                log.debug("advertising failed", exc_info=True)
            self._report(f"not advertised: {trouble}; trying again every {self._retry_s:g} s", logging.WARNING)
            await asyncio.sleep(self._retry_s)

    async def _advertise(self, places: Openable) -> None:
        """Be on the network until the interfaces change. Raises what zeroconf does when it can't."""
        mdns = AsyncZeroconf(interfaces=[interface.address for interface in places.usable])
        try:
            await mdns.zeroconf.async_wait_for_start()
            hear_only(mdns.zeroconf, places.usable)
            number = 1
            while number:
                if number > MAX_SAME_NAME:
                    raise RuntimeError(
                        f"{MAX_SAME_NAME} gateways are named {self._advertisement.name!r} already; "
                        f"give this one a name of its own in its config"
                    )
                number = await self._hold_name(mdns, places, number)
        finally:
            self._gone()
            await finish(mdns.async_close())  # says goodbye first

    async def _hold_name(self, mdns: AsyncZeroconf, places: Openable, number: int) -> int:
        """Take the name with this number and keep it. Returns the number to try next, 0 if the interfaces changed."""
        shown = self._advertisement
        name = numbered(shown.name, number)
        record = _record(shown, name, self._host, places)
        watch = _NameWatch(record, self._wake.set)
        mdns.zeroconf.async_add_listener(watch, None)
        try:
            if not await _take(mdns, record):
                return number + 1
            if not watch.lost:
                self._name = name
                self._report(self._success(name, places), logging.INFO if number == 1 else logging.WARNING)
                self._advertised.set()
            while not watch.lost:
                if watch.challenged or self._advertisement != shown:
                    watch.challenged = False
                    shown = self._advertisement
                    await (await mdns.async_update_service(_record(shown, name, self._host, places)))
                elif not await self._woken() and openable(self._wanted) != places:
                    return 0
        finally:
            mdns.zeroconf.async_remove_listener(watch)
        log.warning("another gateway on the network is named %r and was there first; taking another name", name)
        self._gone()
        await (await mdns.async_unregister_service(record))
        return number + 1

    async def _woken(self) -> bool:
        try:
            await asyncio.wait_for(self._wake.wait(), self._retry_s)
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    def _gone(self) -> None:
        self._advertised.clear()
        self._name = None

    def _success(self, name: str, places: Openable) -> str:
        where = ", ".join(interface.address for interface in places.usable)
        text = f"advertised as {name!r} on {where}, port {self._advertisement.port}"
        if name != self._advertisement.name:
            text += f": the name {self._advertisement.name!r} is taken by another gateway"
        if places.refused:
            text += f"; not on {'; '.join(places.refused)}"
        return text

    def _report(self, status: str, level: int) -> None:
        if status != self._status:
            log.log(level, "%s", status)
        self._status = status


class _NameWatch(RecordUpdateListener):
    """Notices what the network says about our name.

    Two gateways can hold one name when they took it at the same moment, or when two networks are joined. The one whose
    host name and port compare lower was there first and keeps it: it says so again, whereupon the other takes a new
    one. The other's goodbye takes our entry from browsers' caches too, so a goodbye for our name is answered as well.
    """

    def __init__(self, record: ServiceInfo, wake: Callable[[], None]) -> None:
        self.lost = False
        self.challenged = False
        self._key = record.key
        self._own = ((record.server or "").lower(), record.port or 0)
        self._wake = wake

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """zeroconf's hook: called in the loop with each packet's records."""
        for update in records:
            said = update.new
            if isinstance(said, DNSService) and said.key == self._key and not said.is_expired(now):
                other = (said.server.lower(), said.port)
                self.lost = self.lost or other < self._own
                self.challenged = self.challenged or other > self._own
            elif isinstance(said, DNSPointer) and said.alias.lower() == self._key and said.is_expired(now):
                self.challenged = True
        if self.lost or self.challenged:
            self._wake()


async def _take(mdns: AsyncZeroconf, record: ServiceInfo) -> bool:
    """Announce the record unless its name is taken; whether it was announced. Takes about 1.5 s."""
    # zeroconf's own probe wants a unicast answer. On one machine that may reach any program that shares the port, so
    # the others' names are asked for by multicast as well, and are known by the time of its last probe.
    others = AsyncServiceBrowser(mdns.zeroconf, SERVICE_TYPE, handlers=[_nothing], question_type=DNSQuestionType.QM)
    try:
        announced = await mdns.async_register_service(record)
    except zeroconf.NonUniqueNameException:
        return False
    finally:
        await others.async_cancel()
    await announced
    return True


def _nothing(**_: object) -> None:
    """What to do when a gateway comes or goes: its records are in the cache, and that is all we need."""


def _record(facts: Advertisement, name: str, host: str, places: Openable) -> ServiceInfo:
    return ServiceInfo(
        SERVICE_TYPE,
        f"{name}.{SERVICE_TYPE}",
        port=facts.port,
        properties=facts.txt,
        server=host,
        parsed_addresses=list(facts.addresses or _addresses(places)),
    )


def _addresses(places: Openable) -> tuple[str, ...]:
    """The interfaces' own; loopback only if there is nothing else, for to other machines it would mean themselves."""
    addresses = [interface.address for interface in places.usable]
    outward = [address for address in addresses if not ipaddress.ip_address(address).is_loopback]
    return tuple(outward or addresses)[:MAX_ADDRESSES]
