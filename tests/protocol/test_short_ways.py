"""The short ways of MessageDecoder mean what the general way does, for every message that is one byte off."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import ProtocolError
from gateway.limits import DEFAULT_LIMITS
from gateway.protocol.brine import dump, load
from gateway.protocol.constants import (
    LABEL_LOCAL_REF,
    LABEL_REMOTE_REF,
    LABEL_TUPLE,
    LABEL_VALUE,
    REPLY,
    REQUEST,
    Handler,
)
from gateway.protocol.messages import SEQ_MAX, MessageDecoder, Returned

VALUE = (LABEL_VALUE, 7)
TARGET = (LABEL_LOCAL_REF, ("bench.Supply", 12, 4095))
MESSAGES = {
    "release": (REQUEST, 4711, (int(Handler.DEL), (LABEL_TUPLE, ((LABEL_LOCAL_REF, 300), (LABEL_VALUE, 1))))),
    "young release": (REQUEST, 3, (int(Handler.DEL), (LABEL_TUPLE, ((LABEL_LOCAL_REF, 5), (LABEL_VALUE, 2))))),
    "call": (REQUEST, 4711, (int(Handler.CALLATTR), (LABEL_TUPLE, (TARGET, (LABEL_VALUE, "volts"), VALUE, VALUE)))),
    "value": (REPLY, 4711, VALUE),
    "text": (REPLY, 159, (LABEL_VALUE, "volts")),
    "object": (REPLY, 4711, (LABEL_REMOTE_REF, ("bench.Supply", 12, 4095))),
    "young object": (REPLY, 17, (LABEL_REMOTE_REF, ("builtins.list", 3, 0))),
}


def encoded(kind: int, seq: int, args: Any) -> bytes:
    return bytes((kind,)) + dump((seq, args))


def in_general(message: bytes) -> tuple[int, int, Any] | None:
    """What brine alone says; None where that is no message of this dialect."""
    try:
        seq, args = load(message, 1)
    except (ProtocolError, TypeError, ValueError):
        return None
    in_range = message[0] in (REQUEST, REPLY) and type(seq) is int and 0 <= seq < SEQ_MAX
    return (message[0], seq, args) if in_range else None


def in_short(decoder: MessageDecoder, message: bytes) -> tuple[int, int, Any] | None:
    try:
        kind, seq, args, threads = decoder.decode(message)
    except ProtocolError:
        return None
    assert threads is None
    if type(args) is Returned:
        args = int(Handler.DEL), (LABEL_TUPLE, ((LABEL_LOCAL_REF, args.number), (LABEL_VALUE, args.times)))
    return kind, seq, args


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_is_one_byte_off_means_what_brine_says(name: str) -> None:
    whole = encoded(*MESSAGES[name])
    for place in range(1, len(whole)):
        for value in range(256):
            message = whole[:place] + bytes((value,)) + whole[place + 1 :]
            decoder = MessageDecoder(DEFAULT_LIMITS)
            decoder.decode(whole)  # so that what can be remembered is
            assert in_short(decoder, message) == in_general(message), (place, value)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_is_cut_off_or_goes_on_means_what_brine_says(name: str) -> None:
    whole = encoded(*MESSAGES[name])
    for message in [*(whole[:size] for size in range(2, len(whole))), whole + b"\0", whole + whole[1:]]:
        decoder = MessageDecoder(DEFAULT_LIMITS)
        decoder.decode(whole)
        assert in_short(decoder, message) == in_general(message), message


@pytest.mark.parametrize("seq", [0, 159, 160, 10**17, 10**18 - 1, 10**18, SEQ_MAX - 1, SEQ_MAX])
@pytest.mark.parametrize("name", MESSAGES)
def test_numbers_of_every_length_are_read(name: str, seq: int) -> None:
    kind, _, args = MESSAGES[name]
    message = encoded(kind, seq, args)
    assert in_short(MessageDecoder(DEFAULT_LIMITS), message) == in_general(message)


def test_a_release_is_read_at_once_and_not_remembered() -> None:
    decoder = MessageDecoder(DEFAULT_LIMITS)
    for _ in range(2):
        assert type(decoder.decode(encoded(*MESSAGES["release"]))[2]) is Returned
        assert decoder.again is None
