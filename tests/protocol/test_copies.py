"""Containers and arrays by value: what goes, what comes back, and what is refused."""

from __future__ import annotations

import sys
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, LimitExceeded
from gateway.limits import Limits
from gateway.protocol import brine
from gateway.protocol.boxing import Boxing
from gateway.protocol.copies import degrade, rebuild, take
from tests.protocol.proxies import FakeConnection, KnownProxy

LIMITS: Final = Limits()
NUMBERS: Final = ("?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", "F", "D")


def boxing(*, packs: bool = False) -> Boxing:
    """One end that agreed on copies."""
    end = Boxing(FakeConnection(), lambda id_pack: KnownProxy(None, id_pack), lambda id_pack, times: None, LIMITS)
    end.copies, end.packs = True, packs
    return end


def carried(value: Any) -> Any:
    """What arrives of `value` at a peer that agreed on copies."""
    return boxing().unbox(brine.load(boxing().box(value)), [])


# -- containers --------------------------------------------------------------------------------------------------------

keys = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.binary(max_size=6)
containers = st.recursive(
    keys | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.binary(max_size=8).map(bytearray)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(containers)
def test_containers_arrive_as_they_are(value: Any) -> None:
    arrived = carried(value)
    assert arrived == value
    assert repr(arrived) == repr(value) or isinstance(value, set | dict) or "{" in repr(value)


@pytest.mark.parametrize(
    "value",
    [[], {}, set(), bytearray(), [[]], {"": {}}, [1, [2, [3, (4,)]]], {(1, "a"): [b""]}, {1: {2: {3}}}],
    ids=repr,
)
def test_empty_and_nested_containers_keep_their_types(value: Any) -> None:
    arrived = carried(value)
    assert arrived == value
    assert type(arrived) is type(value)


def test_a_copy_is_the_receivers_own() -> None:
    value = [1, 2]
    arrived = carried(value)
    arrived.append(3)
    assert value == [1, 2]


class Point(NamedTuple):
    x: int


class ListOfAnInstrument(list[int]):
    """A list that can do more."""


@pytest.mark.parametrize(
    "value",
    [
        ListOfAnInstrument([1]),
        OrderedDict(a=1),
        defaultdict(list),
        Counter("aab"),
        deque([1]),
        Point(1),
        memoryview(b"x"),
        object(),
        pytest.param({object(): 1}, id="dict-of-an-object"),
        pytest.param({object()}, id="set-of-an-object"),
        pytest.param({frozenset((1,)): 1, (object(),): 2}, id="dict-of-a-tuple-of-an-object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_exact_types_with_plain_keys_go_by_value(value: Any) -> None:
    assert take(value) is None


# -- arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", NUMBERS)
def test_numbers_of_every_kind_and_byte_order_arrive_as_they_are(code: str, order: Any) -> None:
    array = np.arange(-3, 9).astype(np.dtype(code).newbyteorder(order)).reshape(3, 4)
    arrived = carried(array)
    assert arrived.dtype == array.dtype
    assert arrived.shape == (3, 4)
    assert np.array_equal(arrived, array)


@pytest.mark.parametrize(
    "array",
    [
        np.array(["V", "mA", "\u03a9"]),
        np.array([b"V", b"mA"]),
        np.array(["2024-02-29", "NaT"], dtype="M8[D]"),
        np.array([1, 2], dtype="M8[25us]"),
        np.array([1, -2], dtype="m8[ms]"),
        np.array(5.5),
        np.array([]),
        np.zeros((0, 3), "f4"),
        np.zeros((2, 0, 3), "i2"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(20)[::3],
        np.arange(20).reshape(4, 5)[:, 1:3].T,
        np.array([np.nan, np.inf, -0.0]),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_of_any_layout_arrive_as_they_are(array: Any) -> None:
    arrived = carried(array)
    assert arrived.dtype == array.dtype
    assert arrived.shape == array.shape
    assert arrived.tobytes() == array.tobytes()


def test_an_array_that_arrived_can_be_written_to() -> None:
    arrived = carried(np.arange(4))
    arrived[0] = 7
    assert arrived.tolist() == [7, 1, 2, 3]


def test_arrays_travel_inside_containers() -> None:
    arrived = carried({"trace": np.arange(3.0), "parts": [np.array([1])]})
    assert arrived["trace"].tolist() == [0.0, 1.0, 2.0]
    assert arrived["parts"][0].tolist() == [1]


@pytest.mark.parametrize("dtype", ["longdouble", "clongdouble"])
def test_no_memory_leaks_out_of_the_padding_of_long_floats(dtype: str) -> None:
    array = np.array([1.5, -2.0], dtype=dtype)
    taken = take(array)
    assert taken is not None
    assert len(taken[1][2]) in (16, 32)
    assert np.array_equal(carried(array), array)
    assert take(array[0]) == ("scalar", (1.5,))


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        (np.float32(1.5), 1.5),
        (np.int8(-3), -3),
        (np.uint64(2**63), 2**63),
        (np.bool_(True), True),
        (np.complex64(2j), 2j),
    ],
    ids=repr,
)
def test_a_number_of_numpys_arrives_as_a_number(scalar: Any, value: Any) -> None:
    arrived = carried(scalar)
    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.zeros(2, dtype="f8,i4"),
        np.ma.masked_array([1, 2]),
        np.datetime64("2024-01-01"),
        np.dtype("f8"),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "dtype", "")),
)
def test_arrays_of_objects_and_subclasses_go_by_reference(value: Any) -> None:
    assert take(value) is None


# -- without numpy -----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["b", "B", "h", "H", "i", "I", "q", "Q", "f", "d"])
@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3), (3, 1, 2), (0,)], ids=str)
def test_a_receiver_without_numpy_gets_nested_lists(
    code: str, order: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(np.prod(shape, dtype=int)).astype(np.dtype(code).newbyteorder(order)).reshape(shape)
    data = (array.dtype.str, array.shape, array.tobytes())
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert rebuild("ndarray", data, LIMITS) == array.tolist()


@pytest.mark.usefixtures("no_numpy")
@pytest.mark.parametrize("dtype", ["<c8", "<U3", "|b1", "<f2", "<M8[D]"])
def test_what_needs_numpy_says_so(dtype: str) -> None:
    with pytest.raises(BadRequest, match=r"numpy is needed"):
        rebuild("ndarray", (dtype, (1,), b"12345678"), LIMITS)


@pytest.mark.usefixtures("no_numpy")
@pytest.mark.parametrize("data", [("<f8", (2,), b"12345678"), ("<f8", (1,), b"1234567"), ("<f8", (0,), b"12345678")])
def test_a_wrong_shape_is_refused_without_numpy_too(data: Any) -> None:
    with pytest.raises(BadRequest):
        rebuild("ndarray", data, LIMITS)


@pytest.mark.usefixtures("no_numpy")
def test_nothing_is_imported_to_send_a_list() -> None:
    assert take([1]) == ("list", (1,))
    assert degrade([1]) == (1,)


# -- what is refused ---------------------------------------------------------------------------------------------------

PROXY: Final = KnownProxy(None, ("builtins.list", 1, 2))
REFUSED: Final = {
    "an unknown kind": ("heap", ()),
    "a kind that is no text": (5, ()),
    "a list of no tuple": ("list", 5),
    "a set of no tuple": ("set", b"ab"),
    "a bytearray of no bytes": ("bytearray", "ab"),
    "a bytearray of a size": ("bytearray", 10**9),
    "a dict of no tuple": ("dict", 5),
    "a dict of no pairs": ("dict", (1, 2)),
    "a dict of texts that could be pairs": ("dict", ("ab",)),
    "a dict of triples": ("dict", ((1, 2, 3),)),
    "a dict with a proxy for a pair": ("dict", (PROXY,)),
    "a dict with a proxy for a key": ("dict", ((PROXY, 1),)),
    "a dict with a list for a key": ("dict", (([], 1),)),
    "a set with a proxy in it": ("set", (PROXY,)),
    "a set with a list in it": ("set", ([],)),
    "a scalar of nothing": ("scalar", ()),
    "a scalar of two": ("scalar", (1, 2)),
    "a scalar of no tuple": ("scalar", PROXY),
    "an array of no tuple": ("ndarray", PROXY),
    "an array of two parts": ("ndarray", ("<f8", (1,))),
    "a dtype that is no text": ("ndarray", (b"<f8", (1,), b"12345678")),
    "a dtype of objects": ("ndarray", ("|O", (1,), b"12345678")),
    "a dtype of structures": ("ndarray", ("<f8,<f8", (1,), b"1234567812345678")),
    "a dtype of subarrays": ("ndarray", ("(2,)<f8", (1,), b"1234567812345678")),
    "a dtype of nothing": ("ndarray", ("<V8", (1,), b"12345678")),
    "a dtype of empty texts": ("ndarray", ("<U0", (1,), b"")),
    "a dtype in this machine's order": ("ndarray", ("=f8", (1,), b"12345678")),
    "a dtype by name": ("ndarray", ("float64", (1,), b"12345678")),
    "a dtype of an alias": ("ndarray", ("|a5", (1,), b"12345")),
    "a dtype of an unknown unit": ("ndarray", ("<M8[parsec]", (1,), b"12345678")),
    "a dtype of an unknown size": ("ndarray", ("<f7", (1,), b"1234567")),
    "a dtype with a long tail": ("ndarray", ("<f8" + " " * 1000, (1,), b"12345678")),
    "bytes that are none": ("ndarray", ("<f8", (1,), "12345678")),
    "bytes that are too few": ("ndarray", ("<f8", (1,), b"1234567")),
    "bytes that are too many": ("ndarray", ("<f8", (1,), b"1234567890123456")),
    "a shape that is no tuple": ("ndarray", ("<f8", 1, b"12345678")),
    "a shape with a negative size": ("ndarray", ("<f8", (-1,), b"12345678")),
    "a shape with a bool": ("ndarray", ("<f8", (True,), b"12345678")),
    "a shape with a float": ("ndarray", ("<f8", (1.0,), b"12345678")),
    "a shape of 33 dimensions": ("ndarray", ("<f8", (1,) * 33, b"12345678")),
    "a shape beyond the address space": ("ndarray", ("<f8", (2**70,), b"")),
    "a shape whose product wraps around": ("ndarray", ("<f8", (2**62, 4), b"")),
}


@pytest.mark.parametrize(("kind", "data"), REFUSED.values(), ids=REFUSED)
def test_what_is_never_sent_is_a_bad_request(kind: Any, data: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadRequest):
            rebuild(kind, data, LIMITS)


@pytest.mark.parametrize("kind", ["set", "dict"])
def test_sets_and_dicts_of_numbers_are_small_for_they_may_collide(kind: str) -> None:
    numbers = tuple(range(6))
    data = tuple((number, None) for number in numbers) if kind == "dict" else numbers
    limits = Limits(unordered_items=5)
    with pytest.raises(LimitExceeded, match="unordered_items"):
        rebuild(kind, data, limits)
    texts = tuple((str(number), None) for number in numbers) if kind == "dict" else tuple(map(str, numbers))
    assert len(rebuild(kind, texts, limits)) == 6, "texts don't: their hashes are salted"


def test_keys_that_are_made_to_collide_are_refused() -> None:
    modulus = sys.hash_info.modulus
    alike = tuple(number * modulus for number in range(1, 100))
    with pytest.raises(BadRequest, match="same hash"):
        rebuild("set", alike, LIMITS)
    with pytest.raises(BadRequest, match="same hash"):
        rebuild("dict", tuple((key, None) for key in alike), LIMITS)
    assert len(rebuild("set", alike[:20], LIMITS)) == 20


def test_an_array_without_items_is_no_way_to_ask_for_much() -> None:
    with pytest.raises(BadRequest, match="huge"):
        rebuild("ndarray", ("<f8", (10**9, 0), b""), LIMITS)
    assert rebuild("ndarray", ("<f8", (0, 10), b""), LIMITS).shape == (0, 10)


def test_a_gateway_imports_nothing_at_the_word_of_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("<f8", (1,), np.array([1.5]).tobytes())
    monkeypatch.delitem(sys.modules, "numpy")
    assert rebuild("ndarray", data, LIMITS, imports=False) == [1.5]
    assert "numpy" not in sys.modules


# -- for peers that take no copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        ([1, [2, "a"]], (1, (2, "a"))),
        ((1, [2]), (1, (2,))),
        ({1, 2}, frozenset((1, 2))),
        (bytearray(b"ab"), b"ab"),
        (np.arange(4).reshape(2, 2), ((0, 1), (2, 3))),
        (np.array(5), 5),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.array([0.5], "longdouble"), (0.5,)),
        ([np.bool_(True)], (True,)),
        ("text", "text"),
        (None, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_container_degrades_to_the_nearest_value(value: Any, nearest: Any) -> None:
    degraded = degrade(value)
    assert degraded == nearest
    assert type(degraded) is type(nearest)


def test_what_has_no_nearest_value_stays_what_it_is() -> None:
    thing, mapping = object(), {"a": [1]}
    assert degrade(thing) is thing
    assert degrade(mapping) is mapping
    assert degrade([thing])[0] is thing


# -- many numbers ---------------------------------------------------------------------------------------------------


class Channel(IntEnum):
    """Ints, and more than that."""

    ONE = 1


def packed(value: Any) -> Any:
    """What arrives of a value where both ends pack; it must have been packed."""
    box = brine.load(boxing(packs=True).box(value, packs=True))
    assert box[:1] == (5,)
    assert box[1][0] == "numbers", "it went in another way"
    return boxing(packs=True).unbox(box, [])


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        ([-128, 127] * 32, 1),
        ([-129, 0] * 32, 2),
        (list(range(40_000)), 4),
        ([2**31] + [0] * 63, 8),
        ([-(2**63), 2**63 - 1] * 32, 8),
        ([0.1, -0.0, float("inf"), 5e-324] * 16, 8),
    ],
    ids=["i1", "i2", "i4", "i8", "i8-ends", "f8"],
)
@pytest.mark.parametrize("kind", [list, tuple])
def test_many_numbers_are_packed_as_short_as_they_can_be(kind: Any, numbers: list[Any], size: int) -> None:
    value = kind(numbers)
    arrived = packed(value)
    assert type(arrived) is kind
    assert list(map(repr, arrived)) == list(map(repr, value)), "types and signs too"
    assert len(boxing(packs=True).box(value, packs=True)) < size * len(numbers) + 40


