"""Brine against hostile bytes: the value that stock reads, within the limits, or an error of brine; and soon."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import thread_time
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rpyc.core import brine as stock  # type: ignore[import-untyped]

from gateway.errors import LimitExceeded
from gateway.limits import MIB, Limits
from gateway.protocol.brine import DEFAULT, BrineError, dump, load

pytestmark = pytest.mark.fuzz

SMALL = replace(DEFAULT, nesting=4, items=12, int_digits=6, unordered_items=2)
Bytes: TypeAlias = st.SearchStrategy[bytes]

# What messages are made of, and what they are broken with.
HEADS = [bytes((tag,)) for tag in range(256)]
LENGTHS = [bytes((tag, n)) for tag in (0x0E, 0x14, 0x16) for n in (0, 1, 2, 5, 8, 9, 20, 255)]
LONG_LENGTHS = [
    bytes((tag,)) + struct.pack(">I", n)
    for tag in (0x0F, 0x15, 0x17)
    for n in (0, 1, 3, 8, 255, 256, 70_000, 2**32 - 1)
]
DECIMALS = [
    bytes((0x16, len(text))) + text
    for text in (b"0", b"-1", b"200", b"-7000", b"007", b"-0", b"1234567", b"+1", b"\xd9\xa3")
]
WHOLE = [
    b"\x08\x0e\x05volts",
    b"\x08\x0b\xc2\xb5",
    b"\x18\x3f\xf0" + bytes(6),
    b"\x1b" + bytes(16),
    b"\x19\x12\x50\x51\x52",
    b"\x1a\x11\x50\x51",
]
PARTS: Bytes = st.one_of(
    st.sampled_from(HEADS),
    st.sampled_from(LENGTHS),
    st.sampled_from(LONG_LENGTHS),
    st.sampled_from(DECIMALS),
    st.sampled_from(WHOLE),
)
JUMBLES: Bytes = st.lists(PARTS, max_size=40).map(b"".join)
RUNS: Bytes = st.builds(
    lambda head, part, count, end: head + part * count + end,
    st.sampled_from([*LENGTHS, *LONG_LENGTHS]), PARTS, st.integers(0, 300), PARTS,
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.integers(-300, 5000), st.floats(), st.text(st.characters(exclude_categories=["Cs"])), st.binary()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=12).map(tuple), st.builds(slice, inner, inner, inner)),
    max_leaves=30,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The encoding of a value, changed, cut, lengthened or shortened in up to 4 places."""
    data = bytearray(dump(draw(VALUES)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 3))] = draw(st.one_of(st.binary(max_size=3), PARTS))
    return bytes(data)


def look(value: Any, level: int = 0) -> tuple[int, int, int, int]:
    """The nesting, the values, the most digits of an int and the most members of a set in a value."""
    kind = type(value)
    if kind is int:
        return level, 1, len(str(abs(value))), 0
    if kind is slice:
        value = (value.start, value.stop, value.step)
    elif kind is not tuple and kind is not frozenset:
        return level, 1, 0, 0
    inner = [look(item, level + 1) for item in value]
    deepest = max((found[0] for found in inner), default=level)
    digits = max((found[2] for found in inner), default=0)
    members = max((found[3] for found in inner), default=0)
    return deepest, 1 + sum(found[1] for found in inner), digits, max(members, len(value) if kind is frozenset else 0)


def seconds_of(data: bytes, limits: Limits = DEFAULT) -> float:
    """The processor time that decoding takes, whatever comes of it, without that of collecting the tests' garbage."""
    gc.disable()
    try:
        begun = thread_time()
        with suppress(BrineError, LimitExceeded):
            load(data, 0, limits)
        return thread_time() - begun
    finally:
        gc.enable()


def check(data: bytes, limits: Limits) -> None:
    assert seconds_of(data, limits) < 0.1
    try:
        value = load(data, 0, limits)
    except (BrineError, LimitExceeded):
        return
    # repr, because a NaN is not equal to itself; a set in it may have another order.
    if b"\x1a" not in data:
        assert repr(stock.load(data)) == repr(value)
        assert repr(load(dump(value))) == repr(value)
    nesting, items, digits, members = look(value)
    assert nesting <= limits.nesting
    assert items <= limits.items
    assert digits <= limits.int_digits
    assert members <= limits.unordered_items


@pytest.mark.parametrize("limits", [DEFAULT, SMALL], ids=["default", "small"])
@settings(deadline=None, max_examples=600)
@given(data=st.one_of(st.binary(max_size=60), JUMBLES, RUNS, damaged()))
def test_any_bytes_are_a_value_within_the_limits_or_an_error_of_brine(limits: Limits, data: bytes) -> None:
    check(data, limits)


