"""The options of the drivers, as they come out of a config file."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from devices.base import Device
from devices.console import SerialConsole
from devices.multimeter import ScpiMultimeter
from devices.power_supply import ScpiPowerSupply

DRIVERS: list[type[Device]] = [ScpiPowerSupply, ScpiMultimeter, SerialConsole]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_port_is_all_that_must_be_given(driver: type[Device]) -> None:
    options = msgspec.convert({"port": "/dev/ttyUSB0"}, driver.Options)
    device = driver("x", options)
    assert device.options == options
    assert device.state == "closed"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("table", "where"),
    [
        ({}, "port"),
        ({"port": ""}, "port"),
        ({"port": "x", "baud": 9600}, "baud"),
        ({"port": "x", "baudrate": "fast"}, "baudrate"),
        ({"port": "x", "baudrate": 0}, "baudrate"),
        ({"port": "x", "parity": "mark"}, "parity"),
        ({"port": "x", "timeout_s": 0}, "timeout_s"),
        ({"port": "x", "timeout_s": 1e9}, "timeout_s"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(driver: type[Device], table: dict[str, Any], where: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=where):
        msgspec.convert(table, driver.Options)


@pytest.mark.parametrize(
    ("driver", "table"),
    [
        (ScpiPowerSupply, {"port": "x", "max_voltage": -1}),
        (ScpiPowerSupply, {"port": "x", "terminator": "\n\n"}),
        (ScpiMultimeter, {"port": "x", "reading_s": 0}),
        (SerialConsole, {"port": "x", "history_bytes": 10**9}),
        (SerialConsole, {"port": "x", "terminator": "\n"}),
    ],
)
def test_the_options_of_one_driver_are_bounded_too(driver: type[Device], table: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, driver.Options)


@pytest.mark.parametrize("driver", DRIVERS)
def test_options_do_not_change(driver: type[Device]) -> None:
    options = msgspec.convert({"port": "x"}, driver.Options)
    with pytest.raises(AttributeError):
        options.port = "y"  # type: ignore[attr-defined]
