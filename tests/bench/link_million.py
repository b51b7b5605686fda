"""A million messages over a link whose line does everything wrong: how many are lost, doubled or altered.

    python tests/bench/link_million.py [MESSAGES] [SEED]

Both ends send on several streams at once, over `hil.MemoryWire` in virtual time. Every 20 000 messages the line and
the sizes of both ends change: dropped, flipped and doubled bytes, bursts of noise, delays that let later writes pass.
Each message carries its stream and its place there, so that whoever gets it knows what should have come.
"""

from __future__ import annotations

import random
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from time import perf_counter
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.link import Down, Link, LinkConfig, LinkState, Received
from hil.faults import End, FaultPlan
from hil.memory import MemoryWire, VirtualClock

STAGE: Final = 20_000
"""Messages with one set of faults and sizes, unless said otherwise."""
AHEAD: Final = 4000
"""Bytes queued on a stream at most."""
HEAD: Final = Struct("!IIBI")
"""Stage, place on the stream, stream, CRC of the rest."""

PLANS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"drop": 1e-4},
    {"flip": 1e-4, "duplicate": 1e-4},
    {"drop": 5e-4, "flip": 5e-4, "duplicate": 5e-4},
    {"burst": 2e-4, "burst_bytes": 40},
    {"delay": 1e-3, "delay_s": 0.05, "overtaken": True},
    {"delay": 2e-4, "delay_s": 1.0, "overtaken": True, "flip": 2e-4},
    {"drop": 1e-3, "flip": 1e-3, "burst": 1e-4, "delay": 5e-4, "delay_s": 0.2, "overtaken": True},
)
SIZES: Final = (
    {"frame": 512, "window": 16, "streams": 64, "deflate": 15},
    {"frame": 256, "window": 4, "streams": 4, "deflate": 9},
    {"frame": 1024, "window": 127, "streams": 8, "deflate": 0},
    {"frame": 64, "window": 2, "streams": 2, "deflate": 0},
    {"frame": 64, "window": 1, "streams": 1, "deflate": 0},
)
RATES: Final = (None, 11_520.0, 92_160.0)


@dataclass(slots=True)
class Tally:
    """What came of it."""

    messages: int = 0
    payload: int = 0
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    frames: int = 0
    retransmissions: int = 0
    crc_errors: int = 0
    overruns: int = 0
    duplicates: int = 0
    line_bytes: int = 0
    virtual_s: float = 0.0

    def __str__(self) -> str:
        size, damaged = self.payload / max(1, self.messages), self.crc_errors + self.overruns
        return (
            f"{self.messages} messages of {size:.0f} bytes, {self.virtual_s:.0f} s of the line's time,"
            f" {self.line_bytes} bytes in {self.frames} frames: {damaged} frames damaged,"
            f" {self.retransmissions} sent again, {self.duplicates} came twice\n"
            f"lost {self.lost}, doubled {self.doubled}, altered {self.altered}"
        )


@dataclass(slots=True)
class OneWay:
    """The messages of one direction in one stage."""

    stage: int
    sent: dict[int, int] = field(default_factory=dict)
    """By stream."""
    got: dict[int, int] = field(default_factory=dict)

    def make(self, stream: int, draw: random.Random) -> bytes:
        place = self.sent[stream] = self.sent.get(stream, 0) + 1
        body = draw.randbytes(int(draw.expovariate(1 / 40))) + b'{"unit": "V"}' * draw.randrange(3)
        return HEAD.pack(self.stage, place, stream, zlib.crc32(body)) + body

    def check(self, event: Received, tally: Tally) -> None:
        due = self.got.get(event.stream, 0) + 1
        stage, place, stream, crc = HEAD.unpack_from(event.message)
        if (stage, stream, crc) != (self.stage, event.stream, zlib.crc32(event.message[HEAD.size :])):
            tally.altered += 1
        elif place < due:
            tally.doubled += 1
        else:
            tally.lost += place - due
            self.got[stream] = place
            tally.messages += 1
            tally.payload += len(event.message)


def million(messages: int, seed: int = 1, per_stage: int = STAGE) -> Tally:
    """Send so many messages, both ways together. Raises RuntimeError if a session ends over it."""
    tally = Tally()
    draw = random.Random(seed)
    stage = 0
    while messages > tally.messages:
        plan = FaultPlan(seed=seed + stage, **PLANS[stage % len(PLANS)])
        count = min(per_stage, messages - tally.messages)
        sizes = SIZES[stage % len(SIZES)], SIZES[(stage + stage // 3) % len(SIZES)]
        run_stage(stage, count, plan, sizes, RATES[stage % len(RATES)], draw, tally)
        stage += 1
    return tally


def run_stage(
    stage: int,
    count: int,
    plan: FaultPlan,
    sizes: tuple[dict[str, int], dict[str, int]],
    rate: float | None,
    draw: random.Random,
    tally: Tally,
) -> None:
    """One pair of links on one line: begin, talk, and wait until all has arrived."""
    clock = VirtualClock(draw.choice((0.0, 1e6)))
    wire = MemoryWire(clock, rate, 0.0005, plan)
    began = clock.now
    links = [
        Link(
            LinkConfig(initiator=end is End.A, line_rate=rate, **sizes[end]),
            nonces=lambda: draw.getrandbits(32),
            now=clock.now,
        )
        for end in End
    ]
    ways = [OneWay(stage), OneWay(stage)]
    streams: list[int] = []
    left, target = count, tally.messages + count
    while tally.messages < target:
        for end in End:
            while data := links[end].output(clock.now):
                wire.write(end, data)
        advance(clock, wire, links)
        for end in End:
            links[end].receive(wire.read(end), clock.now)
            for event in links[end].take_events():
                if isinstance(event, Received):
                    ways[end.other].check(event, tally)
                elif isinstance(event, Down):
                    raise RuntimeError(f"stage {stage}, end {end.name}: {event} with {plan}")
        if not streams and all(link.state is LinkState.OPEN for link in links):
            peer = links[End.A].peer
            assert peer is not None
            streams = [links[End.A].open() for _ in range(min(4, peer.streams))]
        left -= talk(links, ways, streams, left, draw)
    tally.virtual_s += clock.now - began
    for end in End:
        counters = links[end].counters
        tally.frames += counters.frames_sent
        tally.line_bytes += counters.bytes_sent
        for name in ("retransmissions", "crc_errors", "overruns", "duplicates"):
            setattr(tally, name, getattr(tally, name) + getattr(counters, name))
        tally.lost += sum(ways[end].sent.values()) - sum(ways[end].got.values())


def talk(links: list[Link], ways: list[OneWay], streams: list[int], left: int, draw: random.Random) -> int:
    """Queue messages where few are queued, `left` at most; how many."""
    sent = 0
    for end in End:
        for stream in streams:
            # The serving end has a stream only since something came on it.
            if end is End.B and not ways[End.A].got.get(stream):
                continue
            while sent < left and links[end].backlog(stream) < AHEAD:
                links[end].send(stream, ways[end].make(stream, draw))
                sent += 1
    return sent


def advance(clock: VirtualClock, wire: MemoryWire, links: list[Link]) -> None:
    """Let time pass to the next thing that happens."""
    moments = [moment for moment in (wire.next_arrival(), *(link.deadline() for link in links)) if moment is not None]
    clock.advance_to(max(clock.now, min(moments)))


if __name__ == "__main__":
    start = perf_counter()
    print(million(*(int(argument) for argument in sys.argv[1:3] or ("1000000",))))
    print(f"{perf_counter() - start:.0f} s")
