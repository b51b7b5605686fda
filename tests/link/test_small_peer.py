"""The smallest peer, which knows nothing of our code, talks to a Link: the documented format is enough."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from gateway.link import Down, Ended, Event, Link, LinkConfig, LinkState, Opened, Received
from gateway.link.events import Cause
from tests.link import small_peer
from tests.link.small_peer import SmallPeer
from tests.link.wire import frames_of

STEP_S = 0.002
CALL = b"MEAS:VOLT? "


class Bench:
    """A Link and a small peer that answers in capitals, and a line that loses, doubles, damages and delays frames."""

    def __init__(self, *, chance: float = 0.0, seed: int = 1, config: LinkConfig | None = None) -> None:
        self.random = random.Random(seed)
        self.chance = chance
        self.now = 0.0
        self.heard: list[bytes] = []
        self.link = Link(config or LinkConfig(initiator=True), nonces=self.nonce, now=0.0)
        self.peer = self.new_peer()
        self.events: list[Event] = []
        self.flying: list[tuple[float, bool, bytes]] = []
        self.written = [0, 0]

    def nonce(self) -> int:
        return self.random.randrange(1, 2**32)

    def new_peer(self) -> SmallPeer:
        def answer(message: bytes) -> bytes | None:
            self.heard.append(message)
            return message.upper()

        return SmallPeer(self.nonce, answer)

    def run(self, seconds: float) -> list[Event]:
        """Let so much time pass; what the link told meanwhile."""
        until = self.now + seconds
        while self.now < until:
            self.now += STEP_S
            for to_peer, data in ((True, self.link.output(self.now)), (False, self.peer.output(self.now))):
                self.written[to_peer] += len(data)
                for frame in frames_of(data):
                    self.carry(to_peer, frame)
            due = [flight for flight in self.flying if flight[0] <= self.now]
            self.flying = [flight for flight in self.flying if flight[0] > self.now]
            for _, to_peer, frame in due:
                (self.peer if to_peer else self.link).receive(frame, self.now)
            self.events += self.link.take_events()
        told, self.events = self.events, []
        return told

    def carry(self, to_peer: bool, frame: bytes) -> None:
        draw = self.random.random
        if draw() < self.chance / 2:
            return
        if draw() < self.chance / 2:
            at = self.random.randrange(len(frame))
            frame = frame[:at] + bytes((frame[at] ^ 0x10,)) + frame[at + 1 :]
        self.flying.append((self.now + STEP_S, to_peer, frame))
        if draw() < self.chance:
            self.flying.append((self.now + draw(), to_peer, frame))

    def open(self) -> int:
        while self.link.state is not LinkState.OPEN:
            assert self.now < 60
            self.run(0.1)
        return self.link.open()

    def ask(self, stream: int, message: bytes) -> bytes:
        self.link.send(stream, message)
        for _ in range(600):
            for event in self.run(0.1):
                assert isinstance(event, Received), event
                assert event.stream == stream
                return event.message
        raise AssertionError("no answer within a minute")


def test_the_small_peer_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(small_peer.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"__future__", "collections.abc", "zlib"}


def test_both_agree_on_what_the_small_one_can() -> None:
    bench = Bench()
    (opened,) = bench.run(1)
    assert isinstance(opened, Opened)
    peer = opened.peer
    assert (peer.frame, peer.window, peer.streams, peer.message, peer.deflate) == (64, 1, 1, 4096, 0)
    assert bench.peer.open


@pytest.mark.parametrize("size", [0, 1, 60, 61, 62, 122, 123, 4000])
def test_messages_of_any_length_go_both_ways(size: int) -> None:
    bench = Bench()
    message = bytes(range(97, 123)) * (size // 26 + 1)
    assert bench.ask(bench.open(), message[:size]) == message[:size].upper()


@pytest.mark.parametrize("chance", [0.05, 0.3])
def test_through_losses_every_call_is_heard_once_and_in_order(chance: float) -> None:
    bench = Bench(chance=chance, seed=7)
    stream = bench.open()
    calls = [CALL * (number % 17) + b"%d" % number for number in range(80)]
    for call in calls:
        assert bench.ask(stream, call) == call.upper()
    assert bench.heard == calls
    assert bench.link.counters.retransmissions > 0
    assert (bench.peer.sessions, bench.link.counters.sessions) == (1, 1)


def test_more_than_256_frames_each_way_keep_both_in_step() -> None:
    bench = Bench(chance=0.02)
    stream = bench.open()
    for _ in range(12):
        assert bench.ask(stream, b"a" * 3000) == b"A" * 3000
    assert bench.peer.expected > 512
    assert bench.peer.seq > 512


def test_an_answer_of_several_frames_does_not_wait_for_delayed_acknowledgements() -> None:
    bench = Bench()
    stream = bench.open()
    began = bench.now
    bench.link.send(stream, b"a" * 1830)  # 30 frames each way
    while len(bench.heard) < 1 or bench.peer.flying or bench.peer.answers:
        bench.run(STEP_S)
    assert bench.now - began < 60 * 4 * STEP_S


def test_a_small_peer_that_starts_again_is_noticed_and_met_again() -> None:
    bench = Bench()
    bench.open()
    bench.peer = bench.new_peer()
    down, opened = bench.run(2)
    assert isinstance(down, Down)
    assert down.cause is Cause.PEER_RESET
    assert isinstance(opened, Opened)
    assert bench.ask(bench.link.open(), b"again") == b"AGAIN"


def test_the_small_peer_notices_that_the_link_began_anew() -> None:
    bench = Bench()
    bench.open()
    bench.link.restart("the port was lost", bench.now)
    told = [type(event) for event in bench.run(2)]
    assert told == [Down, Opened]
    assert bench.ask(bench.link.open(), b"again") == b"AGAIN"
    assert bench.peer.sessions == 2


def test_a_close_reaches_the_small_peer() -> None:
    bench = Bench()
    bench.open()
    bench.link.close()
    bench.run(0.1)
    assert not bench.peer.open


def test_a_stream_ends_and_its_number_is_used_again() -> None:
    bench = Bench(chance=0.1, seed=3)
    stream = bench.open()
    assert bench.ask(stream, b"first") == b"FIRST"
    bench.link.end(stream)
    assert bench.run(5) == [Ended(stream)]
    assert bench.link.open() == stream
    assert bench.ask(stream, b"second") == b"SECOND"


def test_the_small_peer_waits_while_the_link_has_no_room() -> None:
    bench = Bench(chance=0.1, seed=5)
    stream = bench.open()
    bench.link.accepting = False
    bench.link.send(stream, b"a" * 500)
    assert bench.run(6) == []
    assert bench.heard == [b"a" * 500]
    bench.link.accepting = True
    assert bench.run(6) == [Received(stream, b"A" * 500)]


def test_a_silent_line_stays_open_and_costs_little() -> None:
    bench = Bench()
    bench.open()
    bench.run(0.5)
    before = sum(bench.written)
    assert bench.run(20) == []
    assert sum(bench.written) - before < 20 * 40
