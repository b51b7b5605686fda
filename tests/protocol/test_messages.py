"""Messages in all dialects, against conversations of real stock peers (tests/vectors/messages.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ProtocolError
from gateway.limits import Limits
from gateway.protocol import brine
from gateway.protocol.constants import EXCEPTION, REPLY, REQUEST
from gateway.protocol.framing import FrameDecoder, frame
from gateway.protocol.messages import (
    REMEMBERED,
    REMEMBERED_SIZE,
    RPYC5,
    RPYC6,
    SEQ_MAX,
    THREADS,
    MessageDecoder,
    dialect_of,
    encode_int,
)

LIMITS: Final = Limits()
VECTORS: Final[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "messages.json").read_text())
DIALECTS: Final = {"rpyc6": RPYC6, "rpyc5": RPYC5}
TALKS: Final = [
    (dialect, mode, name) for dialect in VECTORS for mode in ("plain", "bound") for name in VECTORS[dialect][mode]
]

each_talk = pytest.mark.parametrize(("dialect", "mode", "name"), TALKS, ids="-".join)


def frames(dialect: str, mode: str, name: str) -> list[dict[str, Any]]:
    """The frames of a conversation, with its values evaluated."""
    rows = VECTORS[dialect][mode][name]
    return [{**row, "frame": bytes.fromhex(row["frame"]), "args": eval(row["args"], {})} for row in rows]


def message_in(whole: bytes) -> bytes:
    decoder = FrameDecoder(LIMITS)
    decoder.receive(whole)
    message = decoder.next_message()
    assert message is not None
    return message


def expected(row: dict[str, Any]) -> tuple[Any, ...]:
    threads = row["threads"] and tuple(row["threads"])
    return row["type"], row["seq"], row["args"], threads


# -- stock's bytes -----------------------------------------------------------------------------------------------------


def test_the_vectors_are_of_both_generations_of_stock() -> None:
    assert VECTORS["rpyc6"]["made_by"].startswith("rpyc 6.")
    assert VECTORS["rpyc5"]["made_by"].startswith("rpyc 5.")


def test_the_vectors_hold_every_handler_that_stock_clients_use() -> None:
    rows = [row for talk in TALKS if talk[0] == "rpyc6" for row in frames(*talk)]
    assert {row["args"][0] for row in rows if row["type"] == REQUEST} == set(range(1, 21))
    assert {row["type"] for row in rows} == {REQUEST, REPLY, EXCEPTION}


@each_talk
def test_what_stock_said_is_decoded_as_stock_meant_it(dialect: str, mode: str, name: str) -> None:
    for row in frames(dialect, mode, name):
        decoded = MessageDecoder(LIMITS).decode(message_in(row["frame"]))
        assert repr(decoded) == repr(expected(row))


@each_talk
def test_what_stock_said_is_encoded_to_the_same_bytes(dialect: str, mode: str, name: str) -> None:
    for row in frames(dialect, mode, name):
        threads = b"" if row["threads"] is None else THREADS.pack(*row["threads"])
        head = threads + DIALECTS[dialect][row["type"]] + encode_int(row["seq"])
        data = head + brine.dump(row["args"], LIMITS)
        assert data == message_in(row["frame"])
        if not row["frame"][4]:  # not compressed by stock
            assert frame(data, LIMITS) == row["frame"]


@pytest.mark.parametrize("size", [1, 7, 4096])
@each_talk
def test_a_whole_conversation_is_decoded_in_any_cut(dialect: str, mode: str, name: str, size: int) -> None:
    rows = frames(dialect, mode, name)
    stream = b"".join(row["frame"] for row in rows)
    cutter, decoder = FrameDecoder(LIMITS), MessageDecoder(LIMITS)
    decoded = []
    for start in range(0, len(stream), size):
        cutter.receive(stream[start : start + size])
        while (message := cutter.next_message()) is not None:
            decoded.append(decoder.decode(message))
    assert repr(decoded) == repr([expected(row) for row in rows])


@each_talk
def test_the_dialect_is_recognised_by_any_message(dialect: str, mode: str, name: str) -> None:
    for row in frames(dialect, mode, name):
        assert dialect_of(message_in(row["frame"])) is DIALECTS[dialect]


@pytest.mark.parametrize(
    ("whole", "kind", "seq", "args"),
    [
        ("00000008 00 01 11 50 11 53 11 51 02 0a", REQUEST, 0, (3, (1, ()))),
        ("00000006 00 02 11 50 11 51 53 0a", REPLY, 0, (1, 3)),
        ("00000004 00 03 11 55 51 0a", EXCEPTION, 5, 1),
        ("00000008 00 01 11 52 11 52 11 51 02 0a", REQUEST, 2, (2, (1, ()))),
    ],
    ids=["getroot", "reply", "stop-iteration", "close"],
)
def test_the_documented_samples_of_the_wire(whole: str, kind: int, seq: int, args: Any) -> None:
    assert MessageDecoder(LIMITS).decode(message_in(bytes.fromhex(whole))) == (kind, seq, args, None)
    assert frame(RPYC6[kind] + encode_int(seq) + brine.dump(args), LIMITS) == bytes.fromhex(whole)


@pytest.mark.parametrize("number", [0, 1, 159, 160, 255, 256, 4095, 10**6, 2**31, 2**63 - 1])
def test_a_number_is_encoded_as_brine_encodes_it(number: int) -> None:
    assert encode_int(number) == brine.dump(number)


# -- what is no message ------------------------------------------------------------------------------------------------

WRONG: Final = {
    "an unknown type": b"\x04" + brine.dump((0, (3, (1, ())))),
    "text of another protocol": b"GET / HTTP/1.1\r\n",
    "a type without a body": b"\x01",
    "a body that is no tuple": b"\x01" + brine.dump(5),
    "a tuple of one": b"\x02" + brine.dump((5,)),
    "a tuple of three": b"\x03" + brine.dump((5, 6, 7)),
    "a sequence number that is no int": b"\x02" + brine.dump(("5", 6)),
    "a sequence number that is a bool": b"\x01" + brine.dump((True, (3, (1, ())))),
    "a negative sequence number": b"\x01" + brine.dump((-1, (3, (1, ())))),
    "a sequence number nobody counts to": b"\x02" + brine.dump((SEQ_MAX, 1)),
    "a request with such a sequence number": b"\x01" + brine.dump((10**300, (3, (1, ())))),
    "a sequence number with a leading zero": b"\x01\x11\x16\x0201" + brine.dump((3, (1, ()))),
    "a sequence number that is cut short": b"\x01\x11\x16\x0512",
    "bytes behind the message": b"\x01" + brine.dump((0, (3, (1, ())))) + b"\0",
    "a message that is cut short": (b"\x01" + brine.dump((0, (3, (1, ())))))[:-1],
    "an old message of two parts": b"\x12" + brine.dump((1, 0))[1:],
    "an old message of an unknown type": brine.dump((4, 0, (3, (1, ())))),
    "an old message whose type is no int": brine.dump(("1", 0, (3, (1, ())))),
    "an old message whose type is a bool": brine.dump((True, 0, (3, (1, ())))),
    "an old message with a negative number": brine.dump((1, -1, (3, (1, ())))),
    "thread ids alone": THREADS.pack(1, 2),
    "thread ids cut short": THREADS.pack(1, 2)[:9],
    "thread ids before nothing known": THREADS.pack(1, 2) + b"\x07",
    "thread ids before a broken message": THREADS.pack(1, 2) + b"\x02" + brine.dump((5,)),
}


@pytest.mark.parametrize("message", WRONG.values(), ids=WRONG)
def test_what_is_no_message_is_a_protocol_error(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        MessageDecoder(LIMITS).decode(message)


# -- what the decoder remembers ----------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)
requests = st.tuples(st.integers(0, 400), values).map(lambda body: b"\x01" + brine.dump(body))


def outcome(decoder: MessageDecoder, message: bytes) -> str:
    try:
        return repr(decoder.decode(message))
    except ProtocolError:
        return "refused"


def test_the_same_request_under_another_number_gives_the_same_args() -> None:
    decoder = MessageDecoder(LIMITS)
    box = (8, (2, ((3, ("a.B", 1, 2)), (1, "voltage"), (1, ()), (1, ()))))
    decoded = [decoder.decode(b"\x01" + brine.dump((seq, box))) for seq in (0, 159, 160, 99999)]
    assert [row[1] for row in decoded] == [0, 159, 160, 99999]
    assert all(row[2] == box for row in decoded)
    assert len({id(row[2]) for row in decoded}) == 1, "short requests are decoded once"


@settings(deadline=None)
@given(st.lists(requests, max_size=12))
def test_two_messages_are_never_mixed_up(messages: list[bytes]) -> None:
    decoder = MessageDecoder(LIMITS)
    for message in messages + messages:
        assert outcome(decoder, message) == outcome(MessageDecoder(LIMITS), message)


def test_values_that_are_equal_but_not_the_same_are_kept_apart() -> None:
    decoder = MessageDecoder(LIMITS)
    for value in (1, True, 1.0, 0, False, 0.0, -0.0, b"", (), ""):
        assert repr(decoder.decode(b"\x01" + brine.dump((7, value)))[2]) == repr(value)


@settings(deadline=None)
@given(requests, st.data())
def test_a_damaged_request_is_read_as_the_strict_codec_reads_it(message: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(1, len(message) - 1))
    damaged = message[:position] + bytes([data.draw(st.integers(0, 255))]) + message[position + 1 :]
    try:
        value = brine.load(damaged, 1, LIMITS)
        right = type(value) is tuple and len(value) == 2 and type(value[0]) is int and 0 <= value[0] < SEQ_MAX
    except ProtocolError:
        right = False
    assert outcome(MessageDecoder(LIMITS), damaged) == (
        repr((REQUEST, value[0], value[1], None)) if right else "refused"
    )


names = st.text(st.characters(codec="utf-8"), min_size=5, max_size=40)
ids = st.integers(-60, 170) | st.integers(0, 2**70)
boxes = st.lists(st.tuples(st.integers(1, 5), values), max_size=3)


def on_target(handler: int, target: tuple[Any, ...], others: list[Any]) -> bytes:
    return b"\x01" + brine.dump((7, (handler, (2, ((3, target), *others)))))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), names, ids, ids, boxes), min_size=1, max_size=4),
    st.integers(0, 40),
    st.integers(0, 255),
)
def test_requests_that_differ_in_their_target_are_read_as_the_strict_codec_reads_them(
    rows: list[tuple[int, str, int, int, list[Any]]], position: int, byte: int
) -> None:
    decoder = MessageDecoder(LIMITS)
    handler, _, _, _, others = rows[0]
    messages = [on_target(handler, (name, class_id, number), others) for _, name, class_id, number, _ in rows]
    messages += [on_target(row[0], row[1:4], row[4]) for row in rows]
    damaged = [row[: 5 + position] + bytes([byte]) + row[6 + position :] for row in messages]
    for message in (*messages, *damaged, *messages):
        assert outcome(decoder, message) == outcome(MessageDecoder(LIMITS), message)


def test_a_request_with_a_fresh_target_is_not_decoded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = MessageDecoder(LIMITS)
    call = [(1, (1,)), (1, ())]
    first = decoder.decode(on_target(7, ("builtins.method", 5, 6), call))
    monkeypatch.setattr("gateway.protocol.messages.load", None)
    for number in (7, 159, 160, 123456789):
        kind, seq, args, threads = decoder.decode(on_target(7, ("builtins.method", 5, number), call))
        assert (kind, seq, threads) == (REQUEST, 7, None)
        assert args == (7, (2, ((3, ("builtins.method", 5, number)), *call)))
        assert args[1][1][1:] == first[2][1][1][1:]


def test_what_is_remembered_of_targets_is_bounded() -> None:
    decoder = MessageDecoder(LIMITS)
    for number in range(3 * REMEMBERED):
        decoder.decode(on_target(7, (f"class.C{number}", 5, 6), [(1, number)]))
        assert len(decoder._names) <= REMEMBERED
        assert len(decoder._surroundings) <= REMEMBERED


def test_what_is_remembered_is_bounded() -> None:
    decoder = MessageDecoder(LIMITS)
    for number in range(4 * REMEMBERED):
        decoder.decode(b"\x01" + brine.dump((0, (8, number))))
        assert len(decoder._remembered) <= REMEMBERED
    long = b"\x01" + brine.dump((0, "x" * REMEMBERED_SIZE))
    assert decoder.decode(long)[2] is not decoder.decode(long)[2]


def test_a_refused_request_is_not_remembered() -> None:
    decoder = MessageDecoder(LIMITS)
    for _ in range(3):
        with pytest.raises(ProtocolError):
            decoder.decode(b"\x01\x11\x50\xf7")
    assert not decoder._remembered
