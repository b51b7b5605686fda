"""An interlock that depends on a reading which nobody can give is a mistake in the config: told before it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import config
from gateway.app import build
from gateway.config import Config
from gateway.drivers import load_drivers
from gateway.errors import ConfigError
from gateway.server.interlock_fit import interlock_problems

DMM = {"driver": "scpi-multimeter", "port": "/dev/null"}


def bench(allow: str, **hosts: Any) -> Config:
    supply = {"driver": "scpi-power-supply", "port": "/dev/null", "allow": allow}
    return config.from_tables(
        {"psu1": supply, "dmm1": DMM}, origin="test", gateway={"listen": "tcp://127.0.0.1:0"}, hosts=hosts
    )


def problems(allow: str, **hosts: Any) -> list[str]:
    settings = bench(allow, **hosts)
    return [str(problem) for problem in interlock_problems(settings, load_drivers(settings.devices))]


def test_readings_of_other_devices_are_fine() -> None:
    assert problems("dmm1.voltage_dc < 5 and dmm1.state == 'open'") == []


@pytest.mark.parametrize(
    ("allow", "told"),
    [
        ("psu1.voltage < 5", "psu1.voltage is its own, and can't be read while it waits"),
        ("dmm2.voltage_dc < 5", "there is no device 'dmm2'; did you mean 'dmm1'?"),
        ("dmm1.voltage_cd < 5", "dmm1 has no property 'voltage_cd'; did you mean 'voltage_dc'?"),
        ("dmm1.identify", "dmm1 has no property 'identify'"),
        ("bench2.dmm1.voltage < 5", "there is no device 'bench2.dmm1'"),
    ],
)
def test_readings_that_nobody_can_give_are_a_mistake(allow: str, told: str) -> None:
    (problem,) = problems(allow)
    assert told in problem
    with pytest.raises(ConfigError, match="'allow'"):
        build(bench(allow))


def test_what_a_host_s_devices_show_is_not_known_yet() -> None:
    assert problems("bench2.door.closed", bench2={"url": "serial:///dev/null"}) == []


def test_drivers_that_are_not_known_are_not_judged() -> None:
    assert interlock_problems(bench("dmm1.anything < 5"), {}) == []
