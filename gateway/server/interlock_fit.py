"""Whether the readings on which interlocks depend are there: one that depends on anything else never holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config import Config, DeviceSection, nearest
from gateway.errors import ConfigError
from gateway.server.interlock import Interlock
from gateway.service.exposure import Exposable, Kind, exposure_table


def interlock_problems(config: Config, drivers: Mapping[str, Any]) -> list[ConfigError]:
    """One error for each interlock that depends on a reading which nobody can give, so that it would never hold.

    `drivers` by device, as far as they are known. What devices of instrument hosts show is not known here.
    """
    problems: list[ConfigError] = []
    for section in config.devices:
        if section.common.allow is None:
            continue
        try:
            told = _interlock_problem(section, config, drivers)
        except ConfigError as problem:
            told = str(problem)
        if told:
            problems.append(section.source.error((*section.path, "allow"), f"'allow': {told}"))
    return problems


def _interlock_problem(section: DeviceSection, config: Config, drivers: Mapping[str, Any]) -> str:
    names = {each.name for each in config.devices}
    hosts = {host.name for host in config.hosts}
    for device, prop in sorted(Interlock(section.common.allow or "").readings):
        if device == section.name:
            return f"{device}.{prop} is its own, and can't be read while it waits; use the readings of other devices"
        if device.partition(".")[0] in hosts and "." in device:
            continue
        if device not in names:
            return f"there is no device {device!r}; {nearest(device, names - {section.name})}"
        driver = drivers.get(device)
        if driver is None or getattr(driver, "exposures", Exposable.exposures) is not Exposable.exposures:
            continue
        properties = {row.name for row in exposure_table(driver).values() if row.kind is Kind.PROPERTY}
        if prop not in properties:
            return f"{device} has no property {prop!r}; {nearest(prop, properties)}"
    return ""
