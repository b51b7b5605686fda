"""What can go wrong on a wire, as data, and what it does to the bytes. Pure: no clock, no thread, no port.

    FaultPlan(seed=7, drop=1e-4, flip=1e-3)                    chances of each byte, drawn from the seed
    FaultPlan(script=(                                         or told exactly
        Flip(Bytes(100), mask=0x80, sender=End.A),             the 101st byte that A sends has its top bit turned
        Drop(Seconds(2.0, 0.5), sender=End.B),                 B is mute for half a second
        Unplug(Seconds(3.0), away_s=1.0, name="ttyUSB1"),      the plug is out, and comes back under another name
    ))

A plan says what happens and is never changed; `hil.damage` applies it to bytes. What is drawn depends
on the seed and on a byte's place in the stream, never on how the stream is cut into writes: a failure can be repeated.
Byte offsets count from the first byte an end sent since the plan was put on the wire, times from that moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final


class End(IntEnum):
    """The two ends of a wire. A direction is named by the end that sends."""

    A = 0
    B = 1

    @property
    def other(self) -> End:
        return End(1 - self)


# ------------------------------------------------------------------------------------------------------- where and what


@dataclass(frozen=True, slots=True)
class Bytes:
    """`count` bytes of one direction, the first being number `start`; or the place before that one."""

    start: int
    count: int = 1

    def __post_init__(self) -> None:
        if self.start < 0 or self.count < 1:
            raise ValueError(f"a span of bytes starts at 0 or later and has at least one, not {self}")


@dataclass(frozen=True, slots=True)
class Seconds:
    """From `start` for `length` seconds, for ever where it is not given: what begins to leave in that time."""

    start: float
    length: float = math.inf

    def __post_init__(self) -> None:
        if not (self.start >= 0 and self.length > 0):
            raise ValueError(f"a span of time starts at 0 or later and lasts, not {self}")


Span = Bytes | Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWay:
    """Base of the faults of one direction."""

    sender: End | None = None
    """Whose bytes it hits; None: those of both, each by its own count."""


@dataclass(frozen=True, slots=True)
class Drop(OneWay):
    """The bytes are lost. Over a span of `Seconds` that is a line which is mute."""

    where: Span


@dataclass(frozen=True, slots=True)
class Flip(OneWay):
    """The bits of `mask` are turned in each byte."""

    where: Span
    mask: int = 0x01

    def __post_init__(self) -> None:
        if not 0 < self.mask < 256:
            raise ValueError(f"a mask turns some bits of a byte, not {self.mask}")


@dataclass(frozen=True, slots=True)
class Garble(OneWay):
    """Burst noise: each byte becomes another one."""

    where: Span


@dataclass(frozen=True, slots=True)
class Duplicate(OneWay):
    """The bytes come, and come once more behind themselves."""

    where: Bytes


@dataclass(frozen=True, slots=True)
class Insert(OneWay):
    """Bytes that nobody sent: before byte `where.start`, or at the time `where.start`, on a silent line too."""

    where: Span
    data: bytes


@dataclass(frozen=True, slots=True)
class Delay(OneWay):
    """The bytes come `by_s` seconds late. Those behind them wait, unless `overtaken`: then they pass, out of order."""

    where: Span
    by_s: float
    overtaken: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.by_s < math.inf:
            raise ValueError(f"a delay takes some seconds, not {self.by_s}")


@dataclass(frozen=True, slots=True)
class Unplug(OneWay):
    """`end`'s port (None: both) is pulled out at `where.start` and put back `away_s` later: never, where that is `inf`.

    What was on the way is lost. With `name` the port comes back under another device node's name. A `where` in bytes
    needs a `sender`, whose bytes are counted.
    """

    where: Span
    away_s: float = math.inf
    end: End | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.away_s >= 0:
            raise ValueError(f"away_s is a time, not {self.away_s}")
        if isinstance(self.where, Bytes) and self.sender is None:
            raise ValueError("an Unplug at a byte needs a sender: whose bytes are counted?")

    @property
    def ends(self) -> tuple[End, ...]:
        return tuple(End) if self.end is None else (self.end,)


@dataclass(frozen=True, slots=True)
class HangUp(Unplug):
    """Whoever has `end`'s port open loses it; it can be opened again at once, under the same name."""

    away_s: float = 0.0


Fault = Drop | Flip | Garble | Duplicate | Insert | Delay | Unplug


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FaultPlan:
    """What goes wrong. Chances are those of each byte in either direction; 0 is a clean wire.

    Raises ValueError for a chance outside 0 to 1.
    """

    seed: int = 0
    drop: float = 0.0
    flip: float = 0.0
    """One bit of the byte is turned."""
    duplicate: float = 0.0
    burst: float = 0.0
    """Burst noise begins here: `burst_bytes` bytes become others."""
    burst_bytes: int = 16
    delay: float = 0.0
    """The bytes from here on wait for up to `delay_s`."""
    delay_s: float = 0.01
    overtaken: bool = False
    """The write that a delayed byte is in is passed by later ones: for a wire that is no wire but a network."""
    script: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        for name in CHANCES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"FaultPlan.{name} is a chance from 0 to 1, not {getattr(self, name)}")
        if self.burst_bytes < 1 or not 0 < self.delay_s < math.inf:
            raise ValueError("FaultPlan.burst_bytes and delay_s must be above 0")

    @property
    def clean(self) -> bool:
        """Whether nothing goes wrong."""
        return not self.script and not any(getattr(self, name) for name in CHANCES)

    def __repr__(self) -> str:
        changed = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if self._changed(each.name))
        return f"FaultPlan({', '.join(changed)})"

    def _changed(self, name: str) -> bool:
        return name == "seed" or bool(getattr(self, name) != getattr(CLEAN, name))


CHANCES: Final = ("drop", "flip", "duplicate", "burst", "delay")
CLEAN: Final = FaultPlan()
