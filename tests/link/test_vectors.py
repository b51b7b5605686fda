"""The golden vectors: our code gives exactly these bytes, and the smallest peer, which shares none of it, agrees."""

from __future__ import annotations

import json
import re
import zlib
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from gateway.link import Link, LinkConfig, frames
from gateway.link.frames import END, LAST, Hello
from gateway.link.hdlc import CRC_SIZE, FrameReader, encode, is_intact
from gateway.link.session import FrameKeys
from gateway.link.streams import Incoming, Outgoing
from tests.link.small_peer import SmallPeer
from tests.link.wire import contents
from tests.vectors import make_link

Case: TypeAlias = dict[str, Any]
FOLDER = Path(make_link.__file__).parent
NAMES = {"LAST": LAST, "END": END}


@cache
def vectors() -> dict[str, list[Case]]:
    sections: dict[str, list[Case]] = json.loads((FOLDER / "link.json").read_text(encoding="utf-8"))
    return sections


@cache
def exchanges() -> list[Case]:
    cases: list[Case] = json.loads((FOLDER / "link_exchanges.json").read_text(encoding="utf-8"))
    return cases


def by_name(case: Case) -> str:
    return str(case["name"])


SMALL = [case for case in exchanges() if case["config"]["frame"] == 64]


@pytest.mark.parametrize("path", [make_link.FRAMES, make_link.EXCHANGES], ids=lambda path: path.name)
def test_the_files_are_what_the_script_makes(path: Path) -> None:
    made = make_link.frames_text() if path == make_link.FRAMES else make_link.exchanges_text()
    if path == make_link.FRAMES:
        # What a deflater makes of a message depends on the zlib that runs here: see the test below.
        made, held = json.loads(made), json.loads(path.read_text(encoding="utf-8"))
        del made["deflate"], held["deflate"]
        assert made == held
    else:
        assert made == path.read_text(encoding="utf-8")


class TestOurs:
    @pytest.mark.parametrize("case", vectors()["keys"], ids=str)
    def test_keys(self, case: Case) -> None:
        nonces = vectors()["nonces"][0]
        keys = FrameKeys(case["sender"][:1].encode(), nonces["initiator"], nonces["responder"])
        assert keys.key(case["seq"], case["ack"]) == case["key"]

    @pytest.mark.parametrize("case", vectors()["frames"], ids=by_name)
    def test_frames_are_written_and_read(self, case: Case) -> None:
        content, line = bytes.fromhex(case["content"]), bytes.fromhex(case["line"])
        assert encode(content, case["key"]) == line
        (frame,) = FrameReader(2000).receive(line)
        assert is_intact(frame, case["key"])
        assert frame[:-CRC_SIZE] == content

    @pytest.mark.parametrize("case", [case for case in vectors()["frames"] if "version" in case], ids=by_name)
    def test_hellos_are_written_and_read(self, case: Case) -> None:
        said = {name: case[name] for name in Hello.__slots__ if name != "initiator"}
        hello = Hello(initiator=case["sender"] == "initiator", **said)
        assert hello.encode().hex() == case["content"]
        assert Hello.decode(bytes.fromhex(case["content"])) == hello

    @pytest.mark.parametrize("case", [case for case in vectors()["frames"] if case["kind"] == "DATA"], ids=by_name)
    def test_data_is_written_and_read(self, case: Case) -> None:
        flags, payload = sum(NAMES[name] for name in case["flags"]), bytes.fromhex(case["payload"])
        content = frames.data(flags, case["seq"], case["ack"], case["stream"], payload)
        assert content.hex() == case["content"]
        read_flags, *rest = frames.fragment_of(content)
        assert read_flags & (LAST | END) == flags
        assert rest == [case["stream"], payload]

    @pytest.mark.parametrize("case", [case for case in vectors()["frames"] if case["kind"] == "ACK"], ids=by_name)
    def test_acks_are_written(self, case: Case) -> None:
        content = frames.ack(bool(case["flags"]), case["ack"], case["room"], bytes.fromhex(case["bitmap"]))
        assert content.hex() == case["content"]

    @pytest.mark.parametrize("case", vectors()["deflate"], ids=by_name)
    def test_deflated_payloads_give_the_messages_and_so_do_our_own(self, case: Case) -> None:
        messages = [bytes.fromhex(message) for message in case["messages"]]
        incoming = Incoming(case["window"], 1000)
        assert [incoming.receive(LAST, bytes.fromhex(payload)) for payload in case["payloads"]] == messages
        outgoing, incoming = Outgoing(case["window"]), Incoming(case["window"], 1000)
        for message in messages:
            outgoing.put(message)
        assert [incoming.receive(*outgoing.fragment(500)) for _ in messages] == messages

    @pytest.mark.parametrize("case", exchanges(), ids=by_name)
    def test_exchanges_give_these_bytes_and_events_at_these_times(self, case: Case) -> None:
        nonces = iter(case["nonces"])
        link = Link(LinkConfig(**case["config"]), nonces=lambda: next(nonces), now=0.0)
        for step in case["steps"]:
            link.receive(bytes.fromhex(step["receive"]), step["at"])
            for action, *arguments in step["do"]:
                make_link.perform(link, action, arguments, step["at"])
            assert link.output(step["at"]).hex() == step["write"], step
            assert [make_link.told(event) for event in link.take_events()] == step["events"]

    @pytest.mark.parametrize("case", vectors()["refused"], ids=by_name)
    def test_what_has_to_be_refused_is_told_to_nobody_and_counted(self, case: Case) -> None:
        script = make_link.Script("refused", initiator=True)
        script.open()
        script.link.open()
        script.step(bytes.fromhex(case["line"]), at=1.0)
        assert script.steps[-1]["events"] == []
        assert contents(bytes.fromhex(script.steps[-1]["write"])) in ([], [b"\x31\x00\x10"])
        assert script.link.counters.crc_errors == 1


