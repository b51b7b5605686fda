"""One direction of a wire in real time: which bytes are on the way, and when they are there. Pure: time is an argument.

    put() --> flights: each byte arrives `byte_s` after the one before it --> land() --> held --> take_due()

`held` is the adapter: a USB serial adapter passes bytes on when a packet of 62 is full, or when its latency timer ends.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from dataclasses import dataclass
from typing import Final

from hil.damage import Damage, Piece
from hil.faults import Unplug

PACKET: Final = 62
"""Payload of a full-speed packet of an FTDI adapter: 64 bytes of which two are its status."""
AHEAD: Final = 64
AHEAD_S: Final = 0.004
"""Taken from a writer before the line has carried it: so many bytes or so much time, whichever is more."""
AHEAD_UNPACED: Final = 4096
GRAIN_S: Final = 0.0004
"""Bytes of one transmission are passed on in lumps of so much time."""
EPSILON_S: Final = 1e-9


@dataclass(slots=True)
class Flight:
    """Bytes that arrive one after the other."""

    first_s: float
    """When the next of them is there."""
    byte_s: float
    data: bytes

    @property
    def last_s(self) -> float:
        return self.first_s + (len(self.data) - 1) * self.byte_s

    def take_arrived(self, now: float) -> bytes:
        if self.last_s <= now + EPSILON_S:
            arrived, self.data = self.data, b""
            return arrived
        count = math.floor((now - self.first_s + EPSILON_S) / self.byte_s) + 1 if now + EPSILON_S >= self.first_s else 0
        arrived, self.data = self.data[:count], self.data[count:]
        self.first_s += count * self.byte_s
        return arrived


class Lane:
    """The bytes from one end to the other."""

    def __init__(self, latency_s: float) -> None:
        self.damage: Damage | None = None
        self.origin = 0.0
        """When the damage's count of bytes and time began."""
        self.mute = False
        self.sent = 0
        """Bytes taken from the writer."""
        self.delivered = 0
        """Bytes given to the reader."""
        self._latency_s = latency_s
        self.clear()

    def clear(self) -> None:
        """Everything that is on the way or held is lost."""
        self.held = bytearray()
        self._flights: deque[Flight] = deque()
        self._in_flight = 0
        self._free_at = 0.0
        self._last_arrival = 0.0
        self._release_at = math.inf
        self._waiting = 0

    def room(self, byte_s: float) -> int:
        """How many bytes more the line takes now."""
        if byte_s == 0:
            return AHEAD_UNPACED
        return max(AHEAD, int(AHEAD_S / byte_s)) - self._in_flight

    def put(self, data: bytes, now: float, byte_s: float, *, waiting: int) -> list[tuple[float, Unplug]]:
        """Send `data`. Returns what will happen to the wire because of it, and when.

        `waiting` bytes are behind it, ready to leave: when they are put, the line was not idle in between, however late
        that is done.
        """
        self.sent += len(data)
        in_time = self._waiting >= len(data)
        self._waiting = waiting
        start = self._free_at if in_time else max(now, self._free_at)
        self._free_at = start + len(data) * byte_s
        if self.mute:
            return []
        if self.damage is None:
            self._fly(Piece(data, 0, len(data), 0.0, False, None), start, byte_s)
            return []
        events = []
        for piece in self.damage.apply(data, start - self.origin, byte_s):
            arrival = self._fly(piece, start, byte_s)
            if piece.then is not None:
                events.append((arrival, piece.then))
        return events

    def stall(self) -> None:
        """The reader takes nothing: what waits behind is not sent in the meantime."""
        self._waiting = 0

    def land(self, now: float) -> None:
        """What has arrived by now is held by the adapter."""
        flights = self._flights
        while flights and (arrived := flights[0].take_arrived(now)):
            if not self.held:
                self._release_at = now + self._latency_s
            self.held += arrived
            self._in_flight -= len(arrived)
            if flights[0].data:
                break
            flights.popleft()

    def due(self, now: float) -> bytes:
        """What the adapter passes on now; `passed_on` tells it how much of it was taken."""
        if now + EPSILON_S >= self._release_at:
            return bytes(self.held)
        return bytes(self.held[: len(self.held) - len(self.held) % PACKET])

    def passed_on(self, count: int, now: float) -> None:
        """The reader has got the first `count` bytes of what is held."""
        del self.held[:count]
        self.delivered += count
        if not self.held:
            self._release_at = math.inf
        elif count:
            self._release_at = now + self._latency_s

    def next_s(self, now: float) -> float:
        """When there will be something to do."""
        if not self._flights:
            return self._release_at
        flight = self._flights[0]
        return min(self._release_at, flight.last_s, max(flight.first_s, now + GRAIN_S))

    def insert(self, data: bytes, now: float) -> None:
        """Bytes that nobody sent are there now."""
        if not self.held:
            self._release_at = now + self._latency_s
        self.held += data

    def _fly(self, piece: Piece, start: float, byte_s: float) -> float:
        there = start + piece.late_s + piece.end * byte_s
        data, spread = piece.data, byte_s
        if len(data) == piece.end - piece.begin:
            first = start + piece.late_s + (piece.begin + 1) * byte_s
        else:
            first, spread = there, 0.0
        if not data:
            return max(there, self._last_arrival)
        self._in_flight += len(data)
        if piece.overtaken:
            insort(self._flights, Flight(first, spread, data), key=lambda flight: flight.first_s)
            return there
        last = self._flights[-1] if self._flights else None
        if last is not None and last.byte_s == spread and abs(last.last_s + spread - first) < EPSILON_S:
            last.data += data
            self._last_arrival = last.last_s
            return self._last_arrival
        flight = Flight(max(first, self._last_arrival), spread, data)
        self._last_arrival = flight.last_s
        if last is not None and last.first_s > flight.first_s:
            insort(self._flights, flight, key=lambda each: each.first_s)
        else:
            self._flights.append(flight)
        return self._last_arrival
