"""Brine: byte for byte stock's, strict on what it reads, bounded in both directions."""

from __future__ import annotations

import enum
import importlib.util
import json
import math
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rpyc.core import brine as stock  # type: ignore[import-untyped]

from gateway.errors import LimitExceeded, ProtocolError
from gateway.limits import Limits
from gateway.protocol.brine import DEFAULT, BrineError, NotBrine, Unencodable, dump, dump_into, dumpable, load

VECTORS = Path(__file__).parents[1] / "vectors"
CASES = json.loads((VECTORS / "brine.json").read_text())["cases"]
CALL = (7, (8, (2, ((3, ("devices.psu.Psu", 12, 34)), (1, "set_voltage"), (1, (3.3,)), (1, ())))))


def _make_brine() -> Any:
    spec = importlib.util.spec_from_file_location("make_brine", VECTORS / "make_brine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_brine = _make_brine()


def exactly(value: Any) -> Any:
    """What tells values apart that `==` does not: types, the sign of zero, NaN; and not the order of a set."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is complex:
        return kind, struct.pack(">dd", value.real, value.imag)
    if kind is tuple:
        return kind, [exactly(item) for item in value]
    if kind is frozenset:
        return kind, sorted((exactly(item) for item in value), key=repr)
    if kind is slice:
        return kind, [exactly(item) for item in (value.start, value.stop, value.step)]
    return kind, value


def nested(depth: int, core: Any = 1) -> Any:
    value = core
    for _ in range(depth):
        value = (value,)
    return value


def items_in(value: Any) -> int:
    """The values in a value, itself included; a slice and a set have those in them, and no tuple around these."""
    if type(value) is slice:
        value = (value.start, value.stop, value.step)
    return 1 + sum(items_in(item) for item in value) if type(value) in {tuple, frozenset} else 1


def depth_of(value: Any) -> int:
    if type(value) is slice:
        value = (value.start, value.stop, value.step)
    if type(value) not in {tuple, frozenset} or not value:
        return 0
    return 1 + max(depth_of(item) for item in value)


Values: TypeAlias = st.SearchStrategy[Any]
SCALARS: Values = st.one_of(
    st.sampled_from([None, True, False, NotImplemented, Ellipsis]),
    st.integers(-60, 170),
    st.integers(-5000, 5000),
    st.integers(),
    st.integers(-(10**300), 10**300),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text("aµ", min_size=120, max_size=260),
    st.binary(),
    st.binary(min_size=250, max_size=260),
)
RUNS: Values = st.one_of(st.lists(st.integers(-5000, 5000), max_size=40), st.lists(st.floats(), max_size=40)).map(tuple)


def tuples_of(inner: Values) -> Values:
    return st.lists(inner, max_size=20).map(tuple)


def hashable_around(inner: Values) -> Values:
    return st.one_of(st.frozensets(inner, max_size=6), tuples_of(inner))


def anything_around(inner: Values) -> Values:
    return st.one_of(tuples_of(inner), st.builds(slice, inner, inner, inner))


HASHABLE: Values = st.recursive(SCALARS, hashable_around, max_leaves=15)
VALUES: Values = st.recursive(st.one_of(SCALARS, RUNS, HASHABLE), anything_around, max_leaves=40)


# ------------------------------------------------------------------------------------------------- the same as stock


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["value"][:40])
def test_a_value_is_encoded_and_decoded_as_the_vectors_say(case: dict[str, str]) -> None:
    value = make_brine.value_of(case["value"])
    assert dump(value).hex() == case["hex"]
    assert exactly(load(bytes.fromhex(case["hex"]))) == exactly(value)


def test_the_vectors_are_what_stock_encodes() -> None:
    assert make_brine.PATH.read_text() == make_brine.file_text()


@settings(deadline=None)
@given(VALUES)
def test_stock_writes_and_reads_the_same(value: Any) -> None:
    data = dump(value)
    assert data == stock.dump(value)
    assert exactly(load(data)) == exactly(stock.load(data)) == exactly(value)
    assert dumpable(value)


@settings(deadline=None)
@given(VALUES)
def test_counting_the_items_changes_no_byte_and_no_value(value: Any) -> None:
    data = dump(value)
    counted = replace(DEFAULT, items=max(1, items_in(value)), nesting=max(1, depth_of(value)))
    assert dump(value, counted) == data
    # Sets and long ints count as several values when they are read.
    assert exactly(load(data, 0, replace(counted, items=50 * counted.items))) == exactly(value)


@settings(deadline=None)
@given(VALUES, st.binary(max_size=5))
def test_a_value_is_read_from_where_it_starts(value: Any, before: bytes) -> None:
    assert exactly(load(before + dump(value), len(before))) == exactly(value)


@settings(deadline=None)
@given(VALUES)
def test_pieces_are_appended_to_what_is_there(value: Any) -> None:
    out = [b"head"]
    dump_into(value, out)
    assert out[0] == b"head"
    assert b"".join(out) == b"head" + dump(value)


def test_large_bytes_are_appended_without_a_copy() -> None:
    block = bytes(100_000)
    out: list[bytes] = []
    dump_into((7, (1, block)), out)
    assert any(piece is block for piece in out)


@pytest.mark.parametrize("number", [-2049, -2048, -49, -48, -1, 0, 159, 160, 4095, 4096])
@pytest.mark.parametrize(
    "shape", [int, lambda n: (n,), lambda n: (n,) * 20, lambda n: frozenset((n,))], ids=["bare", "single", "run", "set"]
)
def test_ints_at_the_edges_of_their_tables_are_the_same_wherever_they_stand(number: int, shape: Any) -> None:
    assert dump(shape(number)) == stock.dump(shape(number))
    assert load(dump(shape(number))) == shape(number)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 7, 8, 9, 16, 17, 255, 256, 300])
@pytest.mark.parametrize("item", [1.5, 5, 1234567, "text", None, (1, 2.5), b"", ("a", (1, (2.5,)))], ids=repr)
def test_a_tuple_of_any_length_and_of_anything_is_the_same(count: int, item: Any) -> None:
    for value in ((item,) * count, (item,) * count + (True,), (False,) + (item,) * count):
        data = stock.dump(value)
        assert dump(value) == data
        assert exactly(load(data)) == exactly(value)


def test_a_run_of_floats_ends_where_another_type_begins() -> None:
    for strange in (1, True, None, "x", (1.0,), -0.0, math.nan):
        for place in (0, 5, 19):
            value: tuple[Any, ...] = (1.0,) * place + (strange,) + (2.0,) * (19 - place)
            assert dump(value) == stock.dump(value)
            assert exactly(load(dump(value))) == exactly(value)


# -------------------------------------------------------------------------------------------------- what is no brine


class Point(NamedTuple):
    x: int
    y: int


class Level(enum.IntEnum):
    LOW = 0


class Text(str):
    __slots__ = ()


class Reading(float):
    __slots__ = ()


class Silent:
    """Whose methods must not be asked: a value may be a proxy, and its methods a network call."""

    def __repr__(self) -> str:
        raise AssertionError("repr was asked for")

    __str__ = __repr__
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise AssertionError("bool was asked for")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("== was asked for")


NO_BRINE = [Point(1, 2), Level.LOW, Text("x"), Reading(1.0), [], {}, set(), bytearray(b"x"), object, print, Silent()]
AROUND: dict[str, Any] = {
    "bare": lambda value: value,
    "single": lambda value: (value,),
    "pair": lambda value: (1, value),
    "after a run": lambda value: (1.0,) * 10 + (value,),
    "deep": lambda value: nested(10, value),
    "slice": lambda value: slice(None, value, None),
    "long tuple": lambda value: (None,) * 300 + (value,),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND.keys())
@pytest.mark.parametrize("value", NO_BRINE, ids=lambda value: type(value).__name__)
def test_what_is_not_exactly_a_brine_type_goes_by_reference(value: Any, around: Any) -> None:
    assert not dumpable(around(value))
    out = [b"kept"]
    with pytest.raises(NotBrine, match=type(value).__name__):
        dump_into(around(value), out)
    assert out == [b"kept"]
    with pytest.raises(NotBrine):
        dump(around(value))


def test_a_member_of_a_frozenset_decides_too() -> None:
    assert not dumpable(frozenset((1, Text("x"))))
    with pytest.raises(NotBrine):
        dump(frozenset((1, Text("x"))))


# ------------------------------------------------------------------------------------------- what can't be encoded


@contextmanager
def digits_of_the_interpreter(limit: int) -> Iterator[None]:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND.keys())
@pytest.mark.parametrize(
    "value",
    ["\ud800", "ok \udfff", 10**4300, -(10**4300), 10**100_000, nested(65)],
    ids=["surrogate", "surrogate at the end", "digits", "negative digits", "very many digits", "nesting"],
)
def test_a_value_that_cannot_be_sent_is_an_error_of_its_own(value: Any, around: Any) -> None:
    out = [b"kept"]
    with pytest.raises(Unencodable):
        dump_into(around(value), out)
    assert out == [b"kept"]
    with pytest.raises(Unencodable):
        dump(around(value))
    assert dumpable(around(value))


def test_digits_are_bounded_and_the_sign_is_no_digit() -> None:
    limits = replace(DEFAULT, int_digits=5)
    for number in (99_999, -99_999):
        assert load(dump(number, limits), 0, limits) == number
        assert load(dump((number,) * 20, limits), 0, limits) == (number,) * 20
    for number in (100_000, -100_000):
        with pytest.raises(Unencodable):
            dump(number, limits)
        with pytest.raises(Unencodable):
            dump((number,) * 20, limits)
        for value in (number, (number,) * 20):
            with pytest.raises(LimitExceeded) as caught:
                load(dump(value), 0, limits)
            assert (caught.value.what, caught.value.actual, caught.value.allowed) == ("int_digits", 6, 5)


def test_the_interpreters_own_limit_of_digits_does_not_leak() -> None:
    limits = replace(DEFAULT, int_digits=10_000)
    data = stock.dump(10**700)
    with digits_of_the_interpreter(640):
        with pytest.raises(Unencodable):
            dump(10**700, limits)
        with pytest.raises(Unencodable):
            dump((10**700,) * 20, limits)
        with pytest.raises(BrineError):
            load(data, 0, limits)
    with digits_of_the_interpreter(0), pytest.raises(Unencodable):
        dump(1 << 100_000_000, limits)


@pytest.mark.parametrize("depth", [1, 5, 8, 9, 64])
@pytest.mark.parametrize("core", [1, (), frozenset(), slice(1, 2, 3), frozenset((1,))], ids=repr)
def test_nesting_is_bounded_alike_in_both_directions(depth: int, core: Any) -> None:
    limits = replace(DEFAULT, nesting=depth)
    deepest = nested(depth - depth_of(core), core)
    assert exactly(load(dump(deepest, limits), 0, limits)) == exactly(deepest)
    with pytest.raises(Unencodable):
        dump((deepest,), limits)
    with pytest.raises(LimitExceeded) as caught:
        load(stock.dump((deepest,)), 0, limits)
    assert (caught.value.what, caught.value.actual, caught.value.allowed) == ("nesting", depth + 1, depth)


def test_a_set_is_a_level_too() -> None:
    limits = replace(DEFAULT, nesting=3)
    value = (frozenset(((1,),)),)
    assert load(dump(value, limits), 0, limits) == value
    for deeper in (frozenset((value,)), (value,), slice(value, 1, 1)):
        with pytest.raises(Unencodable):
            dump(deeper, limits)
        with pytest.raises(LimitExceeded):
            load(dump(deeper), 0, limits)


@settings(deadline=None)
@given(VALUES)
def test_a_value_passes_with_as_many_items_as_it_has_and_not_with_one_fewer(value: Any) -> None:
    count = items_in(value)
    assert dump(value, replace(DEFAULT, items=count)) == dump(value)
    if count > 1:
        with pytest.raises(Unencodable):
            dump(value, replace(DEFAULT, items=count - 1))


@pytest.mark.parametrize("item", [1, 2.5, "V", (1, "V"), nested(12)], ids=repr)
def test_decoded_items_are_counted_where_there_may_be_too_many(item: Any) -> None:
    value = (item,) * 300
    count = items_in(value)
    assert load(dump(value), 0, replace(DEFAULT, items=count)) == value
    with pytest.raises(LimitExceeded) as caught:
        load(dump(value), 0, replace(DEFAULT, items=count - 1))
    assert caught.value.what == "items"


def test_a_frozenset_is_bounded_alike_in_both_directions() -> None:
    limits = replace(DEFAULT, unordered_items=10)
    for small in (frozenset(range(10)), (frozenset(range(10)),) * 5):
        assert load(dump(small, limits), 0, limits) == small
    large = frozenset(range(11))
    with pytest.raises(Unencodable):
        dump(large, limits)
    with pytest.raises(LimitExceeded) as caught:
        load(dump(large), 0, limits)
    assert (caught.value.what, caught.value.actual, caught.value.allowed) == ("unordered_items", 11, 10)
    assert load(dump(frozenset(range(1024)))) == frozenset(range(1024))


def test_a_value_that_shares_its_items_ends_soon() -> None:
    # 2**60 items if they were walked one by one.
    value: Any = (1, 2)
    slices: Any = 1
    for _ in range(60):
        value = (value, value)
        slices = slice(slices, slices, slices)
    assert dumpable(value)
    assert dumpable(slices)
    assert not dumpable((value, []))
    floats = tuple([1.0] * 200_000)
    texts = tuple(["x"] * 255)
    for shared in (value, slices, tuple([floats] * 200_000), tuple([texts] * 2000)):
        with pytest.raises(Unencodable):
            dump(shared)


def test_whoever_raises_the_nesting_meets_no_recursion_error() -> None:
    limits = replace(DEFAULT, nesting=10**6, items=10**6)
    deep = nested(50_000)
    assert dumpable(deep)
    with pytest.raises(Unencodable):
        dump(deep, limits)
    with pytest.raises(BrineError):
        load(b"\x10" * 50_000 + b"\x50", 0, limits)


# ---------------------------------------------------------------------------------------------- what is no brine bytes


def decimal(text: bytes) -> bytes:
    return bytes((0x16, len(text))) + text


REFUSED = {
    "nothing": b"",
    **{f"tag {tag:02x}": bytes((tag,)) for tag in (0x07, 0x09, *range(0x1C, 0x20), *range(0xF0, 0x100))},
    **{f"tag {tag:02x} in a tuple": bytes((0x11, 0x50, tag)) for tag in (0x07, 0x09, 0x1F, 0xFF)},
    "byte after a value": b"\x50\x50",
    "byte after a tuple": b"\x10\x50\x00",
    "byte after a str": b"\x08\x0aab",
    **{
        f"decimal {text!r}": decimal(text)
        for text in (b"", b"-", b"-0", b"+1", b"00", b"01", b"-01", b"1_0", b" 1", b"1 ")
    },
    **{
        f"decimal {text!r}": decimal(text)
        for text in (b"1.0", b"1e3", b"0x1", b"--1", b"\n1", b"\xb2", b"1\x00", b"nan")
    },
    "decimal of other digits": decimal("٣".encode()),
    "long decimal with a zero before": b"\x17\x00\x00\x01\x00" + b"0" + b"1" * 255,
    "decimal in a long tuple": b"\x14\x09" + b"\x50" * 8 + decimal(b"01"),
    "broken UTF-8": b"\x08\x0b\xc3\x28",
    "surrogate in UTF-8": b"\x08\x0c\xed\xa0\x80",
    "overlong UTF-8": b"\x08\x0b\xc0\x80",
    "str of a str": b"\x08\x08\x0aa",
    "str of an int": b"\x08\x50",
    "str of None": b"\x08\x00",
    "str of a tuple": b"\x08\x10\x50",
    "str of an int in decimal": b"\x08" + decimal(b"999"),
    "slice of two": b"\x19\x11\x50\x50",
    "slice of four": b"\x19\x13\x50\x50\x50\x50",
    "slice of nothing": b"\x19\x02",
    "slice of bytes": b"\x19\x0cabc",
    "slice of a slice": b"\x19\x19\x12\x50\x50\x50",
    "frozenset of bytes": b"\x1a\x0cabc",
    "frozenset of a frozenset": b"\x1a\x1a\x02",
    "frozenset of None": b"\x1a\x00",
    "tuple of more items than bytes": b"\x14\xff\x50",
    "tuple of 2**32 - 1 items": b"\x15\xff\xff\xff\xff" + b"\x50" * 100,
    "bytes of 2**32 - 1": b"\x0f\xff\xff\xff\xff" + b"x" * 100,
    "str of 2**32 - 1": b"\x08\x0f\xff\xff\xff\xff" + b"x" * 100,
    "floats of which the last is cut": b"\x14\x10" + (b"\x18" + bytes(8)) * 15 + b"\x18" + bytes(7),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_bytes_that_are_no_brine_are_refused(data: bytes) -> None:
    with pytest.raises(BrineError) as caught:
        load(data)
    assert isinstance(caught.value, ProtocolError)
    assert caught.value.code == "protocol-error"
    with pytest.raises(BrineError):
        load(b"prefix" + data, 6)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="slices are hashable from Python 3.12 on")
@pytest.mark.parametrize("member", [b"\x19\x12\x50\x50\x50", b"\x10\x19\x12\x50\x50\x50"])
def test_a_frozenset_of_slices_is_refused(member: bytes) -> None:
    with pytest.raises(BrineError):
        load(b"\x1a\x10" + member)


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case["hex"]) < 1200], ids=lambda case: case["value"][:40]
)
def test_a_value_that_is_cut_anywhere_is_refused(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["hex"])
    for cut in range(len(data)):
        with pytest.raises(BrineError):
            load(data[:cut])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["value"][:40])
def test_a_value_that_goes_on_is_refused(case: dict[str, str]) -> None:
    for more in (b"\x00", b"\x50", bytes(9)):
        with pytest.raises((BrineError, LimitExceeded)):
            load(bytes.fromhex(case["hex"]) + more)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (decimal(b"0"), 0),
        (decimal(b"7"), 7),
        (decimal(b"-7"), -7),
        (b"\x17\x00\x00\x00\x03999", 999),
        (b"\x0e\x00", b""),
        (b"\x0f\x00\x00\x00\x01a", b"a"),
        (b"\x08\x0e\x01a", "a"),
        (b"\x08\x0f\x00\x00\x00\x00", ""),
        (b"\x14\x00", ()),
        (b"\x14\x02\x50\x51", (0, 1)),
        (b"\x15\x00\x00\x00\x01\x50", (0,)),
        (b"\x1a\x14\x01\x50", frozenset((0,))),
        (b"\x1a\x11\x50\x50", frozenset((0,))),
    ],
)
def test_a_length_may_be_written_longer_than_it_need_be(data: bytes, value: Any) -> None:
    assert exactly(load(data)) == exactly(value) == exactly(stock.load(data))


@pytest.mark.parametrize("head", [b"\x15", b"\x0f", b"\x08\x0f", b"\x17", b"\x1a\x15", b"\x19\x15"])
@pytest.mark.parametrize("before", [b"", b"\x11\x50", b"\x14\x09" + b"\x50" * 8])
def test_nothing_is_allocated_for_a_count_that_the_bytes_cannot_hold(head: bytes, before: bytes) -> None:
    data = before + head + b"\xff\xff\xff\xf0" + b"\x18" * 2000
    tracemalloc.start()
    try:
        with pytest.raises((BrineError, LimitExceeded)):
            load(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_small_limits_hold_for_small_messages() -> None:
    limits = Limits(items=3, nesting=2, int_digits=4, unordered_items=1)
    assert load(dump((1, 2), limits), 0, limits) == (1, 2)
    assert load(dump(((),), limits), 0, limits) == ((),)
    for value in ((1, 2, 3), (((1,),),), 10_000, frozenset((1, 2))):
        with pytest.raises(Unencodable):
            dump(value, limits)
        with pytest.raises(LimitExceeded):
            load(dump(value), 0, limits)
