"""Numbers from callers are checked before anything is done with them."""

from __future__ import annotations

import math

import pytest

from devices.bounds import count_between, number_between
from gateway.errors import OutOfRange


@pytest.mark.parametrize("value", [0, 0.0, 2.5, 5])
def test_a_number_within_its_bounds_becomes_a_float(value: float) -> None:
    number = number_between("x", value, 0, 5, "V")
    assert number == value
    assert type(number) is float


@pytest.mark.parametrize("value", [-0.001, 5.001, math.inf, -math.inf, math.nan, 10**400, -(10**400)])
def test_a_number_outside_is_out_of_range_and_the_bounds_are_told(value: float) -> None:
    with pytest.raises(OutOfRange, match="x must be from 0 to 5 V") as caught:
        number_between("x", value, 0, 5, "V")
    assert (caught.value.lowest, caught.value.highest, caught.value.unit) == (0, 5, "V")


@pytest.mark.parametrize("value", [True, "3", None, 1j, [1]])
def test_what_is_no_number_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="x must be a number of V"):
        number_between("x", value, 0, 5, "V")  # type: ignore[arg-type]


def test_a_count_within_its_bounds_is_returned() -> None:
    assert [count_between("n", value, 1, 3) for value in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize("value", [0, 4, -1, 10**4000])
def test_a_count_outside_is_out_of_range(value: int) -> None:
    with pytest.raises(OutOfRange, match="n must be from 1 to 3"):
        count_between("n", value, 1, 3)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_what_is_no_int_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="n must be an int"):
        count_between("n", value, 1, 3)  # type: ignore[arg-type]
