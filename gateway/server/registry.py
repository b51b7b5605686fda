"""The root service of a gateway: its devices by name, and what each of them shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from gateway.errors import ConfigError, NotFound
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.service.exposure import EXPOSED_PREFIX, Access, Exposure, Kind, exposed, exposure_table
from gateway.service.service import Service
from gateway.sync.lane import Lane


class GatewayService(Service):
    """`conn.root` of a gateway: `conn.root.psu1`, or `conn.root.device("psu1")`.

    `devices` are what is served, by name; each gets a lane, so that it is never entered twice at a time, whoever calls.
    Raises ConfigError for a name that the service needs itself.
    """

    def __init__(self, devices: Mapping[str, Any], limits: Limits | None = None) -> None:
        pending = (limits or DEFAULT_LIMITS).pending_calls
        self._devices = dict(devices)
        for name, device in self._devices.items():
            if name.startswith(("_", EXPOSED_PREFIX)) or hasattr(type(self), name):
                raise ConfigError(f"the device name {name!r} is the gateway's own; choose another one", device=name)
            device.gateway_lane = Lane(name, pending)
        rows = {name: _row(name, device) for name, device in self._devices.items()}
        self._exposures = MappingProxyType({**type(self).__exposure__, **rows})

    def exposures(self) -> Mapping[str, Exposure]:
        return self._exposures

    def __getattr__(self, name: str) -> Any:
        devices = self.__dict__.get("_devices", {})
        if name in devices:
            return devices[name]
        raise AttributeError(name)

    @exposed(access="read")
    def names(self) -> list[str]:
        """The names of all devices."""
        return list(self._devices)

    @exposed(access="read")
    def device(self, name: str) -> Any:
        """The device of that name. Raises NotFound, which lists the names there are."""
        try:
            return self._devices[name]
        except (KeyError, TypeError):
            raise NotFound(f"no device {name!r:.80} here; there are: {', '.join(self._devices) or 'none'}") from None

    @exposed(access="read")
    def describe(self, name: str | None = None) -> dict[str, Any]:
        """Without a name: `{device: {driver, doc, state, waiting}}`. With one: the same for it, with its `members`.

        A member is `{name, kind, signature, doc, unit, access, settable}`. Nothing is asked of the hardware.
        """
        if name is None:
            return {each: self._summary(each) for each in self._devices}
        device = self.device(name)
        members = [_member(row) for row in sorted(exposure_table(device).values(), key=lambda row: row.name)]
        return {**self._summary(name), "members": members}

    def _summary(self, name: str) -> dict[str, Any]:
        device = self._devices[name]
        return {
            "name": name,
            "driver": type(device).__name__,
            "doc": _first_line(type(device).__doc__),
            "state": str(getattr(device, "state", "open")),
            "waiting": device.gateway_lane.waiting,
        }


def _row(name: str, device: Any) -> Exposure:
    return Exposure(
        name=name,
        attribute=name,
        kind=Kind.PROPERTY,
        signature=f"-> {type(device).__name__}",
        doc=_first_line(type(device).__doc__),
        unit=None,
        access=Access.READ,
        settable=False,
    )


def _member(row: Exposure) -> dict[str, Any]:
    fields = asdict(row)
    del fields["attribute"]
    return {**fields, "kind": row.kind.value, "access": row.access.value}


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
