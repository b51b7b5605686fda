"""Services: their names, what they show by default, and how one is made for a connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import pytest

import gateway
from gateway.service.exposure import exposure_table
from gateway.service.service import Service, VoidService, instance_of


class PowerSupplyService(Service): ...


class Calculator(Service): ...


class ServiceOfNames(Service): ...


class Lamp(Service):
    ALIASES: ClassVar[Iterable[str]] = ("Light", "floor lamp")


@pytest.mark.parametrize(
    ("cls", "aliases"),
    [
        (PowerSupplyService, ("POWERSUPPLY",)),
        (Calculator, ("CALCULATOR",)),
        (ServiceOfNames, ("SERVICEOFNAMES",)),
        (VoidService, ("VOID",)),
        (Lamp, ("LIGHT", "FLOOR LAMP")),
    ],
)
def test_a_service_is_named_after_its_class_or_its_aliases(cls: type[Service], aliases: tuple[str, ...]) -> None:
    assert cls.get_service_aliases() == aliases
    assert cls().get_service_name() == aliases[0]


def test_a_service_shows_its_names_and_nothing_else() -> None:
    assert set(exposure_table(VoidService)) == {"get_service_aliases", "get_service_name"}
    conn, other = gateway.connect_pair(VoidService, Lamp)
    assert conn.root.get_service_name() == "LIGHT"
    assert conn.root.get_service_aliases() == ("LIGHT", "FLOOR LAMP")
    for end in (conn, other):
        end.close()


def test_a_service_refuses_to_be_changed_from_outside() -> None:
    with pytest.raises(AttributeError, match="cannot set 'exposed_x' of a service"):
        VoidService()._rpyc_setattr("exposed_x", 1)
    with pytest.raises(AttributeError, match="cannot delete 'exposed_x' of a service"):
        VoidService()._rpyc_delattr("exposed_x")


def test_a_class_makes_a_new_service_for_each_and_an_instance_is_shared() -> None:
    assert instance_of(Calculator) is not instance_of(Calculator)
    shared = Calculator()
    assert instance_of(shared) is shared


def test_a_service_is_told_of_its_connection_and_of_its_end_once() -> None:
    class Diary(Service):
        def __init__(self) -> None:
            self.entries: list[tuple[str, object]] = []

        def on_connect(self, conn: object) -> None:
            self.entries.append(("connected", conn))

        def on_disconnect(self, conn: object) -> None:
            self.entries.append(("disconnected", conn))

    diary = Diary()
    conn, other = gateway.connect_pair(diary)
    assert diary.entries == [("connected", conn)]
    conn.close()
    conn.close()
    other.close()
    assert diary.entries == [("connected", conn), ("disconnected", conn)]