class TestSmallestPeer:
    """Held to the rules of docs/reference/serial-link.md: ACK frames may be more or fewer, all else is the same."""

    @pytest.mark.parametrize("case", vectors()["keys"], ids=str)
    def test_keys(self, case: Case) -> None:
        nonces = vectors()["nonces"][0]
        numbers = nonces["initiator"].to_bytes(4, "big") + nonces["responder"].to_bytes(4, "big")
        assert zlib.crc32(case["sender"][:1].encode() + numbers) == case["session_key"]
        assert SmallPeer.key(case["session_key"], case["seq"], case["ack"]) == case["key"]

    @pytest.mark.parametrize("case", vectors()["frames"], ids=by_name)
    def test_frames_are_written_and_read(self, case: Case) -> None:
        read: list[bytes] = []

        class Reader(SmallPeer):
            def take(self, frame: bytes, now: float) -> None:
                read.append(frame)

        peer = Reader(lambda: 1, lambda message: None)
        peer.out.clear()
        peer.write(bytes.fromhex(case["content"]), case["key"])
        assert peer.out.hex() == case["line"]
        peer.receive(bytes.fromhex(case["line"]), 0.0)
        fits = len(case["content"]) // 2 <= 64
        assert [frame[:-4].hex() for frame in read] == [case["content"]] * fits

    @pytest.mark.parametrize("case", SMALL, ids=by_name)
    def test_exchanges_give_the_same_frames_and_messages(self, case: Case) -> None:
        nonces = iter(case["nonces"])
        heard: list[bytes] = []
        replies: list[bytes] = []

        def on_message(message: bytes) -> bytes | None:
            heard.append(message)
            return replies.pop(0) if replies else None

        peer = SmallPeer(lambda: next(nonces), on_message)
        for step in case["steps"]:
            replies[:] = [
                bytes.fromhex(message) for action, _, *rest in step["do"] if action == "send" for message in rest
            ]
            peer.receive(bytes.fromhex(step["receive"]), step["at"])
            assert told_by(peer.output(step["at"])) == told_by(bytes.fromhex(step["write"])), step
            assert heard == [bytes.fromhex(event[2]) for event in step["events"] if event[0] == "received"]
            heard.clear()


def told_by(line: bytes) -> tuple[list[bytes], int | None]:
    """The frames that are no ACKs, and the number acknowledged last."""
    written = contents(line)
    acks = [content[1] if content[0] & 0xF0 == frames.ACK else content[2] for content in written if content[0] < 0x40]
    return [content for content in written if content[0] & 0xF0 != frames.ACK], acks[-1] if acks else None


def test_the_examples_of_the_reference_page_are_vectors() -> None:
    page = (FOLDER.parents[1] / "docs/reference/serial-link.md").read_text(encoding="utf-8")
    examples = [found.replace(" ", "") for found in re.findall(r"^((?:[0-9a-f]{2} )+7e)\b", page, re.MULTILINE)]
    assert len(examples) == 14
    assert set(examples) <= {case["line"] for case in vectors()["frames"]}
    rows = re.findall(r"^\| initiator \|.*\| `(\w+)` \| `(\w+)` \|$", page, re.MULTILINE)
    known = {(f"{case['session_key']:08x}", f"{case['key']:08x}") for case in vectors()["keys"]}
    assert len(rows) == 3
    assert set(rows) <= known


def test_the_exchanges_have_every_kind_of_event_and_of_action() -> None:
    steps = [step for case in exchanges() for step in case["steps"]]
    assert {event[0] for step in steps for event in step["events"]} == {"opened", "received", "ended", "down"}
    assert {action[0] for step in steps for action in step["do"]} == {
        *("open", "send", "end", "accepting", "restart", "close"),
    }
