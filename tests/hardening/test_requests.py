"""Bytes and requests that no RPyC peer sends: they end their own connection or their own call, and nothing else."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from gateway.limits import MIB
from gateway.protocol import brine
from tests.hardening.conftest import PROGRESS_S
from tests.hardening.hostile import (
    EXCEPTION,
    LOCAL,
    REPLY,
    TUPLE,
    VALUE,
    Hostile,
    boxes,
    by_value,
    frame,
    message,
    ours,
    theirs,
    value,
)
from tests.hardening.siege import Siege

PING, CLOSE, GETROOT, GETATTR, CALL, CALLATTR, DEL, INSPECT, BUFFITER = 1, 2, 3, 4, 7, 8, 15, 16, 17
PING_X = message(1, 0, (PING, by_value("x")))
COLLIDING = tuple(number * (2**61 - 1) for number in range(1, 1025))
"""Different ints of the same hash."""


def tuple_head(count: int) -> bytes:
    return b"\x15" + count.to_bytes(4, "big")


FATAL = {
    "a length of 4 GiB": frame(b"", length=2**32 - 1),
    "a length over the limit": frame(b"", length=16 * MIB + 1),
    "a zip bomb": frame(zlib.compress(bytes(64 * MIB), 9), flag=1),
    "no zlib stream": frame(b"not a zlib stream", flag=1),
    "a zlib stream and more": frame(zlib.compress(PING_X) + b"more", flag=1),
    "half a zlib stream": frame(zlib.compress(PING_X)[:-3], flag=1),
    "a strange flag": frame(PING_X, flag=7),
    "a wrong terminator": frame(PING_X, end=b"!"),
    "http": b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a strange type": frame(b"\x77" + bytes(40)),
    "deep nesting": frame(b"\x01" + b"\x10" * 5000 + b"\x00"),
    "more items than bytes": frame(b"\x01" + tuple_head(2**32 - 1)),
    "more items than allowed": frame(b"\x01\x11\x50" + tuple_head(300_001) + b"\x00" * 300_001),
    "an int with a sign": frame(b"\x01\x11\x16\x03+12\x02"),
    "an int with a zero in front": frame(b"\x01\x11\x16\x03007\x02"),
    "an int with an underscore": frame(b"\x01\x11\x16\x031_2\x02"),
    "an int with blanks": frame(b"\x01\x11\x16\x03 12\x02"),
    "an int of 10 000 digits": frame(b"\x01\x11\x17" + (10_000).to_bytes(4, "big") + b"9" * 10_000 + b"\x02"),
    "many ints of 4300 digits": frame(
        b"\x01\x11\x50" + tuple_head(3000) + (b"\x17" + (4300).to_bytes(4, "big") + b"9" * 4300) * 3000
    ),
    "a set of colliding ints": frame(
        b"\x01\x11\x50" + tuple_head(200) + (b"\x1a" + brine.dump(COLLIDING)) * 200
    ),
    "a set of too many": frame(b"\x01\x11\x50\x1a" + brine.dump(tuple(range(1025)))),
    "a set of slices": frame(b"\x01\x11\x50\x1a\x10\x19\x12\x00\x00\x00"),
    "no UTF-8": frame(b"\x01\x11\x50\x08\x0a\xff"),
    "bytes after the end": frame(PING_X + b"\x00"),
    "a negative sequence number": frame(message(1, -5, (PING, by_value("x")))),
    "a sequence number that is text": frame(message(1, "0", (PING, by_value("x")))),  # type: ignore[arg-type]
    "a handler that is text": frame(message(1, 0, ("PING", by_value("x")))),
    "a message of one": frame(b"\x01" + brine.dump((0,))),
}  # fmt: skip


@pytest.mark.parametrize("name", FATAL)
def test_bytes_of_no_rpyc_peer_end_their_own_connection(siege: Siege, name: str) -> None:
    with Hostile(siege.url) as peer:
        peer.pour(FATAL[name], for_s=5)
        assert peer.is_dropped()


def test_a_begun_frame_that_stands_still_is_dropped(siege: Siege) -> None:
    with Hostile(siege.url) as peer:
        peer.send(frame(b"x" * 100)[:50])
        assert peer.is_dropped(within_s=PROGRESS_S + 5)


def test_a_frame_in_single_bytes_is_a_frame(siege: Siege) -> None:
    with Hostile(siege.url) as peer:
        for byte in frame(PING_X):
            peer.send(bytes((byte,)))
        assert peer.receive() == (REPLY, 0, (VALUE, "x"))


NO_SUCH = ("no.Such", 99, 99)
REFUSED: dict[str, tuple[int, Any]] = {
    "a value as a target": (CALLATTR, boxes(value(7), value("__pow__"), value((12_000_000,)), value(()))),
    "all by value": (CALLATTR, by_value("text", "__mul__", (10**9,), ())),
    "a target nobody lent": (GETATTR, boxes(ours(NO_SUCH), value("x"))),
    "the peer's own object as a target": (GETATTR, boxes(theirs(1), value("x"))),
    "a reference as a name": (GETATTR, boxes(ours(NO_SUCH), theirs(2))),
    "a reference as a count": (DEL, boxes(ours(NO_SUCH), theirs(2))),
    "a negative count": (DEL, boxes(ours(NO_SUCH), value(-1))),
    "a float as a count": (BUFFITER, boxes(ours(NO_SUCH), value(1e9))),
    "a reference as arguments": (CALL, boxes(ours(NO_SUCH), theirs(3), value(()))),
    "a reference as keywords": (CALL, boxes(ours(NO_SUCH), value(()), theirs(4))),
    "an id_pack of text": (INSPECT, by_value("builtins.list")),
    "an unknown id_pack": (INSPECT, by_value(NO_SUCH)),
    "an unknown handler": (200, by_value()),
    "a handler of 4000 digits": (10**4000, by_value()),
    "too many arguments": (GETROOT, by_value(1, 2, 3)),
    "too few arguments": (CALLATTR, boxes(ours(NO_SUCH))),
    "an unknown label": (CALL, (9, "no such label")),
    "a label that is a tuple": (PING, boxes(((1, 2), "x"))),
    "a tuple of no boxes": (PING, (TUPLE, ("no", "boxes"))),
    "a box of three": (PING, (VALUE, (), ())),
    "an id_pack of floats": (GETATTR, boxes((LOCAL, ("x", 1.0, 2.0)), value("x"))),
    "a copy that was not agreed on": (PING, boxes((5, ("list", value((1, 2)))))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_requests_that_no_peer_makes_are_refused_and_the_conversation_goes_on(siege: Siege, name: str) -> None:
    handler, box = REFUSED[name]
    with Hostile(siege.url) as peer:
        assert peer.ask(handler, box)[0] == EXCEPTION
        assert peer.ask(PING, by_value("still here")) == (REPLY, (VALUE, "still here"))


def test_names_and_keywords_are_few_and_short(siege: Siege) -> None:
    with Hostile(siege.url) as peer:
        root = ours(peer.root())
        many = tuple((f"k{number}", number) for number in range(1025))
        twice, long = (("k", 1), ("k", 2)), (("k" * 201, 1),)
        for name, keywords in (("echo", many), ("echo", twice), ("echo", long), ("e" * 201, ())):
            assert peer.ask(CALLATTR, boxes(root, value(name), value(()), value(keywords)))[0] == EXCEPTION
        assert peer.ask(GETATTR, boxes(root, value(b"\xff")))[0] == EXCEPTION
        assert peer.ask(PING, by_value("still here"))[0] == REPLY


def test_a_release_of_what_was_never_lent_is_nothing(siege: Siege) -> None:
    with Hostile(siege.url) as peer:
        root = peer.root()
        assert peer.ask(DEL, boxes(ours(NO_SUCH), value(10**400)))[0] == REPLY
        assert peer.ask(DEL, boxes(ours(root), value(10**400)))[0] == REPLY
        assert peer.ask(GETATTR, boxes(ours(root), value("x")))[0] == EXCEPTION, "it gave the root back itself"
        assert peer.ask(PING, by_value("still here"))[0] == REPLY


def test_answers_that_nobody_asked_for_are_nothing(siege: Siege) -> None:
    garbage = [1, "text", ("no", "exception", 7), (("os", "system"), ("ls",), (("__class__", 1),), "text"), None]
    with Hostile(siege.url) as peer:
        for seq in range(300):
            peer.send(frame(message(2, seq, theirs(seq))) + frame(message(3, seq, garbage[seq % len(garbage)])))
        assert peer.ask(PING, by_value("still here"))[0] == REPLY


def test_a_reply_is_bounded_whatever_count_is_asked_for(strict: Siege, seed: Siege) -> None:
    for siege, name in ((strict, "readings"), (seed, "numbers")):
        with Hostile(siege.url) as peer:
            target = peer.device("psu1") if siege is strict else peer.root()
            kind, (_, numbers) = peer.answer_to(peer.call(target, name))
            assert kind == REPLY
            kind, (_, items) = peer.ask(BUFFITER, boxes(ours(numbers), value(10**9)))
            assert (kind, len(items)) == (REPLY, 10_000)


def test_proxies_over_the_limit_are_refused_and_given_back(siege: Siege) -> None:
    with Hostile(siege.url) as peer:
        kind, payload = peer.ask(PING, boxes(boxes(*[theirs(number) for number in range(10_001)])))
        assert kind == EXCEPTION
        assert ("code", "limit-exceeded") in payload[2]
        kind, payload = peer.ask(PING, boxes(theirs(1, name="x" * 513)))
        assert ("code", "limit-exceeded") in payload[2]
        assert peer.ask(PING, by_value("still here"))[0] == REPLY


def test_objects_lent_over_the_limit_are_refused(strict: Siege) -> None:
    with Hostile(strict.url) as peer:
        psu = peer.device("psu1")
        handle = frame(message(1, 10**6, (GETATTR, boxes(ours(psu), value("set_voltage")))))
        kinds = []
        for _ in range(167):  # no more at a time than may be pending: the rest would be refused as Busy
            peer.send(handle * 60)
            kinds += [peer.receive()[0] for _ in range(60)]
        assert kinds[:9_000] == [REPLY] * 9_000
        assert kinds[-1] == EXCEPTION
        assert peer.ask(PING, by_value("still here"))[0] == REPLY


def test_a_bind_threads_peer_learns_no_address(siege: Siege) -> None:
    with Hostile(siege.url) as peer:
        peer.send(frame((77).to_bytes(8, "big") + bytes(8) + message(1, 0, (PING, by_value("x")))))
        answer = peer.receive_raw()
        assert int.from_bytes(answer[8:16], "big") == 77
        assert int.from_bytes(answer[:8], "big") < 2**32
