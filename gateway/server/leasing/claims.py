"""Holder, Waiting, Lease: who has a device, who waits for it, and the table of what can happen to either.

             GRANTED            ASKED
┌─ WAITING ──────────> HELD ────────────> ASKED ─┐
│                       │ ^               │      │ AGREED, UNANSWERED: the asker gets the devices as they are
│ CANCELLED             │ └───────────────┘      │
│ WAITED_TOO_LONG       │  REFUSED, WITHDRAWN    │ RELEASED, IDLE, TIME_OVER, REVOKED, HOLDER_LOST
│ HOLDER_LOST           │                        │
└────────────────────> ENDED <───────────────────┘
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.errors import OutOfRange

MAX_TEXT: Final = 200
"""Characters of a name of a holder, of a device's name, and of a reason."""
SHORTEST_S: Final = 0.1
"""No limit of a lease is shorter."""


class State(StrEnum):
    """Where a request for devices is, from its first moment to its last."""

    WAITING = "waiting"
    HELD = "held"
    ASKED = "asked"
    """Held, and the holder has been asked to hand it over."""
    ENDED = "ended"


class Cause(StrEnum):
    """What can happen to it. The order counts: of two that are due at the same time, the first one does."""

    GRANTED = "granted"
    CANCELLED = "cancelled"
    RELEASED = "released"
    HOLDER_LOST = "holder-lost"
    REVOKED = "revoked"
    TIME_OVER = "time-over"
    """The hard limit."""
    IDLE = "idle"
    """The soft limit."""
    ASKED = "asked"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    """Who asked does not ask any more."""
    AGREED = "agreed"
    UNANSWERED = "unanswered"
    WAITED_TOO_LONG = "waited-too-long"


_ENDED: Final = State.ENDED
_ENDS: Final = dict.fromkeys(
    (Cause.RELEASED, Cause.IDLE, Cause.TIME_OVER, Cause.REVOKED, Cause.HOLDER_LOST), State.ENDED
)

TRANSITIONS: Final[Mapping[State, Mapping[Cause, State]]] = {
    State.WAITING: {
        Cause.GRANTED: State.HELD,
        Cause.CANCELLED: State.ENDED,
        Cause.WAITED_TOO_LONG: State.ENDED,
        Cause.HOLDER_LOST: State.ENDED,
    },
    State.HELD: {Cause.ASKED: State.ASKED, **_ENDS},
    State.ASKED: {
        Cause.REFUSED: State.HELD,
        Cause.WITHDRAWN: State.HELD,
        Cause.AGREED: State.ENDED,
        Cause.UNANSWERED: State.ENDED,
        **_ENDS,
    },
    State.ENDED: {},
}
"""What is not in it can't happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLimits:
    """Bounds and defaults of leases. Times in seconds.

    A request may name its own soft and hard limit, up to `longest_soft_s` and `longest_hard_s`.
    """

    soft_s: float = 300.0
    hard_s: float = 8 * 3600.0
    longest_soft_s: float = 24 * 3600.0
    longest_hard_s: float = 7 * 24 * 3600.0
    grace_s: float = 30.0
    """How long a holder may think about handing over."""
    ask_again_s: float = 60.0
    """How long nobody is bothered again after a refusal."""
    devices: int = 32
    """Devices of one request."""
    waiting_per_device: int = 16
    waiting_per_key: int = 8
    keys: int = 64
    """Connections that use one lease."""
    remembered: int = 1024
    """Leases that have ended, and keys that lost one, of which the reason is still known."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not SHORTEST_S <= value < math.inf:
                raise ValueError(f"LeaseLimits.{name} must be a number from {SHORTEST_S:g}, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who has or wants a lease. All but `key` is shown to everybody.

    `key` is what a call is recognised by: one per connection, or a lease's token; it is never shown. Raises OutOfRange
    for a text of more than `MAX_TEXT` characters.
    """

    key: Hashable = field(repr=False)
    principal: str
    program: str
    host: str
    pid: int

    def __post_init__(self) -> None:
        for name in ("principal", "program", "host"):
            bounded_text(name, getattr(self, name))

    def __str__(self) -> str:
        return f"{self.principal} ({self.program}, pid {self.pid} on {self.host})"

    def shown(self) -> dict[str, Any]:
        """What others may know, as plain values."""
        return {"principal": self.principal, "program": self.program, "host": self.host, "pid": self.pid}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request's own words. `ticket` is its number from its first moment on; numbers of leases are others."""

    ticket: int
    holder: Holder
    devices: tuple[str, ...]
    token: str = field(repr=False)
    soft_s: float
    hard_s: float
    asked_at: float
    until: float
    """When it stops waiting; infinite if it doesn't."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue. Only the table changes it."""

    wanted: Wanted
    position: int
    """1 is next in line; 0 once it waits no more."""
    state: State = State.WAITING

    @property
    def ticket(self) -> int:
        return self.wanted.ticket

    @property
    def holder(self) -> Holder:
        return self.wanted.holder

    @property
    def devices(self) -> tuple[str, ...]:
        return self.wanted.devices


@dataclass(slots=True, eq=False)
class Lease:
    """The right to control `devices`, all of them or none. Only the table changes it.

    `number` is its fencing number: each lease has a greater one than all before it. `token` lets further connections
    join; who knows it may use the lease.
    """

    number: int
    wanted: Wanted
    since: float
    soft_end: float
    hard_end: float
    keys: set[Hashable] = field(repr=False)
    """The holder's, and of those that joined."""
    running: int = 0
    """Calls that run under it: while there are any, it is not idle."""
    asker: Waiting | None = None
    grace_end: float = math.inf
    quiet_until: float = -math.inf
    """Nobody may ask before: the holder has refused."""
    state: State = State.HELD

    @property
    def holder(self) -> Holder:
        return self.wanted.holder

    @property
    def devices(self) -> tuple[str, ...]:
        return self.wanted.devices

    @property
    def token(self) -> str:
        return self.wanted.token

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state is _ENDED

    @property
    def end(self) -> float:
        """When it ends if nothing happens any more: not by the soft limit while a call runs."""
        return self.hard_end if self.running or self.hard_end < self.soft_end else self.soft_end

    def used(self, now: float) -> None:
        """The soft limit begins anew."""
        self.soft_end = max(self.soft_end, now + self.wanted.soft_s)


def bounded_text(what: str, text: str) -> str:
    """`text`, if it is one of at most `MAX_TEXT` characters and not empty; else OutOfRange."""
    if type(text) is not str or not 0 < len(text) <= MAX_TEXT:
        raise OutOfRange(f"{what} must be a text of 1 to {MAX_TEXT} characters, not {text!r:.80}", what=what)
    return text


def seconds(what: str, value: float, longest: float = math.inf) -> float:
    """`value`, if it is a number from `SHORTEST_S` to `longest`; else OutOfRange."""
    # "Not a number" is not within either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not SHORTEST_S <= value <= longest:
        raise OutOfRange(f"{what} must be from {SHORTEST_S:g} to {longest:g} s, not {value!r:.80}", what=what)
    return value
