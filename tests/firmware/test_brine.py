"""Brine in C against the golden vectors, and against our own encoder for what they leave out."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.limits import DEFAULT_LIMITS
from gateway.protocol.brine import dump, load
from tests.firmware.conftest import Harness

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "brine.json").read_text(encoding="utf-8"))["cases"]
WIDE = "-DBOARD_INT_BITS=64"
UNHELD = (tuple, slice, frozenset, complex, type(...), type(NotImplemented))


def is_held(value: Any, bits: int) -> bool:
    """Whether a board holds it: a value that is not made of others, and no number that is too long."""
    if type(value) is int:
        return -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
    return not isinstance(value, UNHELD)


@pytest.mark.parametrize("bits", [32, 64])
def test_the_golden_values_are_read_and_written_as_rpyc_does(start_harness: Callable[..., Harness], bits: int) -> None:
    harness = start_harness(*([WIDE] if bits == 64 else []))
    held = 0
    for case in CASES:
        encoded = case["hex"]
        size, again = harness.ask("brine", encoded).split(" ")
        assert int(size) * 2 == len(encoded), case
        value = load(bytes.fromhex(encoded), limits=DEFAULT_LIMITS)
        assert again == (encoded if is_held(value, bits) else "-"), case
        held += again != "-"
    assert held > 50


def test_what_is_cut_short_is_no_value(harness: Harness) -> None:
    for case in CASES:
        encoded = case["hex"]
        for end in range(0, min(len(encoded), 200), 2):
            assert harness.ask("brine", encoded[:end] or "-") == "- -", case


@pytest.mark.parametrize("sloppy", ["16012d", "16022d30", "16023031", "1600", "16022b31", "16022031", "07", "1c", "f0"])
def test_what_rpyc_never_writes_is_not_taken(harness: Harness, sloppy: str) -> None:
    assert harness.ask("brine", sloppy).split(" ")[1] == "-"


@pytest.mark.parametrize("bits", [32, 64])
def test_ints_up_to_their_bounds(start_harness: Callable[..., Harness], bits: int) -> None:
    harness = start_harness(*([WIDE] if bits == 64 else []))
    most = 2 ** (bits - 1)
    generator = random.Random(1)
    numbers = [
        *range(-300, 300),
        *(sign * 10**power + by for power in range(19) for sign in (1, -1) for by in (-1, 0, 1)),
    ]
    numbers += [generator.randrange(-most, most) for _ in range(300)] + [most - 1, -most, most - 2, 1 - most]
    for number in numbers:
        encoded = dump(number, DEFAULT_LIMITS).hex()
        held = -most <= number < most
        assert harness.ask("brine", encoded).split(" ")[1] == (encoded if held else "-"), number
    for number in (most, -most - 1, 10 * most, 10**40):
        assert harness.ask("brine", dump(number, DEFAULT_LIMITS).hex()).split(" ")[1] == "-", number


@pytest.mark.parametrize("number", [0, 1, -1, 2, 3, 1000, -1000, 2**31 - 1, -(2**31), 123456789])
def test_an_int_becomes_the_double_of_the_same_value(harness: Harness, number: int) -> None:
    assert harness.ask("double", number) == struct.pack(">d", number).hex()


@pytest.mark.parametrize("number", [2**53, -(2**62), 2**62 + 2**40, 10**15 + 1])
def test_so_does_a_long_one(start_harness: Callable[..., Harness], number: int) -> None:
    assert start_harness(WIDE).ask("double", number) == struct.pack(">d", number).hex()


@pytest.mark.parametrize("number", [0.0, -0.0, 1.5, -2e300, 5e-324, math.inf, -math.inf, math.nan])
def test_floats_keep_every_bit(harness: Harness, number: float) -> None:
    encoded = dump(number, DEFAULT_LIMITS).hex()
    assert harness.ask("brine", encoded) == f"9 {encoded}"


def test_nesting_needs_no_stack(harness: Harness) -> None:
    assert harness.ask("brine", "10" * 4000 + "00").startswith("4001 ")
    assert harness.ask("brine", "10" * 4000) == "- -"
    assert harness.ask("brine", "19" * 3000 + "00").startswith("3001 ")


def test_random_bytes_are_a_value_or_none(harness: Harness) -> None:
    generator = random.Random(2)
    found = 0
    for _ in range(3000):
        size = harness.ask("brine", generator.randbytes(generator.randrange(1, 40)).hex()).split(" ")[0]
        found += size != "-"
    assert 0 < found < 3000
