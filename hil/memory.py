"""An in-memory wire with a virtual clock: what a line does to bytes and their timing, with no time passing at all.

    clock = VirtualClock()
    wire = MemoryWire(clock, byte_rate=11520.0, faults=FaultPlan(seed=1, flip=1e-3))
    wire.write(End.A, link_a.output(clock.now))
    clock.advance_to(min(wire.next_arrival(), clock.now + link_b.wait(clock.now)))
    link_b.receive(wire.read(End.B), clock.now)

Bytes leave one after the other at `byte_rate`, are on the way for `delay_s`, and come in lumps as a UART's FIFO gives
them. An end that is unplugged raises OSError (EIO), as a port does.
"""

from __future__ import annotations

import errno
import math
from bisect import insort
from collections import deque
from typing import Final

from hil.damage import Damage, Event, Piece, Replug, Schedule
from hil.faults import CLEAN, End, FaultPlan, Insert, Seconds, Unplug

LUMP: Final = 64
"""Bytes that come at once on a paced wire, at most: what a USB adapter or a FIFO collects."""


class VirtualClock:
    """A time that passes when it is told to. In seconds."""

    __slots__ = ("_now",)

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    @property
    def now(self) -> float:
        return self._now

    def advance_to(self, moment: float) -> None:
        """Let time pass up to `moment`. Raises ValueError for a moment that is past, or never comes."""
        if not self._now <= moment < math.inf:
            raise ValueError(f"time can't go from {self._now} to {moment}")
        self._now = moment

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self.advance_to(self._now + seconds)


class _Direction:
    """The bytes from one end to the other: those on the way by their arrival, and those that arrived."""

    __slots__ = ("arrived", "damage", "delivered", "free_at", "last_arrival", "mute", "on_the_way", "sent")

    def __init__(self) -> None:
        self.damage: Damage | None = None
        self.mute = False
        self.on_the_way: deque[tuple[float, bytes]] = deque()
        self.arrived = b""
        self.free_at = 0.0
        self.last_arrival = 0.0
        self.sent = 0
        self.delivered = 0

    def put(self, arrival: float, data: bytes, *, overtaken: bool = False) -> None:
        """Send `data` on its way. Only what is `overtaken` lets later bytes pass."""
        if not overtaken:
            arrival = self.last_arrival = max(arrival, self.last_arrival)
        if self.on_the_way and self.on_the_way[-1][0] > arrival:
            insort(self.on_the_way, (arrival, data), key=lambda entry: entry[0])
        else:
            self.on_the_way.append((arrival, data))

    def land(self, now: float) -> None:
        """What has arrived by now is no longer on the way."""
        on_the_way = self.on_the_way
        if on_the_way and on_the_way[0][0] <= now:
            lumps = [self.arrived]
            while on_the_way and on_the_way[0][0] <= now:
                lumps.append(on_the_way.popleft()[1])
            self.arrived = b"".join(lumps)

    def lose(self, now: float) -> None:
        """What is on the way never arrives."""
        self.on_the_way.clear()
        self.free_at = self.last_arrival = now


