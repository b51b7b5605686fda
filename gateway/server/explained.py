"""Explained: what would become of a call, rule by rule, without making it. Nothing is asked of any hardware.

The rules are the station's own, in the order in which a call meets them; what is known only while the gateway runs -
who has a lease, what other devices read - is named instead of judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.errors import DeviceUnavailable, NotFound, OutOfRange
from gateway.identity.principal import Principal, explain
from gateway.server.station import Station
from gateway.service.exposure import Access, Exposure, Kind, exposure_table
from gateway.service.permit import Operation


class Verdict(StrEnum):
    """What a rule says of a call."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    NEEDED = "needed"
    """It depends on what is so at the time of the call."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that a call meets."""

    rule: str
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All rules that a call meets, in order. After the first refusal the others are told too."""

    call: str
    access: str
    rules: tuple[Rule, ...]

    @property
    def is_allowed(self) -> bool:
        """Whether no rule refuses it."""
        return all(rule.verdict is not Verdict.REFUSED for rule in self.rules)


def explain_call(
    station: Station, principal: Principal, member: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Explanation:
    """What would become of `principal` using `member` of the station's device: a property without arguments is read,
    with one it is set. Raises NotFound for a member that is not exposed, or a property that can't be set.
    """
    row = exposure_table(station.device).get(member)
    if row is None:
        raise NotFound(f"{station.name} exposes no {member!r:.80}", device=station.name, member=member)
    operation, access = _operation(station.name, row, args, kwargs)
    rules = [_role(station, principal, access), _usable(station)]
    if access is not Access.READ and member != "make_safe":
        rules += [_lease(station), _values(station, operation, member, args, kwargs), _interlock(station)]
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    calls = {
        Operation.GET: f"{station.name}.{member}",
        Operation.SET: f"{station.name}.{member} = {', '.join(given)}",
        Operation.CALL: f"{station.name}.{member}({', '.join(given)})",
    }
    return Explanation(calls[operation], access.value, tuple(rules))


def _operation(
    device: str, row: Exposure, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Operation, Access]:
    if row.kind is not Kind.PROPERTY:
        return Operation.CALL, row.access
    if not args and not kwargs:
        return Operation.GET, row.access
    if not row.settable or kwargs or len(args) > 1:
        raise NotFound(f"{device}.{row.name} is a property that can't be set so", device=device, member=row.name)
    return Operation.SET, Access.CONTROL if row.access is Access.READ else row.access


def _role(station: Station, principal: Principal, access: Access) -> Rule:
    allowed, why = explain(principal, station.name, access.value)
    return Rule("role", Verdict.ALLOWED if allowed else Verdict.REFUSED, why)


def _usable(station: Station) -> Rule:
    try:
        station.refuse_absent()
    except DeviceUnavailable as problem:
        return Rule("in use", Verdict.REFUSED, str(problem))
    return Rule("in use", Verdict.ALLOWED, f"{station.name} is not disabled")


def _lease(station: Station) -> Rule:
    if not station.needs_lease:
        return Rule("lease", Verdict.ALLOWED, f"controlling {station.name} takes no lease")
    because = "its config says so" if station.common.lease else f"it has a safe state: {station.safe_state}"
    return Rule("lease", Verdict.NEEDED, f"controlling {station.name} takes a lease ({because})")


def _values(
    station: Station, operation: Operation, member: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Rule:
    bounds = station.bounds_of(operation, member)
    try:
        station.check_values(operation, member, args, kwargs)
    except OutOfRange as problem:
        return Rule("limits", Verdict.REFUSED, str(problem))
    if not bounds:
        return Rule("limits", Verdict.ALLOWED, "the config limits nothing here; the driver checks its own limits")
    shown = ", ".join(f"{each.what} from {each.low:g} to {each.high:g}{each.unit}" for each in bounds)
    return Rule("limits", Verdict.ALLOWED, f"within the config's limits: {shown}")


def _interlock(station: Station) -> Rule:
    if station.interlock is None:
        return Rule("interlock", Verdict.ALLOWED, f"{station.name} has none")
    return Rule("interlock", Verdict.NEEDED, f"must hold at the time of the call: {station.interlock.text}")
