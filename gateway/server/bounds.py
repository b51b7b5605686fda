"""What a device's config says about its values, held against its exposure table: limits, and the safe state."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from gateway.config.common import DeviceCommon
from gateway.errors import ConfigError, OutOfRange
from gateway.protocol.netref import Netref
from gateway.service.exposure import Exposure, Kind, exposure_table
from gateway.service.permit import Operation


@dataclass(frozen=True, slots=True)
class Bound:
    """One row of `limits`: `what` may be from `low` to `high`."""

    what: str
    position: int
    keyword: str
    low: float
    high: float
    unit: str

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raises OutOfRange where the argument is given and is no number within the bounds."""
        if self.position < len(args):
            value = args[self.position]
        elif self.keyword in kwargs:
            value = kwargs[self.keyword]
        else:
            return
        # By its real type: a client's own object may claim to be a number, and compare as it likes.
        kind = type(value)
        is_number = kind is not bool and issubclass(kind, Real) and not issubclass(kind, Netref)
        if is_number and self.low <= value <= self.high:
            return
        raise OutOfRange(
            f"{self.what} must be from {self.low:g} to {self.high:g}{self.unit}, says the gateway's config, not"
            f" {value!r:.60}; nothing was done",
            low=self.low,
            high=self.high,
        )


def safe_state_of(device: Any, common: DeviceCommon) -> str:
    """A device's safe state in words, as its config or its driver says; empty where it has none."""
    if common.safe:
        return ", ".join(f"{name} = {value}" for name, value in common.safe.items())
    return str(getattr(device, "safe_state", "") or "")


def bounds_of(
    name: str, device: Any, limits: Mapping[str, tuple[float, float]]
) -> dict[tuple[Operation, str], tuple[Bound, ...]]:
    """The rows of a config's `limits` by what they are about. Raises ConfigError for one about nothing."""
    rows = exposure_table(device)
    found: dict[tuple[Operation, str], tuple[Bound, ...]] = {}

    def add(operation: Operation, member: str, bound: Bound) -> None:
        found[operation, member] = (*found.get((operation, member), ()), bound)

    for key, (low, high) in limits.items():
        member, dot, parameter = key.partition(".")
        row = rows.get(member)
        if dot:
            if row is None or row.kind is Kind.PROPERTY:
                raise ConfigError(f"limits of {name}: it has no method {member!r}", device=name)
            names = _parameters(device, row)
            if parameter not in names:
                known = ", ".join(names) or "none"
                raise ConfigError(
                    f"limits of {name}: {member} has no parameter {parameter!r}, only {known}", device=name
                )
            add(Operation.CALL, member, Bound(f"{name}.{key}", names.index(parameter), parameter, low, high, ""))
            continue
        setter = rows.get(f"set_{member}")
        if (row is None or not row.settable) and setter is None:
            raise ConfigError(f"limits of {name}: it has no property {member!r} that can be set", device=name)
        unit = f" {row.unit}" if row is not None and row.unit else ""
        if row is not None and row.settable:
            add(Operation.SET, member, Bound(f"{name}.{member}", 0, "", low, high, unit))
        if setter is not None:
            names = _parameters(device, setter)
            keyword = names[0] if names else ""
            add(Operation.CALL, setter.name, Bound(f"{name}.{member}", 0, keyword, low, high, unit))
    return found


def _parameters(device: Any, row: Exposure) -> list[str]:
    """The names of a method's parameters, in order."""
    try:
        return list(inspect.signature(getattr(device, row.attribute)).parameters)
    except (TypeError, ValueError):
        return []


def check_safe_rows(name: str, device: Any, safe: Mapping[str, Any]) -> None:
    """Raises ConfigError where `safe` names what can't be set."""
    rows = exposure_table(device)
    for member in safe:
        row = rows.get(member)
        if row is None or row.kind is not Kind.PROPERTY or not row.settable:
            raise ConfigError(f"safe state of {name}: it has no property {member!r} that can be set", device=name)
