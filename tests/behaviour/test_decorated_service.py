"""@exposed and @service: exposing by decorator instead of by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Connect = Callable[..., Any]


@pytest.fixture
def decorated(rpc: Any) -> Any:
    """A decorated service class of the implementation under test."""
    exposed: Callable[[Any], Any] = rpc.exposed
    with_prefix: Callable[[Any], Any] = rpc.exposed("rpc_")

    @rpc.service
    class Decorated(rpc.Service):  # type: ignore[misc]
        @exposed
        def measure(self) -> float:
            return 1.5

        @with_prefix
        def status(self) -> str:
            return "idle"

        @exposed
        class Range:
            def __init__(self, high: int) -> None:
                self.high = high

            @exposed
            def width(self) -> int:
                return self.high

            def hidden(self) -> None:
                raise AssertionError("reached from outside")

        def hidden(self) -> None:
            raise AssertionError("reached from outside")

        def exposed_classic(self) -> str:
            return "by name"

    return Decorated


def test_a_decorated_method_is_reached(connect: Connect, decorated: Any) -> None:
    root = connect(decorated).root
    assert root.measure() == 1.5
    assert root.exposed_measure() == 1.5
    assert root.classic() == "by name"


def test_an_undecorated_method_is_refused(connect: Connect, decorated: Any) -> None:
    root = connect(decorated).root
    with pytest.raises(AttributeError):
        root.hidden()


def test_a_decorated_method_still_works_locally(decorated: Any) -> None:
    assert decorated().measure() == 1.5
    assert decorated().exposed_measure() == 1.5


def test_a_prefix_of_its_own_follows_exposed_prefix(connect: Connect, decorated: Any) -> None:
    root = connect(decorated, remote_config={"exposed_prefix": "rpc_"}).root
    assert root.status() == "idle"
    assert root.rpc_status() == "idle"
    with pytest.raises(AttributeError):
        root.classic()


def test_a_decorated_nested_class_exposes_its_decorated_methods(connect: Connect, decorated: Any) -> None:
    ranged = connect(decorated).root.Range(7)
    assert ranged.width() == 7
    with pytest.raises(AttributeError):
        ranged.hidden()


def test_a_decorated_property_is_read(rpc: Any, connect: Connect) -> None:
    @rpc.service
    class WithProperty(rpc.Service):  # type: ignore[misc]
        @property
        def exposed_voltage(self) -> float:
            return 3.3

    assert connect(WithProperty).root.voltage == 3.3


def test_exposed_refuses_what_cannot_be_called_or_looked_up(rpc: Any) -> None:
    with pytest.raises(TypeError):
        rpc.exposed(5)
