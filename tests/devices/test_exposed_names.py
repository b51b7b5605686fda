"""Exactly these names of each device are reachable over the wire, with this access."""

from __future__ import annotations

import pytest

from devices.base import Device
from devices.console import SerialConsole
from devices.multimeter import ScpiMultimeter
from devices.power_supply import ScpiPowerSupply
from gateway.service.exposure import exposure_table

EVERY_DEVICE = {"identify(): read", "make_safe(): control", "state: read", "transaction(): control"}
EXPECTED: dict[type[Device], set[str]] = {
    ScpiPowerSupply: {
        "voltage: read, settable, V",
        "set_voltage(): control, V",
        "current: read, settable, A",
        "set_current(): control, A",
        "output: read, settable",
        "set_output(): control",
        "measured_voltage: read, V",
        "measured_current: read, A",
        "measured_power: read, W",
        "max_voltage: read, V",
        "max_current: read, A",
    },
    ScpiMultimeter: {
        "function: read, settable",
        "range: read, settable",
        "configure(): control",
        "voltage_dc: read, V",
        "voltage_ac: read, V",
        "current_dc: read, A",
        "resistance: read, Ohm",
        "read(): read",
        "waveform(): read",
    },
    SerialConsole: {"write(): control", "read(): control", "read_until(): control", "history(): read"},
}


@pytest.mark.parametrize("driver", EXPECTED, ids=lambda driver: driver.__name__)
def test_a_device_exposes_exactly_these_names(driver: type[Device]) -> None:
    shown = set()
    for row in exposure_table(driver).values():
        call = "()" if row.kind.value == "method" else ""
        settable = ", settable" if row.settable else ""
        unit = f", {row.unit}" if row.unit else ""
        shown.add(f"{row.name}{call}: {row.access.value}{settable}{unit}")
    assert shown == EXPECTED[driver] | EVERY_DEVICE


@pytest.mark.parametrize("driver", EXPECTED, ids=lambda driver: driver.__name__)
def test_everything_exposed_is_documented_and_typed(driver: type[Device]) -> None:
    for row in exposure_table(driver).values():
        assert row.doc, row.name
        assert "->" in row.signature, row.name


def test_the_table_leads_to_the_drivers_own_members() -> None:
    for driver in EXPECTED:
        for row in exposure_table(driver).values():
            assert getattr(driver, row.attribute) is getattr(driver, row.name)
