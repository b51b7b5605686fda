"""Services: what the base class promises to those who derive from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.conditions import eventually
from tests.behaviour.lines import cut

Connect = Callable[..., Any]


class Meta(type):
    def shout(cls) -> str:
        return cls.__name__ * 2


class Odd(metaclass=Meta):
    """An instance of a class that has a metaclass of its own."""


class GeometryService:
    """Says when it is connected."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_connect(self, conn: Any) -> None:
        assert not conn.closed
        self.events.append("connected")

    def on_disconnect(self, conn: Any) -> None:
        self.events.append("disconnected")

    def exposed_distance(self, start: tuple[float, float], end: tuple[float, float]) -> float:
        return math.dist(start, end)

    def exposed_numbers(self) -> list[int]:
        return [1, 2, 3]

    def exposed_odd(self) -> Odd:
        return Odd()

    def hidden(self) -> None:
        raise AssertionError("reached from outside")


@pytest.fixture
def geometry(as_service: Callable[[type], type]) -> Any:
    return as_service(GeometryService)()


def test_an_exposed_method_is_called_by_either_name(connect: Connect, geometry: Any) -> None:
    root = connect(geometry).root
    assert root.distance((2, 7), (5, 11)) == 5
    assert root.exposed_distance((2, 7), (5, 11)) == 5


def test_a_hidden_method_is_refused(connect: Connect, geometry: Any) -> None:
    conn = connect(geometry)
    with pytest.raises(AttributeError):
        conn.root.hidden()


def test_a_returned_list_can_be_walked(connect: Connect, geometry: Any) -> None:
    assert [number * 2 for number in connect(geometry).root.numbers()] == [2, 4, 6]


def test_an_instance_of_a_class_with_a_metaclass_can_be_returned(connect: Connect, geometry: Any) -> None:
    odd = connect(geometry).root.odd()
    assert "Odd object" in repr(odd)


def test_on_connect_runs_before_the_root_is_served(connect: Connect, geometry: Any) -> None:
    assert connect(geometry).root is not None
    assert geometry.events == ["connected"]


def test_on_disconnect_runs_once_when_the_client_closes(connect: Connect, geometry: Any) -> None:
    conn = connect(geometry)
    assert conn.root is not None
    conn.close()
    conn.close()
    assert eventually(lambda: "disconnected" in geometry.events)
    assert geometry.events.count("connected") == 1


def test_on_disconnect_runs_when_the_line_is_cut(rpc: Any, connect: Connect, geometry: Any) -> None:
    conn = connect(geometry)
    assert conn.root is not None
    cut(conn)
    assert eventually(lambda: "disconnected" in geometry.events)


def test_on_disconnect_runs_at_the_closing_end_too(connect: Connect, geometry: Any) -> None:
    conn = connect(service=geometry)
    assert geometry.events == ["connected"]
    conn.close()
    assert "disconnected" in geometry.events


def test_the_services_name_is_its_class_name_without_service(connect: Connect, geometry: Any) -> None:
    assert type(geometry).get_service_name() == "GEOMETRY"
    root = connect(geometry).root
    assert root.get_service_name() == "GEOMETRY"
    assert tuple(root.get_service_aliases()) == ("GEOMETRY",)


class Aliased:
    ALIASES = ("meter", "Dmm")


def test_aliases_replace_the_name(connect: Connect, as_service: Callable[[type], type]) -> None:
    service = as_service(Aliased)
    assert service.get_service_aliases() == ("METER", "DMM")  # type: ignore[attr-defined]
    assert connect(service).root.get_service_name() == "METER"


def test_a_service_class_makes_an_instance_per_connection(connect: Connect, as_service: Callable[[type], type]) -> None:
    class Counting:
        def __init__(self) -> None:
            self.count = 0

        def exposed_next(self) -> int:
            self.count += 1
            return self.count

    service = as_service(Counting)
    first, second = connect(service), connect(service)
    assert [first.root.next(), first.root.next(), second.root.next()] == [1, 2, 1]


def test_a_service_instance_is_shared_by_its_connections(connect: Connect, geometry: Any) -> None:
    first, second = connect(geometry), connect(geometry)
    assert first.root.distance((0, 0), (0, 1)) == second.root.distance((0, 0), (1, 0)) == 1
    assert geometry.events == ["connected", "connected"]


def test_both_ends_offer_a_service(connect_both: Connect, as_service: Callable[[type], type]) -> None:
    class Client:
        def exposed_who(self) -> str:
            return "client"

    class Asking:
        def on_connect(self, conn: Any) -> None:
            self.conn = conn

        def exposed_ask(self) -> Any:
            return self.conn.root.who()

    assert connect_both(Asking, service=Client)[0].root.ask() == "client"


def test_exposed_members_are_inherited_and_overridden(connect: Connect) -> None:
    class Base:
        def exposed_base(self) -> str:
            return "base"

        def exposed_both(self) -> str:
            return "base"

    class Derived(Base):
        def exposed_both(self) -> str:
            return "derived"

    root = connect(Derived).root
    assert (root.base(), root.both()) == ("base", "derived")


def test_class_static_and_nested_members_are_exposed(connect: Connect) -> None:
    class Assorted:
        exposed_limit = 42

        @classmethod
        def exposed_named(cls) -> str:
            return cls.__name__

        @staticmethod
        def exposed_double(number: int) -> int:
            return number * 2

        class exposed_Range:
            def __init__(self, low: int, high: int) -> None:
                self.low, self.high = low, high

            def exposed_width(self) -> int:
                return self.high - self.low

    root = connect(Assorted).root
    assert root.limit == 42
    assert root.named() == "Assorted"
    assert root.double(4) == 8
    assert root.Range(2, high=9).width() == 7
