"""restricted(): a view of an object with a closed list of names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


class Supply:
    def __init__(self) -> None:
        self.volts = 0.0
        self.name = "psu1"

    def measure(self) -> float:
        return self.volts

    def _trim(self) -> str:
        return "trimmed"

    def destroy(self) -> None:
        raise AssertionError("reached from outside")

    def __add__(self, other: str) -> str:
        return self.name + other


@pytest.fixture
def view(rpc: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    """The peer's netref of `restricted(Supply(), ...)`."""

    def view(*lists: Any, **remote_config: Any) -> Any:
        class Holder:
            def exposed_supply(self) -> Any:
                return rpc.restricted(Supply(), *lists)

        return connect(Holder, remote_config=remote_config).root.supply()

    return view


def test_listed_names_are_reached_even_private_ones(view: Callable[..., Any]) -> None:
    supply = view(["measure", "_trim", "__add__"])
    assert supply.measure() == 0.0
    assert supply._trim() == "trimmed"
    assert supply.__add__("!") == "psu1!"


def test_other_names_are_refused_whatever_the_config(view: Callable[..., Any]) -> None:
    supply = view(["measure"], allow_all_attrs=True, allow_public_attrs=True, allow_setattr=True)
    for name in ("destroy", "_trim", "name"):
        with pytest.raises(AttributeError):
            getattr(supply, name)
    with pytest.raises(AttributeError):
        supply.name = "psu2"


def test_the_read_list_is_also_the_write_list(view: Callable[..., Any]) -> None:
    supply = view(["measure", "volts"])
    supply.volts = 3.3
    assert supply.measure() == 3.3


def test_a_write_list_of_its_own_replaces_it(view: Callable[..., Any]) -> None:
    supply = view(["measure", "name"], ["volts"])
    supply.volts = 5.0
    assert supply.measure() == 5.0
    with pytest.raises(AttributeError):
        supply.name = "psu2"
    with pytest.raises(AttributeError):
        supply.volts  # noqa: B018 - reading the attribute is the test


def test_an_empty_write_list_makes_it_read_only(view: Callable[..., Any]) -> None:
    supply = view(["volts"], ())
    assert supply.volts == 0.0
    with pytest.raises(AttributeError):
        supply.volts = 5.0


def test_a_restricted_view_works_without_a_connection(rpc: Any) -> None:
    supply = rpc.restricted(Supply(), ["volts", "measure"])
    supply.volts = 1.5
    assert supply.measure() == 1.5
    with pytest.raises(AttributeError):
        supply.destroy()
