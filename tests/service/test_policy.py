"""What both policies share: blocks of items, and the peer's exception raised here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.limits import Limits
from gateway.protocol.vinegar import GenericException
from gateway.service.policy import COMPARISONS, bounded_items, raise_locally
from tests.protocol.proxies import KnownProxy


def endless() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@pytest.mark.parametrize(("count", "taken"), [(0, 0), (1, 1), (4, 4), (5, 4), (10**12, 4)])
def test_a_block_is_as_long_as_asked_and_as_allowed(count: int, taken: int) -> None:
    items = endless()
    assert len(bounded_items(items, count, Limits(buffiter_items=4))) == taken
    assert next(items) == taken, "no item is taken that does not go"


@pytest.mark.parametrize("item", ["x" * 40, b"x" * 40], ids=["text", "bytes"])
def test_a_block_ends_where_it_is_large_enough(item: Any) -> None:
    items = iter([item] * 9)
    assert len(bounded_items(items, 9, Limits(buffiter_bytes=100))) == 3
    assert len(list(items)) == 6


def test_an_error_in_the_middle_of_a_block_is_that_calls_error() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("the instrument")

    with pytest.raises(ValueError, match="the instrument"):
        bounded_items(broken(), 5, Limits())


def test_the_peers_exception_is_raised_here_as_its_builtin_class_or_by_its_name() -> None:
    seen: list[Any] = []
    for name in ("builtins.KeyError", "KeyError", "bench.KeyError"):
        raise_locally(KnownProxy(None, (name, 1, 2)), lambda *exc_info: seen.append(exc_info))
    assert [kind for kind, _, _ in seen] == [KeyError, KeyError, GenericException]
    assert str(seen[2][1]) == "bench.KeyError"
    assert all(trace is not None and error.__traceback__ is trace for _, error, trace in seen)


def test_what_leaving_a_context_raises_is_raised() -> None:
    def leave(*exc_info: object) -> None:
        raise RuntimeError("could not leave")

    with pytest.raises(RuntimeError, match="could not leave"):
        raise_locally("an error", leave)


def test_the_comparisons_are_pythons_and_pythons_old_one() -> None:
    assert {f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge", "cmp")} == COMPARISONS