def test_a_dict_of_many_numbers_is_packed() -> None:
    value = {f"ch{number}": number / 3 for number in range(1000)}
    assert packed(value) == value
    assert list(packed(value)) == list(value), "in its order"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([1] * 63, id="few"),
        pytest.param([1, 2.0] * 40, id="mixed"),
        pytest.param([True] * 80, id="bools"),
        pytest.param([2**63] * 80, id="too-large"),
        pytest.param([Channel.ONE] * 80, id="subclass"),
        pytest.param(["x"] * 80, id="text"),
        pytest.param(dict.fromkeys(range(80), 1), id="keys-are-numbers"),
        pytest.param({f"a\0{number}": 1 for number in range(80)}, id="keys-with-nul"),
    ],
)
def test_what_is_not_many_numbers_of_one_type_goes_as_ever(value: Any) -> None:
    taken = take(value, LIMITS, packs=True)
    assert taken is not None
    assert taken[0] in ("list", "dict")


@pytest.mark.parametrize(
    "data",
    [
        ("list", "<f8", b"1234567"),
        ("list", ">f8", bytes(8)),
        ("list", "<f4", bytes(8)),
        ("list", "<O8", bytes(8)),
        ("list", 5, bytes(8)),
        ("list", "<f8", "12345678"),
        ("set", "<f8", bytes(8)),
        ("list", "<f8", bytes(8), "a"),
        ("dict", "<f8", bytes(8)),
        ("dict", "<f8", bytes(16), "a"),
        ("dict", "<f8", bytes(8), b"a"),
        ("list", "<f8"),
        (),
    ],
)
def test_packed_numbers_that_nobody_sends_are_refused(data: tuple[Any, ...]) -> None:
    with pytest.raises(BadRequest):
        rebuild("numbers", data, LIMITS)


def test_packed_numbers_are_no_way_around_the_limit_of_items() -> None:
    with pytest.raises(LimitExceeded, match="items"):
        rebuild("numbers", ("list", "<i1", bytes(LIMITS.items + 1)), LIMITS)
    assert take([0] * (LIMITS.items + 1), LIMITS, packs=True) == ("list", (0,) * (LIMITS.items + 1))
