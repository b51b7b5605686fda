"""A netref behaves like its object under Python's operators and built-in functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Connect = Callable[..., Any]


class Volts:
    """A quantity: ordered, hashable, and with arithmetic."""

    def __init__(self, value: float) -> None:
        self.exposed_value = value

    def _of(self, other: Any) -> float:
        return float(getattr(other, "exposed_value", other))

    def __eq__(self, other: object) -> bool:
        return self.exposed_value == self._of(other)

    def __lt__(self, other: Any) -> bool:
        return self.exposed_value < self._of(other)

    def __le__(self, other: Any) -> bool:
        return self.exposed_value <= self._of(other)

    def __gt__(self, other: Any) -> bool:
        return self.exposed_value > self._of(other)

    def __ge__(self, other: Any) -> bool:
        return self.exposed_value >= self._of(other)

    def __hash__(self) -> int:
        return 1234

    def __add__(self, other: Any) -> float:
        return self.exposed_value + self._of(other)

    def __radd__(self, other: Any) -> float:
        return self._of(other) + self.exposed_value

    def __mul__(self, factor: float) -> float:
        return self.exposed_value * factor

    def __neg__(self) -> float:
        return -self.exposed_value

    def __abs__(self) -> float:
        return abs(self.exposed_value)

    def __bool__(self) -> bool:
        return self.exposed_value != 0

    def __int__(self) -> int:
        return int(self.exposed_value)

    def __float__(self) -> float:
        return float(self.exposed_value)

    def __index__(self) -> int:
        return int(self.exposed_value)

    def __str__(self) -> str:
        return f"{self.exposed_value} V"

    def __repr__(self) -> str:
        return f"Volts({self.exposed_value})"

    def __format__(self, spec: str) -> str:
        return format(self.exposed_value, spec) + " V"

    def __call__(self, by: float = 1) -> float:
        return self.exposed_value * by


class Shelf:
    """Item access."""

    def __init__(self) -> None:
        self.items = [10, 20, 30, 40]

    def __getitem__(self, key: Any) -> Any:
        return self.items[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.items[key]

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, item: Any) -> bool:
        return item in self.items


class ByEquality:
    """Python takes the hash away from a class that defines only __eq__."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Lab:
    def __init__(self) -> None:
        self.shelf = Shelf()

    def exposed_volts(self, value: float) -> Volts:
        return Volts(value)

    def exposed_shelf(self) -> Shelf:
        return self.shelf

    def exposed_unhashable(self) -> ByEquality:
        return ByEquality()

    def exposed_numbers(self) -> list[int]:
        return [1, 2, 3]

    def exposed_documented(self) -> None:
        """Measure nothing."""


@pytest.fixture
def root(connect: Connect) -> Any:
    return connect(Lab).root


def test_comparison_runs_at_the_owner(root: Any) -> None:
    low, high = root.volts(1.0), root.volts(2.0)
    assert low == root.volts(1.0)
    assert low != high
    assert low < high
    assert low <= high
    assert high > low
    assert high >= low
    assert low == 1.0
    assert low < 1.5


def test_remote_lists_compare_with_local_values(root: Any) -> None:
    numbers = root.numbers()
    assert numbers == root.numbers()
    assert numbers != 5


def test_a_hash_is_the_owners(root: Any) -> None:
    volts = root.volts(3.0)
    assert hash(volts) == 1234
    assert {volts: "found"}[root.volts(3.0)] == "found"


def test_what_cannot_be_hashed_there_cannot_be_hashed_here(root: Any) -> None:
    with pytest.raises(TypeError):
        hash(root.unhashable())


def test_text_is_the_owners(root: Any) -> None:
    volts = root.volts(3.3)
    assert str(volts) == "3.3 V"
    assert repr(volts) == "Volts(3.3)"
    assert f"{volts:.2f}" == "3.30 V"
    assert repr(root.numbers()) == "[1, 2, 3]"


def test_arithmetic_and_conversion_run_at_the_owner(root: Any) -> None:
    volts = root.volts(-2.0)
    assert volts + 1 == -1.0
    assert 1 + volts == -1.0
    assert volts + root.volts(5.0) == 3.0
    assert volts * 3 == -6.0
    assert -volts == 2.0
    assert abs(volts) == 2.0
    assert int(volts) == -2
    assert float(volts) == -2.0
    assert list(range(4))[root.volts(2.0)] == 2


def test_truth_is_the_owners(root: Any) -> None:
    assert root.volts(1.0)
    assert not root.volts(0.0)


def test_a_remote_object_can_be_called(root: Any) -> None:
    volts = root.volts(2.0)
    assert volts() == 2.0
    assert volts(by=4) == 8.0
    assert callable(volts)


def test_items_are_read_written_and_deleted(root: Any) -> None:
    shelf = root.shelf()
    assert shelf[1] == 20
    assert list(shelf[1:3]) == [20, 30]
    assert len(shelf) == 4
    assert 30 in shelf
    shelf[0] = 11
    del shelf[3]
    assert [shelf[index] for index in range(3)] == [11, 20, 30]
    with pytest.raises(IndexError):
        shelf[3]


def test_dir_lists_the_owners_names(root: Any) -> None:
    assert {"exposed_volts", "exposed_shelf"} <= set(dir(root))


def test_doc_is_the_owners(root: Any) -> None:
    assert root.documented.__doc__ == "Measure nothing."


def test_one_object_has_one_proxy(root: Any) -> None:
    shelf = root.shelf()
    assert root.shelf() is shelf
    assert root.volts(1.0) is not root.volts(1.0)


def test_an_objects_identity_survives_the_way_home_and_back(connect: Connect) -> None:
    class Keeper:
        def exposed_keep(self, thing: Any) -> None:
            self.thing = thing

        def exposed_give(self) -> Any:
            return self.thing

        def exposed_is_shelf(self, thing: Any, shelf: Any) -> bool:
            return thing is shelf

    root = connect(Keeper).root
    mine = Shelf()
    root.keep(mine)
    assert root.give() is mine
    assert root.is_shelf(mine, mine)
    assert not root.is_shelf(mine, Shelf())
