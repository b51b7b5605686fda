"""Past: how leases ended, for those who still believe in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from gateway.server.leasing.claims import Lease


@dataclass(frozen=True, slots=True)
class Ending:
    """Through whom and why the lease of that number ended."""

    number: int
    by: str
    why: str


class Past:
    """The endings of the last `size` leases by their numbers, and of the last `size` keys that lost one.

    A key has at most one ending for a device, and as many as `devices` in all.
    """

    def __init__(self, size: int, devices: int, last_number: int) -> None:
        self._size = size
        self._devices = devices
        self._before = last_number
        self._by_number: OrderedDict[int, Ending] = OrderedDict()
        self._by_key: OrderedDict[Hashable, OrderedDict[str, Ending]] = OrderedDict()

    def ended(self, lease: Lease, by: str, why: str, losers: Iterable[Hashable]) -> None:
        """Remember it. `losers` are the keys that did not want it to end."""
        ending = Ending(lease.number, by, why)
        self._by_number[lease.number] = ending
        _shorten(self._by_number, self._size)
        for key in losers:
            losses = self._by_key.setdefault(key, OrderedDict())
            self._by_key.move_to_end(key)
            for device in lease.devices:
                losses[device] = ending
                losses.move_to_end(device)
            _shorten(losses, self._devices)
        _shorten(self._by_key, self._size)

    def lost(self, key: Hashable, device: str) -> Ending | None:
        """How `key` lost `device`, until it has asked for it again."""
        losses = self._by_key.get(key)
        return None if losses is None else losses.get(device)

    def forget(self, key: Hashable, devices: Iterable[str]) -> None:
        """`key` asks for `devices` anew: what was before is over."""
        losses = self._by_key.get(key)
        if losses is not None:
            for device in devices:
                losses.pop(device, None)
            if not losses:
                del self._by_key[key]

    def ending(self, number: int) -> Ending:
        """How the lease of that number, which was granted and is not live, ended; something general after a while."""
        known = self._by_number.get(number)
        if known is not None:
            return known
        why = "the gateway was restarted" if number <= self._before else "it ended long ago"
        return Ending(number, "the gateway", why)


def _shorten(table: OrderedDict[Any, Any], size: int) -> None:
    while len(table) > size:
        table.popitem(last=False)