class MemoryWire:
    """Two ends joined in memory. `byte_rate` in bytes per second; None: as fast as one writes."""

    def __init__(
        self,
        clock: VirtualClock,
        byte_rate: float | None = None,
        delay_s: float = 0.0,
        faults: FaultPlan | None = None,
        lump: int = LUMP,
    ) -> None:
        """Raises ValueError for numbers that no wire has."""
        if (byte_rate is not None and not byte_rate > 0) or delay_s < 0 or lump < 1:
            raise ValueError("a wire has a byte_rate above 0, a delay_s of 0 or more and lumps of at least one byte")
        self.clock = clock
        self._byte_s = 0.0 if byte_rate is None else 1 / byte_rate
        self._delay_s = delay_s
        self._lump = lump
        self._from = _Direction(), _Direction()
        self._plugged = [True, True]
        self.names = ["ttyA0", "ttyB0"]
        """What the ports are called now."""
        self.inflict(faults or CLEAN)

    # ---------------------------------------------------------------------------------------------------------- bytes

    def write(self, end: int, data: bytes) -> None:
        """Send from `end`. Raises OSError (EIO) when its port is unplugged."""
        now = self._use(end)
        direction = self._from[end]
        direction.sent += len(data)
        if not data or direction.mute or not self._plugged[1 - end]:
            return
        if direction.damage is None and not self._byte_s:
            direction.put(now + self._delay_s, data)
            return
        start = max(now, direction.free_at)
        direction.free_at = start + len(data) * self._byte_s
        if direction.damage is None:
            self._put(direction, Piece(data, 0, len(data), 0.0, False, None), start)
            return
        for piece in direction.damage.apply(data, start - self._origin, self._byte_s):
            self._put(direction, piece, start)

    def read(self, end: int) -> bytes:
        """What has arrived at `end` by now. Raises OSError (EIO) when its port is unplugged."""
        now = self._use(end)
        direction = self._from[1 - end]
        direction.land(now)
        data, direction.arrived = direction.arrived, b""
        direction.delivered += len(data)
        return data

    def next_arrival(self) -> float | None:
        """When something happens next, at either end: bytes arrive, or a fault is due. None: nothing will.

        Not later than now while something that arrived is not read.
        """
        moment = self._schedule.next_s
        for direction in self._from:
            if direction.arrived:
                return min(moment, self.clock.now)
            if direction.on_the_way and direction.on_the_way[0][0] < moment:
                moment = direction.on_the_way[0][0]
        return None if moment == math.inf else moment

    def sent(self, end: int) -> int:
        """Bytes written at `end` so far."""
        return self._from[end].sent

    def delivered(self, end: int) -> int:
        """Bytes read at `end` so far."""
        return self._from[1 - end].delivered

    def _use(self, end: int) -> float:
        """What is due happens; the port of `end` must be there."""
        now = self.clock.now
        if self._schedule.next_s <= now:
            self._catch_up(now)
        if not self._plugged[end]:
            raise OSError(errno.EIO, f"{self.names[end]} is unplugged")
        return now

    def _put(self, direction: _Direction, piece: Piece, start: float) -> None:
        data, begin, end = piece.data, piece.begin, piece.end
        there = start + self._delay_s + piece.late_s
        if self._byte_s and len(data) == end - begin and not piece.overtaken:
            for low in range(0, len(data), self._lump):
                lump = data[low : low + self._lump]
                direction.put(there + (begin + low + len(lump)) * self._byte_s, lump)
        elif data:
            direction.put(there + end * self._byte_s, data, overtaken=piece.overtaken)
        if piece.then is not None:
            self._schedule.add(max(there + end * self._byte_s, direction.last_arrival), piece.then)

    # --------------------------------------------------------------------------------------------------------- faults

    def inflict(self, plan: FaultPlan) -> None:
        """From now on this goes wrong, and what was planned before does not. Bytes and times count from now.

        A port that is unplugged stays so until `replug`.
        """
        self._origin = self.clock.now
        self._schedule = Schedule(plan, self._origin)
        for end in End:
            self._from[end].damage = None if plan.clean else Damage(plan, end)

    def mute(self, sender: int, *, mute: bool = True) -> None:
        """Lose everything that `sender` writes from now on; with `mute=False` no longer."""
        self._from[sender].mute = mute

    def insert(self, sender: int, data: bytes) -> None:
        """Let bytes arrive now, as if `sender` had sent them."""
        self._catch_up(self.clock.now)
        self._happen(Insert(Seconds(0.0), data, sender=End(sender)), self.clock.now)

    def unplug(self, end: int | None = None) -> None:
        """Pull the plug of `end`, or of both. What is on the way is lost, and what the end had not read."""
        self._catch_up(self.clock.now)
        self._happen(Unplug(Seconds(0.0), end=None if end is None else End(end)), self.clock.now)

    def replug(self, end: int | None = None, name: str | None = None) -> None:
        """Put the plug of `end`, or of both, back in; with `name` it is called so from now on."""
        self._catch_up(self.clock.now)
        for each in End if end is None else (End(end),):
            self._happen(Replug(each, name), self.clock.now)

    def plugged(self, end: int) -> bool:
        """Whether the port of `end` is there."""
        self._catch_up(self.clock.now)
        return self._plugged[end]

    def _catch_up(self, now: float) -> None:
        while self._schedule.next_s <= now:
            when, event = self._schedule.pop()
            self._happen(event, when)

    def _happen(self, event: Event, when: float) -> None:
        for direction in self._from:
            direction.land(when)
        match event:
            case Insert():
                for end in End:
                    if event.sender in {None, end} and self._plugged[end.other]:
                        self._from[end].arrived += event.data
            case Unplug():
                for end in event.ends:
                    self._plugged[end] = False
                    self._from[end.other].arrived = b""
                    if event.away_s < math.inf:
                        self._schedule.add(when + event.away_s, Replug(end, event.name))
                for direction in self._from:
                    direction.lose(when)
            case Replug():
                self._plugged[event.end] = True
                self.names[event.end] = event.name or self.names[event.end]