def test_every_message_of_up_to_two_bytes_and_every_tag_with_little_after_it() -> None:
    for first in HEADS:
        check(first, DEFAULT)
        for second in HEADS:
            check(first + second, DEFAULT)
        for rest in (
            bytes(3),
            b"PPP",
            b"\x10" * 20,
            b"\x19" * 3000,
            b"\x1a" * 3000,
            b"\x08" * 3000,
            b"\xff" * 20,
            b"123456789",
        ):
            check(first + rest, DEFAULT)
            check(first + rest, SMALL)


# ------------------------------------------------------------------------------------------------- what takes longest

PRIME = (1 << 61) - 1  # ints that differ by a multiple of it have the same hash


def number(value: int) -> bytes:
    text = b"%d" % value
    return (bytes((0x16, len(text))) if len(text) < 256 else b"\x17" + struct.pack(">I", len(text))) + text


def tuple_of(items: list[bytes]) -> bytes:
    return b"\x15" + struct.pack(">I", len(items)) + b"".join(items)


def set_of(items: list[bytes]) -> bytes:
    return b"\x1a" + tuple_of(items)


def fill(item: bytes, items: int, size: int = 16 * MIB) -> bytes:
    """A message of as many of `item`, which has so many values in it, as the limits let through."""
    return tuple_of([item] * min((DEFAULT.items - 10) // items, (size - 10) // len(item)))


def colliding(count: int) -> bytes:
    return set_of([number(k * PRIME + 300) for k in range(1, count + 1)])


def colliding_tuples(count: int, length: int) -> bytes:
    return set_of([tuple_of([b"\x51"] * length + [number(k * PRIME + 300)]) for k in range(1, count + 1)])


def colliding_sets(branches: int, depth: int) -> bytes:
    """Sets of sets ... of ints, where all that stand in one set have the same hash."""
    serial = iter(range(1, branches**depth + 1))

    def build(level: int) -> bytes:
        if level == 0:
            return number(next(serial) * PRIME + 300)
        return set_of([build(level - 1) for _ in range(branches)])

    return build(depth)


MESSAGES: dict[str, Callable[[], bytes]] = {
    "a set of colliding ints": lambda: colliding(1024),
    "many sets of colliding ints": lambda: fill(colliding(1024), 1025),
    "as many colliding ints as pass, often": lambda: fill(colliding(140), 141, size=290_000),
    "as many colliding ints as pass, often and long": lambda: fill(colliding(140), 141),
    "a few colliding ints, often": lambda: fill(colliding(20), 21),
    "colliding tuples": lambda: colliding_tuples(14, 20_000),
    "many colliding tuples": lambda: colliding_tuples(1000, 280),
    "pairs of colliding tuples": lambda: fill(colliding_tuples(2, 100), 205, size=290_000),
    "sets in sets that collide, by 2": lambda: colliding_sets(2, 13),
    "small sets in sets that collide, by 2": lambda: fill(colliding_sets(2, 6), 130),
    "sets in sets that collide, by 3": lambda: fill(colliding_sets(3, 4), 130),
    "sets in sets that collide, by 10": lambda: fill(colliding_sets(10, 2), 115),
    "ints that share their low bits": lambda: fill(set_of([number(k << 50) for k in range(1, 1025)]), 1025),
    "ints of 4300 digits": lambda: fill(number(10**4299 + 7), 1),
    "ints of 4300 digits in a short message": lambda: fill(number(10**4299 + 7), 1, size=290_000),
    "sets of one": lambda: fill(b"\x1a\x10\x50", 2),
    "more tuples than allowed": lambda: tuple_of([b"\x10" * 40 + b"\x50"] * 200_000),
    "text of 16 MiB": lambda: b"\x08\x0f" + struct.pack(">I", 16 * MIB) + "é".encode() * (8 * MIB),
    "slices": lambda: fill(b"\x19\x12\x50\x50\x50", 4),
    "ints of 255 digits": lambda: fill(number(10**254 + 7), 1),
    "floats among others": lambda: fill(b"\x18" + bytes(8) + b"\x50", 2),
    "text of three bytes": lambda: fill(b"\x08\x0c\xc3\xa9a", 1),
    "complex numbers": lambda: fill(b"\x1b" + bytes(16), 1),
    "empty sets": lambda: fill(b"\x1a\x02", 1),
    "deep tuples": lambda: fill(b"\x10" * 60 + b"\x50", 61),
}


PLAIN = fill(number(1_234_567), 1)
"""As many values as one message may have, of the most usual kind."""


@pytest.mark.parametrize("make", MESSAGES.values(), ids=MESSAGES.keys())
def test_no_message_takes_much_longer_than_as_many_plain_values(make: Callable[[], bytes]) -> None:
    # A ratio, and the best of three: other processes, tracing and slow machines make both longer.
    data = make()
    assert min(seconds_of(data) for _ in range(3)) < 6 * min(seconds_of(PLAIN) for _ in range(3))
