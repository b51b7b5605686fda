"""What travels by value and what by reference: the types of brine, seen from outside."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest


class Point(NamedTuple):
    x: int
    y: int


class Level(enum.IntEnum):
    LOW = 0
    HIGH = 1


class Text(str):
    __slots__ = ()


class Mirror:
    """Sends back what it got, and says what it got."""

    def __init__(self) -> None:
        self.got: Any = None
        self.numbers = [1]

    def exposed_echo(self, value: Any) -> Any:
        self.got = value
        return value

    def exposed_numbers(self) -> list[int]:
        return self.numbers


VALUES: list[Any] = [
    None,
    True,
    False,
    NotImplemented,
    Ellipsis,
    0,
    -48,
    -49,
    159,
    160,
    2**31,
    -(2**63),
    10**254,
    10**255,
    10**400,
    0.0,
    -0.0,
    18.2,
    1e-310,
    math.inf,
    18.2j + 13,
    "",
    "text",
    "Ω µ 電圧 \U0001f50c \x00",
    "x" * 300,
    b"",
    b"1",
    b"22",
    b"333",
    b"4444",
    b"55555",
    b"\x00\xff" * 200,
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    (1, 2, 3, 4, 5),
    tuple(range(300)),
    (1, ("nested", (b"deep", None)), ()),
    slice(1, 2, 3),
    slice(None, "b", None),
    frozenset(),
    frozenset([5, 6, 7]),
    (b"he", 7, "llo", 8, (), 900, None, True, ..., 18.2, slice(1, 2, 3), frozenset([(1, 2)]), NotImplemented),
]


@pytest.fixture
def mirror(as_service: Callable[[type], type]) -> Any:
    return as_service(Mirror)()


@pytest.mark.parametrize("value", VALUES, ids=[f"{type(value).__name__}-{n}" for n, value in enumerate(VALUES)])
def test_immutable_values_travel_by_value(connect: Callable[..., Any], mirror: Any, value: Any) -> None:
    returned = connect(mirror).root.echo(value)
    for copy in (mirror.got, returned):
        assert type(copy) is type(value)
        assert repr(copy) == repr(value)


def test_nan_stays_nan(connect: Callable[..., Any], mirror: Any) -> None:
    assert math.isnan(connect(mirror).root.echo(math.nan))


REFERENCES: list[Any] = [[1], {"a": 1}, {1}, bytearray(b"ab"), Point(1, 2), Level.HIGH, Text("t"), object(), len, int]


@pytest.mark.parametrize("thing", REFERENCES, ids=lambda thing: type(thing).__name__)
def test_everything_else_travels_by_reference(rpc: Any, connect: Callable[..., Any], mirror: Any, thing: Any) -> None:
    conn = connect(mirror)
    assert conn.root.echo(thing) is thing
    assert issubclass(type(mirror.got), rpc.BaseNetref)


def test_a_tuple_of_mixed_items_is_a_tuple_at_the_other_end(connect: Callable[..., Any], mirror: Any) -> None:
    numbers = [1, 2]
    returned = connect(mirror).root.echo((1, numbers, ("deep", numbers)))
    assert type(mirror.got) is tuple
    assert returned == (1, numbers, ("deep", numbers))
    assert returned[1] is numbers
    assert returned[2][1] is numbers


def test_a_reference_shows_what_its_owner_changes(connect: Callable[..., Any], mirror: Any) -> None:
    conn = connect(mirror)
    held = conn.root.numbers()
    mirror.numbers.append(2)
    assert list(held) == [1, 2]
