"""What the table of leases tells whoever drives it. The order of the events is the order in which they happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway.server.leasing.claims import Cause, Lease, Waiting


@dataclass(frozen=True, slots=True)
class Queued:
    """A request has to wait."""

    waiting: Waiting
    position: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A waiting request has come nearer."""

    waiting: Waiting
    position: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A request waits no more, and has got nothing."""

    waiting: Waiting
    cause: Cause
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease has begun. `inherited` are the devices that are as the last holder left them: no safe state came between.

    `waiting` is the request that waited for it, or None if it was granted at once.
    """

    lease: Lease
    waiting: Waiting | None
    inherited: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A lease is over: no command may leave under its number any more.

    `safe` are the devices that must be brought to their safe state now, before anything else is done with them; those
    that were handed over are not among them.
    """

    lease: Lease
    cause: Cause
    by: str
    why: str
    safe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HandOverAsked:
    """The holder of `lease` is asked to hand it over to `asker`. Without an answer it goes over in `grace_s`."""

    lease: Lease
    asker: Waiting
    grace_s: float


@dataclass(frozen=True, slots=True)
class HandOverOff:
    """Nothing is handed over: refused, withdrawn, or the lease ended by itself (`cause` says how)."""

    lease: Lease
    asker: Waiting
    cause: Cause


Event: TypeAlias = Queued | Moved | Dropped | Granted | Ended | HandOverAsked | HandOverOff
