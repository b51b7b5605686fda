"""What `safe`, `limits` and `cache` name has to be there."""

from __future__ import annotations

from typing import Any

import pytest

from devices.power_supply import ScpiPowerSupply
from gateway import app, config
from gateway.config.members import member_problems
from gateway.errors import ConfigError
from gateway.service.exposure import Exposable, exposed

DEVICE = "[devices.psu1]\ndriver = 'scpi-power-supply'\nport = '/dev/x'\n"


def problems(text: str, driver: Any = ScpiPowerSupply) -> list[str]:
    (section,) = config.parse((DEVICE + text).encode(), file="x").devices
    return [str(problem).removeprefix("x:4: [devices.psu1] ") for problem in member_problems(section, driver)]


@pytest.mark.parametrize(
    "text",
    [
        "safe = {output = false, voltage = 0}\n",
        "limits.voltage = [0, 12]\n",
        "limits.set_voltage.volts = [0, 12]\n",
        "limits.'set_voltage.volts' = [0, 12]\n",
        "cache.measured_voltage = 1\n",
    ],
)
def test_names_of_the_driver_are_right(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "safe.outputs = false\n",
            "'safe.outputs': 'outputs' is not a property that can be set; did you mean 'output'?",
        ),
        ("safe.measured_voltage = 0\n", "'safe.measured_voltage': 'measured_voltage' can't be set"),
        ("cache.set_voltage = 1\n", "'cache.set_voltage': 'set_voltage' is not a property; did you mean 'voltage'?"),
        ("limits.measured_power = [0, 1]\n", "'limits.measured_power': 'measured_power' can't be set"),
        (
            "limits.set_voltage = [0, 1]\n",
            "'limits.set_voltage': 'set_voltage' is not a property that can be set; a method's parameter is written "
            "METHOD.PARAMETER; did you mean 'voltage'?",
        ),
        (
            "limits.set_voltge.volts = [0, 1]\n",
            "'limits.set_voltge.volts': 'set_voltge' is not a method; did you mean 'set_voltage'?",
        ),
        (
            "limits.set_voltage.volt = [0, 1]\n",
            "'limits.set_voltage.volt': 'set_voltage' has no parameter 'volt'; did you mean 'volts'?",
        ),
    ],
)
def test_a_name_that_holds_nothing_is_a_mistake_with_the_nearest(text: str, told: str) -> None:
    assert problems(text) == [told]


def test_a_gateway_is_not_made_with_a_limit_that_holds_nothing() -> None:
    with pytest.raises(ConfigError, match=r"x:4: \[devices.psu1\] 'limits.voltag': .*did you mean 'voltage'"):
        app.build(config.parse((DEVICE + "limits.voltag = [0, 1]\n").encode(), file="x"))


class Anything(Exposable):
    @exposed
    def set(self, **values: float) -> None: ...


class AtRunTime(Exposable):
    def exposures(self) -> Any:
        return {}


def test_what_can_t_be_told_from_the_class_is_left_alone() -> None:
    assert problems("limits.set.volts = [0, 1]\n", Anything) == []
    assert problems("limits.anything = [0, 1]\n", AtRunTime) == []
