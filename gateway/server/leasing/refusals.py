"""The errors of leases, with their facts: one function an answer."""

from __future__ import annotations

from gateway.errors import Busy, LeaseConflict, LeaseLost, NotLeased
from gateway.server.leasing.claims import Lease, Waiting
from gateway.server.leasing.past import Ending


def not_leased(device: str) -> NotLeased:
    """Nobody has it, the caller neither."""
    return NotLeased(f"controlling {device} takes a lease, and this connection has none; lease it first", device=device)


def conflict(device: str, other: Lease | Waiting, now: float) -> LeaseConflict:
    """`other` has it, or waits for it and comes first. `until_s` is the time left, None where nobody can tell."""
    if isinstance(other, Waiting):
        return LeaseConflict(
            f"{device} is free for nobody else: {other.holder} waits for it and comes first",
            device=device,
            holder=str(other.holder),
            until_s=None,
        )
    left = max(other.end - now, 0.0)
    return LeaseConflict(
        f"{device} is leased by {other.holder}, for {left:.0f} s more if they leave it alone; wait for it or ask them",
        device=device,
        holder=str(other.holder),
        until_s=left,
    )


def has_it(device: str, lease: Lease, now: float) -> LeaseConflict:
    """The caller itself has it already."""
    return LeaseConflict(
        f"{device} is leased by this connection already (lease {lease.number}); release it first",
        device=device,
        holder=str(lease.holder),
        until_s=max(lease.end - now, 0.0),
    )


def circle(device: str, other: Lease | Waiting, now: float) -> LeaseConflict:
    """The caller would wait for somebody who waits for the caller."""
    until_s = max(other.end - now, 0.0) if isinstance(other, Lease) else None
    return LeaseConflict(
        f"waiting for {device} would be for ever: {other.holder} waits for what this connection has or waits for; "
        "lease all devices at once",
        device=device,
        holder=str(other.holder),
        until_s=until_s,
    )


def lost(device: str | None, ending: Ending) -> LeaseLost:
    """It has ended."""
    return LeaseLost(
        f"lease {ending.number}{f' of {device}' if device else ''} has ended: {ending.why} (by {ending.by})",
        device=device,
        by=ending.by,
        why=ending.why,
        number=ending.number,
    )


def over(device: str, lease: Lease) -> LeaseLost:
    """Its time is over, though the table has not been told yet."""
    return lost(device, Ending(lease.number, "the gateway", why_over(lease)))


def why_over(lease: Lease) -> str:
    """Which limit ends it."""
    wanted = lease.wanted
    if lease.end < lease.hard_end:
        return f"nothing was done with it for {wanted.soft_s:g} s"
    return f"its longest time of {wanted.hard_s:g} s is over"


def full(what: str, waiting: int) -> Busy:
    """As many wait as may."""
    return Busy(f"{waiting} requests wait for {what} already; try again later", what=what, waiting=waiting)
