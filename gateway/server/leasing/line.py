"""Line: the requests that wait, first come, first served.

A request is served when each of its devices is free and no earlier one waits for it. So an earlier request reserves its
devices, also the free ones among them: one that needs several is never passed over by many that need one.

        psu1 is held         1. alice  psu1 dmm1    waits for psu1, reserves dmm1
        dmm1 is free         2. bob         dmm1    waits for alice
        dac1 is free         3. carol            dac1   does not wait
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.server.leasing.claims import Lease, Waiting


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request stands. Seconds from now.

    `estimate_s` is until it is granted if nobody before it does anything, so that soft limits end their leases;
    `at_most_s` if all of them use their hard limits up. Nothing but an administrator can make it wait longer.
    """

    position: int
    estimate_s: float
    at_most_s: float


class Line:
    """The waiting requests of all devices, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        self._by_device: dict[str, dict[int, Waiting]] = {}
        self._by_key: dict[Hashable, dict[int, Waiting]] = {}

    def __iter__(self) -> Iterator[Waiting]:
        """First come first. The line may be changed meanwhile."""
        return iter(list(self._waiting.values()))

    def get(self, ticket: int) -> Waiting | None:
        return self._waiting.get(ticket)

    def add(self, waiting: Waiting) -> None:
        self._waiting[waiting.ticket] = waiting
        self._by_key.setdefault(waiting.holder.key, {})[waiting.ticket] = waiting
        for device in waiting.devices:
            self._by_device.setdefault(device, {})[waiting.ticket] = waiting

    def remove(self, waiting: Waiting) -> None:
        """Take it out, if it is in."""
        if self._waiting.pop(waiting.ticket, None) is not None:
            _take(self._by_key, waiting.holder.key, waiting.ticket)
            for device in waiting.devices:
                _take(self._by_device, device, waiting.ticket)

    def of_device(self, device: str) -> list[Waiting]:
        return list(self._by_device.get(device, {}).values())

    def of_key(self, key: Hashable) -> list[Waiting]:
        return list(self._by_key.get(key, {}).values())

    def position(self, waiting: Waiting) -> int:
        """1, or one more than the number of earlier requests for that one of its devices for which most wait."""
        return 1 + max(
            sum(earlier.ticket < waiting.ticket for earlier in self.of_device(device)) for device in waiting.devices
        )

    def servable(self, held: Collection[str]) -> Iterator[Waiting]:
        """Those whose turn it is, given what is `held`. Each has to be granted before the next is taken."""
        reserved: set[str] = set()
        for waiting in self:
            if reserved.isdisjoint(waiting.devices) and not any(device in held for device in waiting.devices):
                yield waiting
            else:
                reserved.update(waiting.devices)

    def in_the_way(self, wanted: Waiting, held: Mapping[str, Lease]) -> Iterator[tuple[str, Lease | Waiting]]:
        """What `wanted` has to wait for: leases and earlier requests, each with the device that both need."""
        for device in wanted.devices:
            if device in held:
                yield device, held[device]
            for waiting in self.of_device(device):
                if waiting.ticket < wanted.ticket:
                    yield device, waiting

    def closes_a_circle(self, wanted: Waiting, held: Mapping[str, Lease]) -> bool:
        """Whether somebody for whom `wanted` would wait waits for the same key, maybe through others.

        Then none of them would ever be served before a lease runs out.
        """
        seen: set[Hashable] = set()
        unseen = self._keys_in_the_way(wanted, held)
        while unseen:
            key = unseen.pop()
            if key == wanted.holder.key:
                return True
            if key not in seen:
                seen.add(key)
                for waiting in self.of_key(key):
                    unseen |= self._keys_in_the_way(waiting, held)
        return False

    def places(self, held: Mapping[str, Lease], now: float) -> dict[int, Place]:
        """The place of each request, by its ticket."""
        soon = {device: max(lease.end, now) for device, lease in held.items()}
        late = {device: max(lease.hard_end, now) for device, lease in held.items()}
        before: dict[str, int] = {}
        places = {}
        for waiting in self._waiting.values():
            devices = waiting.devices
            position = 1 + max(before.get(device, 0) for device in devices)
            estimate = max(soon.get(device, now) for device in devices)
            at_most = max(late.get(device, now) for device in devices)
            places[waiting.ticket] = Place(position, estimate - now, at_most - now)
            for device in devices:
                before[device] = before.get(device, 0) + 1
                soon[device] = estimate + min(waiting.wanted.soft_s, waiting.wanted.hard_s)
                late[device] = at_most + waiting.wanted.hard_s
        return places

    def _keys_in_the_way(self, wanted: Waiting, held: Mapping[str, Lease]) -> set[Hashable]:
        keys: set[Hashable] = set()
        for _, other in self.in_the_way(wanted, held):
            keys |= other.keys if isinstance(other, Lease) else {other.holder.key}
        return keys


def _take(table: dict[Any, dict[int, Waiting]], name: Hashable, ticket: int) -> None:
    """Out of its list; an empty list is none."""
    del table[name][ticket]
    if not table[name]:
        del table[name]
