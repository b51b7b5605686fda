"""Hypothesis against two links and a nasty line: what may happen, and what has to hold whatever does.

Each message says which session, stream and life of that stream it was sent in, and its place there; so whoever gets it
knows what should have come. A stream's number is used again after both ends have ended it: each time is a *life*.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import LimitExceeded, LinkDown
from gateway.link import Down, Ended, LinkConfig, LinkState, Opened, Received
from tests.link.wire import A, B, Flight, Line

SessionId: TypeAlias = tuple[int, int]
"""The nonces of the two ends."""
MOST_PER_S = 400
"""So often a link may want to be called in a second, beside once for each thing that comes or is sent."""

MOST_QUEUED = 4000
"""Bytes on a stream: so that all that waits arrives in the time there is for it at the end."""

HEAVY = os.environ.get("LINK_MODEL", "")
"""How many examples of how many steps, as "1000x200", for a long search."""
_examples, _, _steps = (HEAVY or "100x60").partition("x")
PROFILE = settings(
    max_examples=int(_examples),
    stateful_step_count=int(_steps or "50"),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

ends = st.sampled_from([A, B])
places = st.integers(0, 1000)
delays = st.floats(0.0, 3.0)
sizes = st.sampled_from([0, 1, 10, 60, 300, 2000])
chances = st.sampled_from([0.0, 0.0, 0.1, 0.5])


@dataclass(slots=True)
class Life:
    """One life of a stream, as one end sees it."""

    number: int
    sent: list[bytes] = field(default_factory=list)
    got: list[bytes] = field(default_factory=list)
    ended_here: bool = False
    ended_there: bool = False
    abandoned: bool = False


@dataclass(slots=True)
class Session:
    """One session, as one end sees it."""

    id: SessionId
    lives: dict[int, list[Life]] = field(default_factory=dict)
    downs: int = 0

    def live(self, stream: int) -> Life | None:
        """The life that goes on: there is something to send or to come."""
        lives = self.lives.get(stream)
        if not lives or (lives[-1].ended_here and (lives[-1].ended_there or lives[-1].abandoned)):
            return None
        return lives[-1]

    def begin(self, stream: int) -> Life:
        lives = self.lives.setdefault(stream, [])
        lives.append(Life(len(lives)))
        return lives[-1]


class LinkModel(RuleBasedStateMachine):
    """Two links, both of which come back whatever happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.sessions: list[list[Session]] = [[], []]
        """Of the link that each end has now; those of earlier ones are forgotten with it."""
        self.stalls = 0

    @initialize(
        sizes=st.tuples(*[st.sampled_from([16, 17, 64, 512])] * 2),
        windows=st.tuples(*[st.sampled_from([1, 2, 16, 127])] * 2),
        streams=st.tuples(*[st.sampled_from([1, 2, 5])] * 2),
        deflate=st.tuples(*[st.sampled_from([0, 9, 15])] * 2),
        rate=st.sampled_from([None, None, 11520.0, 960.0]),
        now=st.sampled_from([0.0, 0.0, 1e6, -50.0]),
        seed=st.integers(0, 1000),
        opened=st.booleans(),
    )
    def begin(
        self,
        sizes: tuple[int, ...],
        windows: tuple[int, ...],
        streams: tuple[int, ...],
        deflate: tuple[int, ...],
        rate: float | None,
        now: float,
        seed: int,
        opened: bool,
    ) -> None:
        made = [
            LinkConfig(
                initiator=end == A,
                frame=sizes[end],
                window=windows[end],
                streams=streams[end],
                deflate=deflate[end],
                line_rate=rate,
                message=20_000,
            )
            for end in (A, B)
        ]
        self.line = Line(made[A], made[B], now=now, seed=seed)
        self.outputs_allowed = 100.0
        self.last_now = now
        if opened:
            self.run(1.0)
            self.open()

    # -- what the users of the link do ------------------------------------------------------------------------------

    @rule()
    def open(self) -> None:
        link = self.line.links[A]
        try:
            stream = link.open()
        except LinkDown:
            assert link.state is not LinkState.OPEN
            return
        except LimitExceeded:
            session = self.sessions[A][-1]
            assert link.peer is not None
            assert len(session.lives) == link.peer.streams
            return
        session = self.sessions[A][-1]
        assert session.live(stream) is None
        session.begin(stream)

    @rule(place=places, size=sizes, times=st.integers(1, 6))
    def ask(self, place: int, size: int, times: int) -> None:
        if self.pick(A, place) is None:
            self.open()
        self.send(A, place, size, times)
        self.go_on(1 + place % 4)

    @rule(place=places, size=sizes, times=st.integers(1, 6))
    def answer(self, place: int, size: int, times: int) -> None:
        self.run(0.01)
        self.send(B, place, size, times)
        self.go_on(1 + place % 4)

    def send(self, end: int, place: int, size: int, times: int) -> None:
        found = self.pick(end, place)
        if found is None or found[1].ended_here:
            return
        stream, life = found
        for _ in range(times):
            if self.line.links[end].backlog(stream) > MOST_QUEUED:
                return
            session = self.sessions[end][-1]
            head = f"{end} {session.id} {stream} {life.number} {len(life.sent)} ".encode()
            message = head + self.line.random.randbytes(size // 2) + b"v" * (size // 2)
            self.line.links[end].send(stream, message)
            life.sent.append(message)

    @rule(end=ends, place=places)
    def end_stream(self, end: int, place: int) -> None:
        found = self.pick(end, place)
        if found is not None:
            self.line.links[end].end(found[0])
            found[1].ended_here = True

    @rule(end=ends, place=places)
    def abandon_stream(self, end: int, place: int) -> None:
        found = self.pick(end, place)
        if found is not None:
            self.line.links[end].abandon(found[0])
            found[1].ended_here = found[1].abandoned = True

    def pick(self, end: int, place: int) -> tuple[int, Life] | None:
        """One of the streams that are alive at this end."""
        if self.line.links[end].state is not LinkState.OPEN:
            return None
        session = self.sessions[end][-1]
        alive = [(stream, life) for stream in sorted(session.lives) if (life := session.live(stream)) is not None]
        return alive[place % len(alive)] if alive else None

    @rule(end=ends, accepting=st.booleans())
    def accept(self, end: int, accepting: bool) -> None:
        self.line.links[end].accepting = accepting
        self.run(0.01)

    @rule(end=ends, how=st.sampled_from(["restart", "reset", "close"]))
    def begin_anew(self, end: int, how: str) -> None:
        link = self.line.links[end]
        if how == "restart":
            link.restart("the port was lost", self.line.now)
            self.line.note_events(end)
            self.check_events()
            return
        if how == "close":
            link.close()
            self.line.pump(end)
        self.check_events()
        self.line.reset(end)
        self.sessions[end].clear()

    # -- what the line does -----------------------------------------------------------------------------------------

    def flight(self, place: int) -> Flight:
        return self.line.flying[place % len(self.line.flying)]

    @precondition(lambda self: self.line.flying)
    @rule(place=places, count=st.integers(1, 5))
    def drop(self, place: int, count: int) -> None:
        for _ in range(min(count, len(self.line.flying))):
            self.line.flying.remove(self.flight(place))

    @precondition(lambda self: self.line.flying)
    @rule(place=places, delay=delays)
    def duplicate(self, place: int, delay: float) -> None:
        flight = self.flight(place)
        self.line.put(flight.to, flight.data, flight.arrival + delay)

    @precondition(lambda self: self.line.flying)
    @rule(place=places, delay=delays)
    def hold_back(self, place: int, delay: float) -> None:
        self.flight(place).arrival += delay

    @precondition(lambda self: self.line.flying)
    @rule(place=places, at=places, mask=st.integers(1, 255))
    def corrupt(self, place: int, at: int, mask: int) -> None:
        flight = self.flight(place)
        data = bytearray(flight.data)
        data[at % len(data)] ^= mask
        flight.data = bytes(data)

    @precondition(lambda self: self.line.flying)
    @rule(place=places, low=places, high=places)
    def truncate(self, place: int, low: int, high: int) -> None:
        flight = self.flight(place)
        low, high = sorted((low % len(flight.data), high % len(flight.data)))
        flight.data = flight.data[:low] + flight.data[high + 1 :] or b"\x7e"

    @precondition(lambda self: self.line.flying)
    @rule(place=places, at=places, delay=st.floats(0, 0.2))
    def cut(self, place: int, at: int, delay: float) -> None:
        flight = self.flight(place)
        at %= len(flight.data)
        if at:
            self.line.put(flight.to, flight.data[at:], flight.arrival + delay)
            flight.data = flight.data[:at]

    @rule(to=ends, data=st.binary(min_size=1, max_size=40))
    def noise(self, to: int, data: bytes) -> None:
        self.line.put(to, data)

    @rule(sender=ends, stalled=st.booleans(), frozen=st.booleans())
    def stall(self, sender: int, stalled: bool, frozen: bool) -> None:
        self.line.stalled[sender] = stalled
        self.line.frozen[sender] = frozen

    @rule(lose=chances, twice=chances, late=chances, damage=chances)
    def weather(self, lose: float, twice: float, late: float, damage: float) -> None:
        """From now on, this is the chance of each frame."""
        draw = self.line.random

        def on_frame(sender: int, frame: bytes) -> list[tuple[float, bytes]]:
            if draw.random() < lose:
                return []
            if draw.random() < damage:
                at = draw.randrange(len(frame))
                frame = frame[:at] + bytes((frame[at] ^ 1 << draw.randrange(8),)) + frame[at + 1 :]
            copies = [(draw.expovariate(20) if draw.random() < late else 0.0, frame)]
            if draw.random() < twice:
                copies.append((draw.expovariate(5), frame))
            return copies

        self.line.on_frame = on_frame

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.003, 0.02, 0.1, 0.5, 1.0, 5.0, 12.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(seconds)

    @rule(steps=st.integers(1, 20))
    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.step(self.line.now + 1.0)

    # -- what has to hold -------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        until = self.line.now + seconds
        while self.step(until):
            pass

    def step(self, until: float) -> bool:
        sent = sum(map(self.frames_sent, (A, B))), len(self.line.flying)
        went_on = self.line.step(until)
        self.outputs_allowed += 4 * (sum(map(self.frames_sent, (A, B))) - sent[0]) + 4 * sent[1] + 4
        self.check_events()
        return went_on

    def frames_sent(self, end: int) -> int:
        return self.line.links[end].counters.frames_sent

    def check_events(self) -> None:
        for end in (A, B):
            for event in self.line.take(end):
                self.check_event(end, event)

    def check_event(self, end: int, event: Any) -> None:
        sessions = self.sessions[end]
        if isinstance(event, Opened):
            assert not sessions or sessions[-1].downs == 1
            mine, theirs = self.line.opened_with[end].pop(0), event.peer.nonce
            session = Session((mine, theirs) if end == A else (theirs, mine))
            assert session.id not in [known.id for known in sessions]
            sessions.append(session)
            return
        session = sessions[-1]
        assert session.downs == 0
        match event:
            case Down():
                note(f"end {end}: {event.cause}")
                session.downs += 1
            case Received(stream, message):
                life = session.live(stream) or self.begun_by_peer(end, stream)
                head = f"{1 - end} {session.id} {stream} {life.number} {len(life.got)} ".encode()
                assert not life.abandoned
                assert not life.ended_there
                assert message.startswith(head), (message[:60], head)
                life.got.append(message)
            case Ended(stream):
                life = session.live(stream) or self.begun_by_peer(end, stream)
                assert not life.abandoned
                assert not life.ended_there
                life.ended_there = True

    def begun_by_peer(self, end: int, stream: int) -> Life:
        assert end == B
        return self.sessions[end][-1].begin(stream)

    @invariant()
    def what_came_is_a_prefix_of_what_was_sent(self) -> None:
        self.check_events()
        for mine, theirs, got_of, sent_of in self.pairs():
            assert theirs.sent[: len(mine.got)] == mine.got, (got_of, sent_of)

    def pairs(self) -> list[tuple[Life, Life, SessionId, int]]:
        """The lives that both ends know, each as seen from either side."""
        found = []
        for a in self.sessions[A]:
            for b in self.sessions[B]:
                if a.id == b.id:
                    for stream in a.lives.keys() & b.lives.keys():
                        for one, other in zip(a.lives[stream], b.lives[stream], strict=False):
                            found += [(one, other, a.id, stream), (other, one, a.id, stream)]
        return found

    @invariant()
    def nobody_wants_to_be_called_without_end(self) -> None:
        passed = max(0.0, self.line.now - self.last_now)
        self.last_now = self.line.now
        self.outputs_allowed += MOST_PER_S * passed + 8
        assert self.line.outputs <= self.outputs_allowed

    @invariant()
    def the_counters_agree_with_what_happened(self) -> None:
        for end in (A, B):
            counters = self.line.links[end].counters
            assert counters.sessions == len(self.sessions[end])
            ended = sum(session.downs for session in self.sessions[end])
            assert counters.resets <= ended
            assert counters.retransmissions <= counters.frames_sent
            got = sum(len(life.got) for each in self.sessions[end] for lives in each.lives.values() for life in lives)
            assert counters.messages_received >= got

    def teardown(self) -> None:
        """Nothing goes wrong any more: all that was sent in a session that lives arrives, and both ends can talk."""
        line = self.line
        line.stalled = [False, False]
        line.frozen = [False, False]
        line.on_frame = lambda sender, data: [(0.0, data)]
        for end in (A, B):
            line.links[end].accepting = True
        self.run(120.0)
        assert [link.state for link in line.links] == [LinkState.OPEN, LinkState.OPEN]
        assert self.sessions[A][-1].id == self.sessions[B][-1].id
        for mine, theirs, session, stream in self.pairs():
            if session == self.sessions[A][-1].id and not mine.abandoned and not theirs.abandoned:
                assert mine.got == theirs.sent, (session, stream)
                assert mine.ended_there == theirs.ended_here
        for end in (A, B):
            assert all(session.downs == 1 for session in self.sessions[end][:-1])
            for stream in list(self.sessions[end][-1].lives):
                line.links[end].end(stream)
        self.end_all()
        stream = line.links[A].open()
        line.links[A].send(stream, b"still there?")
        line.run_until(lambda: bool(line.messages(B)))
        assert line.take(B) == [Received(stream, b"still there?")]
        line.links[B].send(stream, b"yes")
        line.run_until(lambda: bool(line.messages(A)))
        assert line.take(A) == [Received(stream, b"yes")]

    def end_all(self) -> None:
        """Both ends end all streams; then all numbers are free."""
        self.run(10.0)
        for end in (A, B):
            for stream in self.sessions[end][-1].lives:
                self.line.links[end].end(stream)
        self.run(10.0)
        streams = [link._opened().streams.open for link in self.line.links]
        assert streams == [{}, {}]
