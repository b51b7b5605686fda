"""The sliding windows: what is in flight and what has come, by sequence numbers that count up without end.

A line does not reorder. So when a frame is acknowledged, every one that was sent before it and is not is lost: it goes
again at once, whatever the timer says. Where a delay did reorder them, it comes twice and is dropped there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from gateway.link.config import MAX_WINDOW

BITMAP_SIZE: Final = (MAX_WINDOW + 7) // 8
"""What lies behind so many bytes of a bitmap, no window reaches."""


@dataclass(slots=True)
class InFlight:
    """A DATA frame that was sent and not acknowledged yet."""

    seq: int
    flags: int
    stream: int
    payload: bytes
    leaves_at: float
    """When its last byte has left, as far as that is known."""
    order: int
    """Counts transmissions over all frames."""
    times: int = 1
    """How often it was sent."""
    lost: bool = False


class SendWindow:
    """Frames on their way to a peer that takes `size` of them at a time."""

    __slots__ = ("_flying", "_lost", "_orders", "_size", "base", "next", "room")

    def __init__(self, size: int) -> None:
        self._size = size
        self.base = 0
        """All before this number have arrived."""
        self.next = 0
        self.room = size
        """How many frames beyond `base` the peer takes, as it said last; 0: wait until it says otherwise."""
        self._flying: dict[int, InFlight] = {}
        """By number, in the order in which they were sent last."""
        self._lost: deque[InFlight] = deque()
        self._orders = 0

    @property
    def is_open(self) -> bool:
        """Whether a new frame may be sent."""
        return self.next - self.base < min(self._size, self.room)

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def add(self, flags: int, stream: int, payload: bytes) -> InFlight:
        """A new frame, about to be sent."""
        self._orders += 1
        frame = InFlight(self.next, flags, stream, payload, 0.0, self._orders)
        self._flying[self.next] = frame
        self.next += 1
        return frame

    def take_lost(self) -> InFlight | None:
        """The first frame that has to be sent again; it counts as sent now."""
        while self._lost:
            frame = self._lost.popleft()
            if self._flying.pop(frame.seq, None) is None:
                continue  # acknowledged meanwhile
            self._orders += 1
            frame.order, frame.lost = self._orders, False
            frame.times += 1
            self._flying[frame.seq] = frame
            return frame
        return None

    @property
    def has_lost(self) -> bool:
        while self._lost and self._lost[0].seq not in self._flying:
            self._lost.popleft()
        return bool(self._lost)

    def acknowledge(self, ack: int, bitmap: bytes = b"") -> InFlight | None:
        """The peer has all before `ack`, and those that the bitmap names. The latest sent of the ones new to us.

        An acknowledgement of what was never sent is ignored: an intact frame does not carry one.
        """
        if not self.base <= ack <= self.next:
            return None
        newest: InFlight | None = None
        for seq in range(self.base, ack):
            newest = self._take(seq, newest)
        self.base = ack
        if bitmap:
            bits = int.from_bytes(bitmap[:BITMAP_SIZE], "little")
            while bits:
                lowest = bits & -bits
                newest = self._take(ack + lowest.bit_length(), newest)
                bits ^= lowest
        if newest is not None:
            self._find_lost(newest.order)
        return newest

    def _take(self, seq: int, newest: InFlight | None) -> InFlight | None:
        frame = self._flying.pop(seq, None)
        if frame is None or (newest is not None and newest.order > frame.order):
            return newest
        return frame

    def _find_lost(self, order: int) -> None:
        for frame in self._flying.values():
            if frame.order > order:
                return
            self._lose(frame)

    def lose_all(self) -> None:
        """The peer threw away what it had no room for."""
        for frame in self._flying.values():
            self._lose(frame)

    def _lose(self, frame: InFlight) -> None:
        if not frame.lost:
            frame.lost = True
            self._lost.append(frame)

    @property
    def oldest(self) -> InFlight | None:
        """The one that was sent first of those that are not known to be lost."""
        return next((frame for frame in self._flying.values() if not frame.lost), None)

    def expire(self, frame: InFlight) -> None:
        """No acknowledgement came in time."""
        self._lose(frame)


class ReceiveWindow:
    """Frames that came, put in order again; at most `size` of them wait for one that is missing."""

    __slots__ = ("_held", "_size", "expected")

    def __init__(self, size: int) -> None:
        self._size = size
        self.expected = 0
        """All before this number have come."""
        self._held: dict[int, tuple[int, int, bytes]] = {}

    def is_new(self, seq: int) -> bool:
        return seq >= self.expected and seq not in self._held

    def fits(self, seq: int) -> bool:
        return seq < self.expected + self._size

    def add(self, seq: int, frame: tuple[int, int, bytes]) -> list[tuple[int, int, bytes]]:
        """A new frame `(flags, stream, payload)`; the frames that are in order now."""
        if seq != self.expected:
            self._held[seq] = frame
            return []
        ready = [frame]
        self.expected += 1
        while self._held and self.expected in self._held:
            ready.append(self._held.pop(self.expected))
            self.expected += 1
        return ready

    @property
    def has_gap(self) -> bool:
        return bool(self._held)

    def bitmap(self) -> bytes:
        """What is here beyond `expected`: see `frames`."""
        if not self._held:
            return b""
        bits = sum(1 << (seq - self.expected - 1) for seq in self._held)
        return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
