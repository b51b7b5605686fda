"""What a fault plan does to the bytes of one direction, and when. Pure: the time is an argument."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple

from hil.faults import (
    Bytes,
    Delay,
    Drop,
    Duplicate,
    End,
    Fault,
    FaultPlan,
    Flip,
    Garble,
    HangUp,
    Insert,
    Seconds,
    Unplug,
)

NEVER: Final = 1 << 62
"""A byte offset that no test reaches."""

_ORDER: Final = {
    kind: place for place, kind in enumerate((Garble, Flip, Drop, Delay, Duplicate, Insert, Unplug, HangUp))
}
"""Of several faults that hit one byte, which is first."""


class Piece(NamedTuple):
    """Some bytes as they come out of the damage."""

    data: bytes
    begin: int
    end: int
    """`data` came of the bytes `[begin:end]` that went in, and is there when the last of them is."""
    late_s: float
    overtaken: bool
    then: Unplug | None
    """What happens to the wire right behind this piece."""


@dataclass(slots=True)
class _Chance:
    """Where in the stream the next random fault of one kind is."""

    chance: float
    draw: random.Random
    make: Callable[[int, random.Random], Fault]
    next: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        self._advance()

    def faults_before(self, end: int) -> Iterator[Fault]:
        while self.next < end:
            yield self.make(self.next, self.draw)
            self._advance()

    def _advance(self) -> None:
        # The gap between two hits, drawn at once: a byte that nothing happens to costs nothing.
        gap = 0.0
        if self.chance < 1:
            gap = math.log(1 - self.draw.random()) / math.log1p(-self.chance)
        self.next = min(NEVER, self.next + 1 + int(min(gap, NEVER)))


class Damage:
    """Applies a plan to the bytes of one direction."""

    def __init__(self, plan: FaultPlan, sender: End) -> None:
        self._chances = [
            _Chance(getattr(plan, name), random.Random(f"{plan.seed} {sender.value} {name}"), make)
            for name, make in _makers(plan).items()
            if getattr(plan, name)
        ]
        self._noise = random.Random(f"{plan.seed} {sender.value} noise")
        self._faults: list[Fault] = [each for each in plan.script if _concerns(each, sender)]
        self._recorded: dict[Duplicate, bytearray] = {}
        self.passed = 0
        """Bytes that went in."""
        self._settle()

    def apply(self, data: bytes, start_s: float = 0.0, byte_s: float = 0.0) -> list[Piece]:
        """What becomes of `data`, whose first byte begins to leave at `start_s` and each next one `byte_s` later."""
        begin, size = self.passed, len(data)
        end = self.passed = begin + size
        if end <= self._quiet_until and start_s + size * byte_s < self._quiet_until_s:
            return [Piece(data, 0, size, 0.0, False, None)]
        for chance in self._chances:
            for fault in chance.faults_before(end):
                whole_write = isinstance(fault, Delay) and fault.overtaken
                self._faults.append(replace(fault, where=Bytes(begin, size)) if whole_write else fault)
        # One order for all, so that what several faults do to one byte does not depend on when they were drawn.
        self._faults.sort(key=lambda fault: (_ORDER[type(fault)], fault.where.start))
        spans = [(*span, fault) for fault in self._faults if (span := _span(fault, begin, size, start_s, byte_s))]
        pieces = self._cut(data, begin, spans)
        self._faults = [each for each in self._faults if not _is_over(each, end, start_s + size * byte_s)]
        self._settle()
        return pieces

    def _settle(self) -> None:
        """Up to where nothing happens."""
        starts = [chance.next for chance in self._chances]
        times = []
        for fault in self._faults:
            if isinstance(fault.where, Seconds):
                times.append(fault.where.start)
            else:
                starts.append(fault.where.start - isinstance(fault, Insert | Unplug))
        self._quiet_until = min(starts, default=NEVER)
        self._quiet_until_s = min(times, default=math.inf)

    def _cut(self, data: bytes, begin: int, spans: list[tuple[int, int, Fault]]) -> list[Piece]:
        """Cut the data wherever a fault begins or ends, and let each part have those that cover it."""
        beginning: dict[int, list[tuple[int, Fault]]] = {}
        for low, high, fault in spans:
            beginning.setdefault(low, []).append((high, fault))
        cuts = sorted({0, len(data), *(low for low, _, _ in spans), *(high for _, high, _ in spans)})
        pieces = _between(0, beginning)
        active: list[tuple[int, Fault]] = []
        for low, high in pairwise(cuts):
            active = [each for each in (*active, *beginning.get(low, ())) if each[0] > low]
            active.sort(key=lambda each: _ORDER[type(each[1])])
            pieces.append(self._segment(data[low:high], low, [fault for _, fault in active]))
            for last, fault in active:
                if (
                    isinstance(fault, Duplicate)
                    and begin + last == fault.where.start + fault.where.count
                    and last == high
                ):
                    pieces.append(Piece(bytes(self._recorded.pop(fault)), high, high, 0.0, False, None))
            pieces += _between(high, beginning)
        return _end_at_unplug(pieces)

    def _segment(self, data: bytes, low: int, faults: list[Fault]) -> Piece:
        high, late_s, overtaken, noisy = low + len(data), 0.0, False, False
        for fault in faults:
            match fault:
                case Garble():
                    if not noisy:  # noise upon noise is noise: the draws follow the bytes
                        data, noisy = bytes(byte ^ self._noise.randrange(1, 256) for byte in data), True
                case Flip():
                    data = bytes(byte ^ fault.mask for byte in data)
                case Drop():
                    data = b""
                case Delay():
                    late_s, overtaken = late_s + fault.by_s, overtaken or fault.overtaken
                case Duplicate():
                    self._recorded.setdefault(fault, bytearray()).extend(data)
        return Piece(data, low, high, late_s, overtaken, None)


def _end_at_unplug(pieces: list[Piece]) -> list[Piece]:
    """The bytes behind a plug that is pulled go nowhere."""
    place = next((place for place, piece in enumerate(pieces) if piece.then is not None), len(pieces))
    return pieces[: place + 1] + [piece._replace(data=b"") for piece in pieces[place + 1 :]]


def _between(place: int, beginning: dict[int, list[tuple[int, Fault]]]) -> list[Piece]:
    """What happens before the byte at `place`."""
    pieces = []
    for high, fault in beginning.get(place, ()):
        if high == place and isinstance(fault, Insert):
            pieces.append(Piece(fault.data, place, place, 0.0, False, None))
        elif high == place and isinstance(fault, Unplug):
            pieces.append(Piece(b"", place, place, 0.0, False, fault))
    return pieces


def _makers(plan: FaultPlan) -> dict[str, Callable[[int, random.Random], Fault]]:
    return {
        "drop": lambda at, _: Drop(Bytes(at)),
        "flip": lambda at, draw: Flip(Bytes(at), mask=1 << draw.randrange(8)),
        "duplicate": lambda at, _: Duplicate(Bytes(at)),
        "burst": lambda at, _: Garble(Bytes(at, plan.burst_bytes)),
        "delay": lambda at, draw: Delay(Bytes(at), plan.delay_s * (1 - draw.random()), plan.overtaken),
    }


def _concerns(fault: Fault, sender: End) -> bool:
    timed_event = isinstance(fault, Insert | Unplug) and isinstance(fault.where, Seconds)
    return not timed_event and fault.sender in {None, sender}


def _span(fault: Fault, begin: int, size: int, start_s: float, byte_s: float) -> tuple[int, int] | None:
    """Which of the bytes it hits, as indices; two equal ones for what happens between two bytes. None: it does not."""
    where = fault.where
    if isinstance(where, Seconds):
        low, high = (
            _index_at(where.start, start_s, byte_s, size),
            _index_at(where.start + where.length, start_s, byte_s, size),
        )
    elif isinstance(fault, Insert | Unplug):
        place = max(0, where.start - begin)
        return (place, place) if place <= size else None
    else:
        low, high = max(0, where.start - begin), min(size, where.start + where.count - begin)
    return (low, high) if low < high else None


def _index_at(moment_s: float, start_s: float, byte_s: float, size: int) -> int:
    """The first of the bytes that begins to leave at or after the moment."""
    if moment_s <= start_s:
        return 0
    if byte_s == 0 or moment_s == math.inf:
        return size
    return min(size, math.ceil((moment_s - start_s) / byte_s))


def _is_over(fault: Fault, end: int, now_s: float) -> bool:
    where = fault.where
    if isinstance(where, Seconds):
        return where.start + where.length <= now_s
    if isinstance(fault, Insert | Unplug):
        return where.start <= end
    return where.start + where.count <= end


# ------------------------------------------------------------------------------------------------------- by the clock


class Schedule:
    """The faults of a plan that happen at a time, whether bytes pass or not, and those that the wire adds.

    The plan's times count from `origin_s`; all others are those of the wire's clock.
    """

    def __init__(self, plan: FaultPlan, origin_s: float) -> None:
        self._events: list[tuple[float, int, Event]] = []
        self._order = 0
        self.next_s = math.inf
        """When the next one is due."""
        for fault in plan.script:
            if isinstance(fault, Insert | Unplug) and isinstance(fault.where, Seconds):
                self.add(origin_s + fault.where.start, fault)

    def add(self, when_s: float, event: Event) -> None:
        """Let `event` be due at `when_s`; of several at one time in the order in which they were added."""
        self._order += 1
        self._events.append((when_s, self._order, event))
        self._events.sort(key=lambda entry: entry[:2])
        self.next_s = self._events[0][0]

    def pop(self) -> tuple[float, Event]:
        """Take the next one away. Raises IndexError when there is none."""
        when_s, _, event = self._events.pop(0)
        self.next_s = self._events[0][0] if self._events else math.inf
        return when_s, event


@dataclass(frozen=True, slots=True)
class Replug:
    """The other half of an `Unplug`."""

    end: End
    name: str | None = None


Event = Insert | Unplug | Replug
