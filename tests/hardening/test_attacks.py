"""What hostile bytes do to a server: nothing that the others notice, and nothing that stays."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hardening.hostile import (
    EXCEPTION,
    REPLY,
    Hostile,
    boxes,
    by_value,
    frame,
    message,
    ours,
    theirs,
    value,
)
from tests.hardening.served import Supply
from tests.hardening.siege import Siege

MIB = 1024 * 1024
GETROOT, GETATTR, CALLATTR, CALL, DEL, INSPECT, BUFFITER = 3, 4, 8, 7, 15, 16, 17

PROFILES = pytest.mark.parametrize("profile", ["seed", "strict"])


def fatal(name: str) -> bytes:
    """Bytes after which the conversation can't go on."""
    bomb = zlib.compress(b"\0" * (64 * MIB), 9)
    return {
        "huge-length": frame(b"", length=2**32 - 1),
        "zip-bomb": frame(bomb, flag=1),
        "no-zlib": frame(b"not a zlib stream", flag=1),
        "strange-flag": frame(message(1, 0, (1, by_value("x"))), flag=7),
        "wrong-terminator": frame(message(1, 0, (1, by_value("x"))), end=b"!"),
        "strange-type": frame(b"\x77" + b"\0" * 40),
        "deep-nesting": frame(b"\x01" + b"\x10" * 5000 + b"\x00"),
        "more-items-than-bytes": frame(b"\x01\x15\xff\xff\xff\xff"),
        "sloppy-int": frame(b"\x01\x11\x16\x03+12\x02"),
        "long-int": frame(b"\x01\x11\x17\x00\x00\x27\x10" + b"9" * 10_000 + b"\x02"),
        "no-utf8": frame(b"\x01\x11\x50\x08\x0a\xff"),
        "trailing-bytes": frame(message(1, 0, (1, by_value("x"))) + b"\x00"),
    }[name]


FATAL = [
    "huge-length", "zip-bomb", "no-zlib", "strange-flag", "wrong-terminator", "strange-type", "deep-nesting",
    "more-items-than-bytes", "sloppy-int", "long-int", "no-utf8", "trailing-bytes",
]  # fmt: skip


@PROFILES
def test_bytes_of_no_rpyc_peer_end_their_own_connection_only(profile: str) -> None:
    with Siege(profile) as siege:
        for name in FATAL:
            with Hostile(siege.url) as peer:
                peer.send(fatal(name))
                assert peer.is_dropped(), f"{name}: the connection goes on"


@PROFILES
def test_a_begun_frame_that_stands_still_is_dropped(profile: str) -> None:
    with Siege(profile, progress_s=0.5) as siege, Hostile(siege.url) as peer:
        peer.send(frame(b"x" * 100)[:50])
        assert peer.is_dropped(within_s=5)


@PROFILES
def test_requests_that_no_peer_makes_are_refused_one_by_one(profile: str) -> None:
    wrong: list[tuple[int, Any]] = [
        (CALLATTR, boxes(value(7), value("__pow__"), value((12_000_000,)), value(()))),
        (CALLATTR, by_value("text", "__mul__", (10**9,), ())),
        (GETATTR, boxes(ours(("no.Such", 99, 99)), value("x"))),
        (GETATTR, boxes(theirs(1), value("x"))),
        (DEL, boxes(ours(("no.Such", 99, 99)), theirs(2))),
        (CALL, boxes(ours(("no.Such", 99, 99)), theirs(3), value(()))),
        (INSPECT, by_value(("no.Such", 99, 99))),
        (200, by_value()),
        (GETROOT, by_value(1, 2, 3)),
        (CALL, (9, "no such label")),
    ]
    with Siege(profile) as siege, Hostile(siege.url) as peer:
        root = peer.root()
        for handler, box in wrong:
            assert peer.ask(handler, box)[0] == EXCEPTION, (handler, box)
        keywords = tuple((f"k{number}", number) for number in range(5000))
        assert peer.ask(CALLATTR, boxes(ours(root), value("names"), value(()), value(keywords)))[0] == EXCEPTION
        assert peer.ask(GETATTR, boxes(ours(root), value("x" * 10_000)))[0] == EXCEPTION
        assert peer.ask(DEL, boxes(ours(("no.Such", 99, 99)), value(10**6)))[0] == REPLY, "an unknown id is nothing"
        assert peer.ask(1, by_value("still here"))[0] == REPLY


