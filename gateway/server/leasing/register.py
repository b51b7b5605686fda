"""Register: the live leases, the line of those who wait, and what changes them; each change is in `TRANSITIONS`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from gateway.errors import NotFound
from gateway.server.leasing.claims import TRANSITIONS, Cause, Lease, LeaseLimits, Waiting
from gateway.server.leasing.events import Dropped, Ended, Event, Granted, HandOverAsked, HandOverOff, Moved
from gateway.server.leasing.line import Line
from gateway.server.leasing.past import Past

_WANTED: Final = frozenset({Cause.RELEASED})
"""Endings that are the holder's own wish: there is nothing to be told about later."""
_HANDED_OVER: Final = frozenset({Cause.AGREED, Cause.UNANSWERED})


class Register:
    """What `LeaseTable` decides about. Its methods don't ask whether somebody may; they say what follows."""

    def __init__(self, limits: LeaseLimits, last_number: int) -> None:
        self.held: dict[str, Lease] = {}
        """By device."""
        self.leases: dict[int, Lease] = {}
        """By number, oldest first."""
        self.line = Line()
        self.past = Past(limits.remembered, limits.devices, last_number)
        self.events: list[Event] = []
        self.last_number = last_number

    def grant(self, waiting: Waiting, now: float, *, waited: bool = True, inherited: Iterable[str] = ()) -> Lease:
        """The lease that `waiting` asked for; nobody may have its devices. `inherited` come from a hand-over."""
        wanted = waiting.wanted
        self.line.remove(waiting)
        _move(waiting, Cause.GRANTED)
        waiting.position = 0
        self.last_number += 1
        lease = Lease(
            number=self.last_number,
            wanted=wanted,
            since=now,
            soft_end=now + wanted.soft_s,
            hard_end=now + wanted.hard_s,
            keys={wanted.holder.key},
        )
        self.leases[lease.number] = lease
        self.held.update(dict.fromkeys(wanted.devices, lease))
        self.events.append(Granted(lease, waiting if waited else None, tuple(inherited)))
        return lease

    def end(self, lease: Lease, cause: Cause, by: str, why: str, *, inherited: Iterable[str] = ()) -> None:
        """End a lease, and the hand-over that it may be asked for. Then `serve` whoever waits."""
        asker = lease.asker
        _move(lease, cause)
        lease.asker, lease.grace_end = None, math.inf
        del self.leases[lease.number]
        for device in lease.devices:
            del self.held[device]
        self.past.ended(lease, by, why, () if cause in _WANTED else lease.keys)
        self.events.append(Ended(lease, cause, by, why, tuple(d for d in lease.devices if d not in inherited)))
        if asker is not None and cause not in _HANDED_OVER:
            self.events.append(HandOverOff(lease, asker, cause))

    def ask(self, lease: Lease, asker: Waiting, grace_s: float, now: float) -> None:
        """Ask the holder of `lease`, whom nobody asks, to hand over to `asker`."""
        _move(lease, Cause.ASKED)
        lease.asker, lease.grace_end = asker, now + grace_s
        self.events.append(HandOverAsked(lease, asker, grace_s))

    def hand_over(self, lease: Lease, asker: Waiting, cause: Cause, by: str, why: str, now: float) -> Lease:
        """End a lease and give `asker`, which must be next in line, what it wants; the devices stay as they are."""
        inherited = tuple(device for device in asker.devices if device in lease.devices)
        self.end(lease, cause, by, why, inherited=inherited)
        granted = self.grant(asker, now, inherited=inherited)
        self.serve(now)
        return granted

    def no_hand_over(self, lease: Lease, cause: Cause) -> None:
        """The holder of `lease` keeps it, and `asker` goes on waiting."""
        asker = self.asker_of(lease)
        _move(lease, cause)
        lease.asker, lease.grace_end = None, math.inf
        self.events.append(HandOverOff(lease, asker, cause))

    def remove(self, waiting: Waiting, cause: Cause, by: str, why: str) -> None:
        """`waiting` waits no more, and has got nothing. Then `serve` who came after it."""
        _move(waiting, cause)
        waiting.position = 0
        self.line.remove(waiting)
        self.events.append(Dropped(waiting, cause, by, why))
        for lease in self.leases.values():
            if lease.asker is waiting:
                self.no_hand_over(lease, Cause.WITHDRAWN)

    def serve(self, now: float) -> None:
        """Grant all whose turn it is, and tell the others that they have moved."""
        for waiting in self.line.servable(self.held):
            self.grant(waiting, now)
        for waiting in self.line:
            position = self.line.position(waiting)
            if position != waiting.position:
                waiting.position = position
                self.events.append(Moved(waiting, position))

    def leases_in_the_way(self, waiting: Waiting) -> list[Lease]:
        """The leases of what `waiting` wants, each once."""
        return list({id(each): each for device in waiting.devices if (each := self.held.get(device))}.values())

    def asker_of(self, lease: Lease) -> Waiting:
        """Who asks for it. Raises NotFound where nobody does."""
        if lease.asker is None:
            raise NotFound(f"nobody asks for lease {lease.number} any more")
        return lease.asker


def _move(claim: Lease | Waiting, cause: Cause) -> None:
    claim.state = TRANSITIONS[claim.state][cause]
