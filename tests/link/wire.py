"""Two links and a line between them that does what it is told, frame by frame. Time is a number; nothing ever waits.

    line = Line(LinkConfig(initiator=True), LinkConfig(initiator=False))
    line.open()                                  both ends are in a session
    line.links[A].send(stream, b"hello")
    line.run(1.0)
    assert line.messages(B) == [(stream, b"hello")]

What an end writes is cut into frames, each with the flag that ends it, and each travels by itself. `line.on_frame` is
asked what becomes of it: a list of `(delay_s, bytes)`, empty for one that is lost. `line.flying` may also be changed by
hand. Every `output` is followed until it gives nothing; a link that would be asked for ever fails the test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from gateway.link import Down, Ended, Event, Link, LinkConfig, LinkState, Opened, Received
from gateway.link.hdlc import CRC_SIZE, FLAG, FrameReader

A: Final = 0
"""The end that opens streams, unless a test says otherwise."""
B: Final = 1
DELAY_S: Final = 0.001
MOST_EMPTY: Final = 3
"""So often an end may ask to be called again although it had nothing to say: once for a session that ended."""

OnFrame = Callable[[int, bytes], list[tuple[float, bytes]]]


@dataclass(slots=True)
class Flight:
    """A frame on the line."""

    arrival: float
    order: int
    to: int
    data: bytes


def frames_of(data: bytes) -> list[bytes]:
    """The pieces of `data` that end in a flag, and what is left behind the last one."""
    *whole, rest = data.split(FLAG)
    return [piece + FLAG for piece in whole] + ([rest] if rest else [])


def contents(data: bytes) -> list[bytes]:
    """What is in the frames of `data`, without their CRCs."""
    return [frame[:-CRC_SIZE] for frame in FrameReader(len(data) + 1).receive(data)]


def kinds(data: bytes) -> list[int]:
    """The kinds of the frames of `data`."""
    return [content[0] & 0xF0 for content in contents(data)]


class Line:
    """Two ends, the line and the time."""

    def __init__(
        self,
        a: LinkConfig | None = None,
        b: LinkConfig | None = None,
        *,
        now: float = 0.0,
        seed: int = 0,
        delay_s: float = DELAY_S,
    ) -> None:
        self.now = now
        self.delay_s = delay_s
        self.random = random.Random(seed)
        self.configs = [a or LinkConfig(initiator=True), b or LinkConfig(initiator=False)]
        self.nonces = [0, 0]
        """The last one each end was given."""
        self.links = [self._make(A), self._make(B)]
        self.events: list[list[Event]] = [[], []]
        self.sent: list[bytearray] = [bytearray(), bytearray()]
        """All that each end wrote."""
        self.opened_with: list[list[int]] = [[], []]
        """The nonce that each end had when it told of each session."""
        self.flying: list[Flight] = []
        self.stalled = [False, False]
        """By the end that sends: what it wrote stays on the line, and comes when this ends."""
        self.frozen = [False, False]
        """The process of that end does not run."""
        self.outputs = 0
        """How often `output` was called."""
        self.on_frame: OnFrame = lambda sender, data: [(0.0, data)]
        self._order = count()

    def _make(self, end: int) -> Link:
        def nonce() -> int:
            self.nonces[end] = self.random.randrange(1, 2**32)
            return self.nonces[end]

        return Link(self.configs[end], nonces=nonce, now=self.now)

    # -- what the ends do -------------------------------------------------------------------------------------------

    def reset(self, end: int) -> Link:
        """The process of this end is another one from now on: it knows nothing of what was."""
        self.links[end] = self._make(end)
        return self.links[end]

    def pump(self, end: int) -> bytes:
        """Put on the line whatever this end wants to write now. Fails for one that never has enough."""
        if self.frozen[end]:
            return b""
        link, written, empty = self.links[end], b"", 0
        while empty < MOST_EMPTY:
            data = link.output(self.now)
            self.outputs += 1
            for frame in frames_of(data):
                self.launch(end, frame)
            written += data
            empty += not data
            deadline = link.deadline()
            if deadline is None or deadline > self.now:
                break
        else:
            raise AssertionError(f"end {end} wants to be asked for ever: {link.deadline()} at {self.now}")
        self.sent[end] += written
        self.note_events(end)
        return written

    def launch(self, sender: int, frame: bytes) -> None:
        """Let a frame leave."""
        for delay_s, data in self.on_frame(sender, frame):
            self.put(1 - sender, data, self.now + self.delay_s + delay_s)

    def put(self, to: int, data: bytes, arrival: float | None = None) -> None:
        """Let bytes arrive at an end."""
        self.flying.append(Flight(self.now if arrival is None else arrival, next(self._order), to, data))

    def give(self, to: int, data: bytes) -> None:
        """Let bytes arrive now, before anything else."""
        self.links[to].receive(data, self.now)
        self.note_events(to)

    def note_events(self, end: int) -> None:
        """Take what the link has to tell."""
        for event in self.links[end].take_events():
            self.events[end].append(event)
            if isinstance(event, Opened):
                self.opened_with[end].append(self.nonces[end])

    # -- the time ---------------------------------------------------------------------------------------------------

    def next_moment(self) -> float | None:
        """When something happens next."""
        moments = [flight.arrival for flight in self.flying if self._can_land(flight)]
        for link, frozen in zip(self.links, self.frozen, strict=True):
            deadline = link.deadline()
            if deadline is not None and not frozen:
                moments.append(deadline)
        return max(self.now, min(moments)) if moments else None

    def _can_land(self, flight: Flight) -> bool:
        return not self.stalled[1 - flight.to] and not self.frozen[flight.to]

    def land(self) -> None:
        """What has arrived by now is received."""
        arrived = [flight for flight in self.flying if flight.arrival <= self.now and self._can_land(flight)]
        if arrived:
            self.flying = [flight for flight in self.flying if flight not in arrived]
            for flight in sorted(arrived, key=lambda flight: (flight.arrival, flight.order)):
                self.give(flight.to, flight.data)

    def step(self, until: float) -> bool:
        """Write, let time pass to the next thing that happens, and let arrive what does; False if that is too late."""
        self.pump(A)
        self.pump(B)
        moment = self.next_moment()
        if moment is None or moment > until:
            self.now = max(self.now, until)
            return False
        self.now = moment
        self.land()
        return True

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.step(until):
            pass

    def run_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> float:
        """Until `condition` holds; how long that took. Fails if it does not come true in time."""
        began = self.now
        while not condition():
            assert self.step(began + seconds) or condition(), f"not within {seconds:g} s of the line's time"
        return self.now - began

    # -- what happened ----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return all(link.state is LinkState.OPEN for link in self.links)

    def open(self) -> int:
        """Bring both ends into a session; a stream of it. What happened until then is forgotten."""
        self.run_until(lambda: self.is_open)
        self.run(0.1)
        self.take(A)
        self.take(B)
        self.sent = [bytearray(), bytearray()]
        return self.links[A].open() if self.configs[A].initiator else self.links[B].open()

    def take(self, end: int) -> list[Event]:
        events, self.events[end] = self.events[end], []
        return events

    def messages(self, end: int) -> list[tuple[int, bytes]]:
        return [(event.stream, event.message) for event in self.events[end] if isinstance(event, Received)]

    def ended(self, end: int) -> list[int]:
        return [event.stream for event in self.events[end] if isinstance(event, Ended)]

    def downs(self, end: int) -> list[Down]:
        return [event for event in self.events[end] if isinstance(event, Down)]

    def sessions(self, end: int) -> int:
        return sum(isinstance(event, Opened) for event in self.events[end])

    def bytes_received(self, end: int) -> bytes:
        return b"".join(message for _, message in self.messages(end))


def lose_when(condition: Callable[[int, bytes], bool]) -> OnFrame:
    """A line that loses the frames for which `condition(sender, frame)` holds."""
    return lambda sender, frame: [] if condition(sender, frame) else [(0.0, frame)]
