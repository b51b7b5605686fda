"""What everybody may know about the leases, as plain values. Neither keys nor tokens are in it."""

from __future__ import annotations

from typing import Any, Final

from gateway.server.leasing.claims import Lease, Waiting
from gateway.server.leasing.line import Place

_FACTS: Final = ("holder", "number", "devices", "held_s", "idle_end_s", "hard_end_s", "left_s", "asked_by", "grace_s")


def shown_lease(lease: Lease | None, now: float) -> dict[str, Any]:
    """`{state, holder, number, devices, held_s, idle_end_s, hard_end_s, left_s, asked_by, grace_s}`; see `status`."""
    if lease is None:
        return {"state": "free", **dict.fromkeys(_FACTS)}
    asker = lease.asker
    return {
        "state": lease.state.value,
        "holder": lease.holder.shown(),
        "number": lease.number,
        "devices": list(lease.devices),
        "held_s": now - lease.since,
        "idle_end_s": None if lease.running else max(lease.soft_end - now, 0.0),
        "hard_end_s": max(lease.hard_end - now, 0.0),
        "left_s": max(lease.end - now, 0.0),
        "asked_by": None if asker is None else asker.holder.shown(),
        "grace_s": None if asker is None else max(lease.grace_end - now, 0.0),
    }


def shown_waiting(waiting: Waiting, place: Place, now: float) -> dict[str, Any]:
    """`{principal, program, host, pid, ticket, devices, position, waited_s, estimate_s, at_most_s}`."""
    return {
        **waiting.holder.shown(),
        "ticket": waiting.ticket,
        "devices": list(waiting.devices),
        "position": place.position,
        "waited_s": now - waiting.wanted.asked_at,
        "estimate_s": place.estimate_s,
        "at_most_s": place.at_most_s,
    }
