"""Dataclasses travel by reference and answer for their exposed fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass
class Reading:
    exposed_count: int = 31
    exposed_unit: str = "mV"
    exposed_value: float = 3.14
    exposed_raw: bytes = b"\x00\xff"
    hidden: int = 1


class Meter:
    def __init__(self) -> None:
        self.reading = Reading()

    def exposed_read(self) -> Reading:
        return self.reading


def test_exposed_fields_are_read_by_their_short_names(connect: Callable[..., Any]) -> None:
    conn = connect(Meter)
    reading = conn.root.read()
    assert (reading.count, reading.unit, reading.value, reading.raw) == (31, "mV", 3.14, b"\x00\xff")
    with pytest.raises(AttributeError):
        reading.hidden  # noqa: B018 - reading the attribute is the test


def test_exposed_fields_can_be_set_where_setting_is_allowed(
    connect: Callable[..., Any], as_service: Callable[[type], type]
) -> None:
    meter = as_service(Meter)()
    reading = connect(meter, remote_config={"allow_setattr": True}).root.read()
    reading.unit = "V"
    assert meter.reading == Reading(exposed_unit="V")


def test_equality_is_the_dataclass_own(connect: Callable[..., Any]) -> None:
    conn = connect(Meter)
    reading = conn.root.read()
    assert reading == conn.root.read()
    assert repr(reading) == repr(Reading())
