"""The GPIO input against libgpiod itself: where there is no such chip, it says so and what to look at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from devices.gpio_input import GpioInput, GpioInputOptions
from gateway.errors import DeviceUnavailable

gpiod = pytest.importorskip("gpiod", reason="libgpiod's binding is not installed")


def with_options(**options: Any) -> GpioInput:
    return GpioInput("door", msgspec.convert({"line": 17, **options}, GpioInputOptions))


@pytest.mark.parametrize("chip", ["/dev/no-such-gpiochip", "/dev/null", "/etc/hostname"])
def test_a_chip_that_is_none_makes_the_device_unavailable(chip: str) -> None:
    device = with_options(chip=chip)
    with pytest.raises(DeviceUnavailable, match=f"door: line 17 of {chip} can't be used .*gpioinfo"):
        device.open()
    assert device.state == "faulty"
    with pytest.raises(DeviceUnavailable):
        device.active  # noqa: B018
    device.close()


@pytest.mark.parametrize(
    "options", [{"line": -1}, {"line": 5000}, {"line": "17"}, {"bias": "up"}, {"chip": ""}, {"colour": "red"}], ids=str
)
def test_options_that_no_line_has_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        with_options(**options)


@pytest.mark.parametrize("bias", ["as-is", "disabled", "pull-up", "pull-down"])
def test_each_bias_is_one_of_libgpiods(bias: str) -> None:
    assert hasattr(gpiod.line.Bias, bias.upper().replace("-", "_"))
    with pytest.raises(DeviceUnavailable):
        with_options(bias=bias, chip="/dev/no-such-gpiochip").open()


def test_it_says_which_line_it_is_without_asking() -> None:
    assert with_options().identify() == "GPIO line 17 of /dev/gpiochip0"
