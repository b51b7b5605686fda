"""Bounds of observing, and the checks of what a subscriber asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import BadRequest, OutOfRange

EVERY_MAX_S: Final = 86400.0
QUEUE_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What observers may cost. Times in seconds."""

    every_min_s: float = 0.005
    """Nothing is polled more often."""
    properties: int = 1024
    """Properties that are remembered or polled."""
    subscriptions: int = 4096
    subscriptions_per_client: int = 256
    inboxes_per_client: int = 16
    window: int = 8
    """Calls of one callback that are on their way at a time."""
    queue_bytes: int = 16 * 1024 * 1024
    """What readings that wait for one subscriber may weigh."""
    overflow_s: float = 30.0
    """A subscriber that has taken nothing for so long, and of whom readings had to be dropped, is ended."""
    asked_min_s: float = 0.1
    """Reads that permit a lower age than this are no reason to poll."""
    error_s: float = 1.0
    """An error answers reads for so long at most, whatever age they permit."""


def checked_every(every_s: Any, bounds: Bounds) -> float:
    """`every_s` as a float. Raises BadRequest, OutOfRange."""
    _number("every", every_s)
    if not bounds.every_min_s <= every_s <= EVERY_MAX_S:
        raise OutOfRange(
            f"every={every_s!r} s: a subscription has a reading every {bounds.every_min_s:g} s to {EVERY_MAX_S:g} s"
        )
    return float(every_s)


def checked_age(max_age_s: Any) -> float:
    """`max_age_s` as a float. Raises BadRequest, OutOfRange."""
    _number("max_age", max_age_s)
    if not 0 <= max_age_s <= EVERY_MAX_S:
        raise OutOfRange(f"max_age={max_age_s!r} s: it is 0 (read now) to {EVERY_MAX_S:g} s")
    return float(max_age_s)


def checked_deadband(deadband: Any) -> float:
    """`deadband` as a float. Raises BadRequest, OutOfRange."""
    _number("deadband", deadband)
    if not (deadband >= 0 and math.isfinite(deadband)):
        raise OutOfRange(f"deadband={deadband!r}: it is 0 or more, in the unit of the property")
    return float(deadband)


def checked_queue(max_queue: Any) -> int:
    """`max_queue`. Raises BadRequest, OutOfRange."""
    if type(max_queue) is not int:
        raise BadRequest(f"max_queue is a whole number, not {type(max_queue).__name__}")
    if not 1 <= max_queue <= QUEUE_MAX:
        raise OutOfRange(f"max_queue={max_queue}: a subscription's queue holds 1 to {QUEUE_MAX} readings")
    return max_queue


def _number(name: str, value: Any) -> None:
    if type(value) not in (int, float):
        raise BadRequest(f"{name} is a number, not {type(value).__name__}")
