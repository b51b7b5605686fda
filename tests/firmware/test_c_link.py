"""The serial link in C against the golden vectors, and against our own end over a line with faults."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import LimitExceeded
from gateway.link import Link, LinkConfig, Received
from tests.firmware.conftest import Harness
from tests.link.wire import frames_of

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FOLDER / "link.json").read_text(encoding="utf-8"))
EXCHANGES = json.loads((FOLDER / "link_exchanges.json").read_text(encoding="utf-8"))
SMALLEST = ("-DBOARD_FRAME=64", "-DBOARD_WINDOW=1", "-DBOARD_MESSAGE=4096")
FOR_SMALLEST = [each for each in EXCHANGES if each["config"]["frame"] == 64]
ACK = 0x30


def frames_in(written: bytes) -> list[bytes]:
    """The frames of a piece of the line, without flags. But not acknowledgements: there may be more or fewer."""
    return [each for each in written.split(b"\x7e") if each and each[0] & 0xF0 != ACK]


def test_the_keys_are_the_golden_ones(harness: Harness) -> None:
    nonces = VECTORS["nonces"][0]
    for case in VECTORS["keys"]:
        who = b"i" if case["sender"] == "initiator" else b"r"
        seed = who + nonces["initiator"].to_bytes(4, "big") + nonces["responder"].to_bytes(4, "big")
        session = int(harness.ask("crc", 0, seed.hex()))
        assert session == case["session_key"]
        upper = b"".join((case[name] >> 8 & 0xFFFFFFFF).to_bytes(4, "big") for name in ("seq", "ack"))
        assert int(harness.ask("crc", session, upper.hex())) == case["key"]


@pytest.mark.parametrize("case", FOR_SMALLEST, ids=lambda case: case["name"])
def test_the_golden_exchanges_of_the_smallest_peer(start_harness: Callable[..., Harness], case: dict[str, Any]) -> None:
    harness = start_harness(*SMALLEST)
    harness.ask("link", *case["nonces"])
    for step in case["steps"]:
        # The end of our direction is the library's own matter: it follows the peer's.
        sends = [f"send={data or '-'}" for what, _, *rest in step["do"] if what == "send" for data in rest]
        said = harness.ask("at", round(step["at"] * 1000), step["receive"] or "-", *sends)
        told, _, written = said.rpartition("= ")
        assert frames_in(bytes.fromhex(written)) == frames_in(bytes.fromhex(step["write"])), step
        expected = [f"received:{event[2]}" for event in step["events"] if event[0] == "received"]
        assert [word for word in told.split() if word.startswith("received")] == expected, step
        assert ("down" in told) == any(event[0] == "down" for event in step["events"]), step
        opened = [f"opened:{event[1]['nonce']}" for event in step["events"] if event[0] == "opened"]
        assert [word for word in told.split() if word.startswith("opened")] == opened, step


def test_there_are_golden_exchanges_for_it() -> None:
    assert len(FOR_SMALLEST) >= 6


def in_session(harness: Harness, nonces: dict[str, int]) -> None:
    """The session of the golden frames, opened by its initiator."""
    harness.ask("link", nonces["responder"], 1, 2, 3)
    steps = FOR_SMALLEST[0]["steps"][:3]
    for step in steps:
        said = harness.ask("at", round(step["at"] * 1000), step["receive"])
    assert said.startswith("opened:")


# One of them is an initiator's own frame, which is just what a responder takes.
REFUSED = [each for each in VECTORS["refused"] if not each["name"].startswith("its own frame")]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_is_to_be_ignored_is_ignored(start_harness: Callable[..., Harness], case: dict[str, Any]) -> None:
    harness = start_harness(*SMALLEST)
    in_session(harness, VECTORS["nonces"][0])
    if case["name"].startswith("a HELLO"):
        # They are a responder's; the same with the role of an initiator would be met.
        assert harness.ask("at", 21, case["line"]) == "= "
        return
    said = harness.ask("at", 21, case["line"])
    assert "received" not in said
    assert "down" not in said


def test_the_golden_frames_of_an_initiator_are_taken(start_harness: Callable[..., Harness]) -> None:
    harness = start_harness(*SMALLEST)
    in_session(harness, VECTORS["nonces"][0])
    whole = next(each for each in VECTORS["frames"] if each["name"] == "a whole message on stream 0")
    assert harness.ask("at", 22, whole["line"]).startswith("received:2a49444e3f = ")


# -- against our own end -----------------------------------------------------------------------------------------------


class Line:
    """Our Link and the library, and a line between them that loses, doubles and damages frames; the time is made up."""

    def __init__(self, harness: Harness, *, chance: float, seed: int) -> None:
        self.harness = harness
        self.random = random.Random(seed)
        self.chance = chance
        self.now = 0.0
        self.sent: list[bytes] = []
        self.heard: list[bytes] = []
        self.answered: list[bytes] = []
        self.sessions = 0
        harness.ask("link", *(self.random.randrange(1, 2**32) for _ in range(10)))
        self.link = Link(LinkConfig(initiator=True), nonces=lambda: self.random.randrange(1, 2**32), now=0.0)
        self.to_board = b""

    def carry(self, data: bytes) -> bytes:
        carried = b""
        for frame in frames_of(data):
            luck = self.random.random()
            if luck < self.chance / 3:
                continue
            if luck < 2 * self.chance / 3:
                place = self.random.randrange(len(frame))
                carried += frame[:place] + bytes((frame[place] ^ 1 << self.random.randrange(8),)) + frame[place + 1 :]
                continue
            carried += frame * (2 if luck > 1 - self.chance / 3 else 1)
        return carried

    def turn(self, step_s: float = 0.005) -> None:
        self.now += step_s
        to_board = self.carry(self.link.output(self.now))
        answers = [f"send={self.answered[-1].hex() or '-'}"] if self.answered else []
        said = self.harness.ask("at", round(self.now * 1000), to_board.hex() or "-", *answers)
        self.answered.clear()
        told, _, written = said.rpartition("= ")
        for word in told.split():
            if word.startswith("received:"):
                message = bytes.fromhex(word.partition(":")[2])
                self.heard.append(message)
                self.answered = [message[::-1]]
            self.sessions += word.startswith("opened")
        self.link.receive(self.carry(bytes.fromhex(written)), self.now)


@pytest.mark.parametrize(
    ("settings", "chance"),
    [(SMALLEST, 0.0), (SMALLEST, 0.1), ((), 0.0), ((), 0.1), (("-DBOARD_FRAME=256", "-DBOARD_WINDOW=2"), 0.1)],
)
def test_each_message_arrives_once_over_a_line_with_faults(
    start_harness: Callable[..., Harness], settings: tuple[str, ...], chance: float
) -> None:
    line = Line(start_harness(*settings), chance=chance, seed=len(settings) + 7)
    while line.link.state.value != "open":
        line.turn()
        assert line.now < 30
    stream = line.link.open()
    for number in range(100):
        message = bytes(line.random.randrange(256) for _ in range(line.random.choice([0, 1, 7, 60, 61, 62, 200, 250])))
        line.link.send(stream, message)
        got: list[bytes] = []
        begin = line.now
        while not got:
            line.turn()
            got = [event.message for event in line.link.take_events() if isinstance(event, Received)]
            assert line.now < begin + 20, f"message {number}"
        assert got == [message[::-1]]
        assert line.heard[-1] == message
    assert len(line.heard) == 100
    assert line.sessions == 1


def test_our_own_end_knows_how_long_a_message_the_board_takes(harness: Harness) -> None:
    line = Line(harness, chance=0.0, seed=3)
    while line.link.state.value != "open":
        line.turn()
    with pytest.raises(LimitExceeded, match="257 is over the limit of 256"):
        line.link.send(line.link.open(), bytes(257))


def test_a_silent_peer_is_asked_and_then_given_up(harness: Harness) -> None:
    line = Line(harness, chance=0.0, seed=4)
    while line.link.state.value != "open":
        line.turn()
    line.turn()
    at = round(line.now * 1000)
    said = [harness.ask("at", at + later, "-") for later in range(50, 5000, 50)]
    polls = [place for place, each in enumerate(said) if "= 7e31" in each]
    assert 3 <= len(polls) <= 8
    downs = [place for place, each in enumerate(said) if each.startswith("down")]
    assert len(downs) == 1
    assert 3900 <= 50 * (downs[0] + 1) <= 4150