@PROFILES
def test_answers_that_nobody_asked_for_are_nothing(profile: str) -> None:
    with Siege(profile) as siege, Hostile(siege.url) as peer:
        for seq in range(500):
            peer.send(frame(message(2, seq, theirs(seq))))
            peer.send(frame(message(3, seq, ("no", "exception", 7))))
        assert peer.ask(1, by_value("still here"))[0] == REPLY


@PROFILES
def test_a_peer_that_never_reads_holds_up_nobody(profile: str) -> None:
    with Siege(profile, progress_s=1.0) as siege, Hostile(siege.url, receive_buffer=4096) as peer:
        ping = frame(message(1, 0, (1, by_value("x" * 100_000))))
        peer.pour(ping * 100, for_s=2.0)
        siege.wait_for_connections(0)


def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    with Siege("strict", connections_per_host=6, connections=12) as siege:
        peers = [Hostile(siege.url) for _ in range(20)]
        try:
            refused = sum(peer.is_dropped(within_s=0.3) for peer in peers)
            assert refused >= 20 - 6
        finally:
            for peer in peers:
                peer.sock.close()


def test_calls_beyond_the_limit_are_busy_and_the_device_goes_on() -> None:
    with Siege("strict", pending_calls=8) as siege, Hostile(siege.url) as peer:
        psu = peer.device("psu2")
        seqs = [peer.call(psu, "hold", 0.05) for _ in range(30)]
        answers = [peer.answer_to(seq) for seq in seqs[8:]]
        busy = [payload for kind, payload in answers if kind == EXCEPTION]
        assert busy
        assert all(("code", "busy") in payload[2] for payload in busy)


def names_reached(peer: Hostile, target: tuple[str, int, int], names: list[str]) -> set[str]:
    """Names that GETATTR or CALLATTR gives anything but a denial for."""
    reached = set()
    for name in names:
        for handler, box in (
            (GETATTR, boxes(ours(target), value(name))),
            (CALLATTR, boxes(ours(target), value(name), value(()), value(()))),
        ):
            kind, payload = peer.ask(handler, box)
            if kind == REPLY or ("code", "access-denied") not in payload[2]:
                reached.add(name)
    return reached


@pytest.fixture(scope="module")
def strict() -> Iterator[Siege]:
    with Siege("strict") as siege:
        yield siege


@pytest.fixture
def peer(strict: Siege) -> Iterator[Hostile]:
    with Hostile(strict.url) as peer:
        yield peer


def test_a_devices_reachable_names_are_exactly_its_exposure_table(peer: Hostile) -> None:
    names = {*dir(Supply), *dir(Supply("x")), *dir(object), "secret", "_voltage", "__globals__", "kept"}
    psu = peer.device("psu1")
    reached = names_reached(peer, psu, sorted(name for name in names if not name.endswith("hold")))
    assert {name.removeprefix("exposed_") for name in reached} == set(Supply.__exposure__) - {"hold"}


def test_a_denial_reads_the_same_for_hidden_and_for_missing_names(peer: Hostile) -> None:
    psu = peer.device("psu1")
    texts = set()
    for name in ("burn", "nope"):
        kind, payload = peer.ask(GETATTR, boxes(ours(psu), value(name)))
        assert kind == EXCEPTION
        texts.add(repr(payload).replace(name, "NAME"))
    assert len(texts) == 1


@pytest.mark.parametrize("handler", [9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20])
def test_no_handler_lets_an_address_a_path_or_a_secret_out(peer: Hostile, handler: int) -> None:
    psu = peer.device("psu1")
    box = {
        11: boxes(ours(psu), value(1), value("__init__")),
        14: boxes(ours(psu), value(2)),
        16: by_value(psu),
        17: boxes(ours(psu), value(10**9)),
        18: boxes(ours(psu), value("__getitem__"), value("burn"), value(0), value(1), value(())),
        19: boxes(ours(psu), value(None)),
        20: boxes(ours(psu), value(("builtins.object", 1, 1))),
    }.get(handler, boxes(ours(psu)))
    kind, payload = peer.ask(handler, box)
    text = repr(payload[1:] if kind == EXCEPTION and handler == 18 else payload)
    assert "the-secret" not in text
    assert "kept" not in text
    assert not re.search(r"0x[0-9a-f]{6,}|\.py\b|/tests/", text)


def test_a_drivers_own_error_reaches_the_client_without_path_address_or_traceback(peer: Hostile) -> None:
    kind, payload = peer.answer_to(peer.call(peer.device("psu1"), "fail"))
    assert kind == EXCEPTION
    assert payload[0] == ("builtins", "FileNotFoundError")
    assert payload[3] == "<traceback denied>"
    assert not re.search(r"0x[0-9a-f]{6,}|/etc|calibration\.toml", repr(payload))
