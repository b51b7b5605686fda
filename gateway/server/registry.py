"""The root service of a gateway: its devices by name, those of its instrument hosts, and what each of them shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from gateway.config.common import DeviceCommon
from gateway.errors import ConfigError, NotFound
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.server.bridge import AWAY, BridgedDevice, Host
from gateway.server.described import row_of
from gateway.server.keeper import Keeper, check_fit, identity_of
from gateway.server.lease_service import LeasedService, caller_now
from gateway.server.observed_service import ObservedService
from gateway.server.safety import MAX_REASON, reports_of
from gateway.server.station import RootVisit, Station, require, shown_time
from gateway.service import permit
from gateway.service.exposure import EXPOSED_PREFIX, Access, Exposure, Kind, exposed, exposure_table
from gateway.service.service import Service
from gateway.sync.lane import Lane


class GatewayService(ObservedService, LeasedService, Service):
    """`conn.root` of a gateway: `conn.root.psu1`, or `conn.root.device("psu1")`.

    `devices` are what is served, by name; each gets a lane, so that it is never entered twice at a time, whoever calls.
    The devices of `hosts` are reached as `conn.root.bench2.dmm1`, or `conn.root.device("bench2.dmm1")`; a host that is
    one device, such as a board, as `conn.root.board1`.
    `commons` are the common config keys of the devices. `as_host`: leases are the matter of the gateway at the other
    end of the line. `keeper` watches over them: it has to be started and closed.
    Raises ConfigError for a name that the service needs itself, or that is there twice, and for what does not fit.
    """

    gateway_urgent = frozenset({"estop"})
    """Calls that wait behind no others of their connection."""

    def __init__(
        self,
        devices: Mapping[str, Any],
        limits: Limits | None = None,
        hosts: Iterable[Host] = (),
        commons: Mapping[str, DeviceCommon] | None = None,
        *,
        as_host: bool = False,
    ) -> None:
        self._pending = (limits or DEFAULT_LIMITS).pending_calls
        self._devices = dict(devices)
        self._hosts: dict[str, Host] = {}
        for host in hosts:
            self._check_name(host.name)
            self._hosts[host.name] = host
        for name, device in self._devices.items():
            self._check_name(name, taken=False)
            device.gateway_lane = Lane(name, self._pending)
        self.keeper = Keeper(self._devices, commons, as_host=as_host)
        self._custody = self.keeper.custody
        for host in self._hosts.values():
            self._look_after(host)
        self.observe_by(self.keeper.observers, self._admit_reading)
        self._show()

    # -- what is served, when the config changes ----------------------------------------------------------------------

    def check_device(self, name: str, device: Any, common: DeviceCommon) -> None:
        """Raises ConfigError for what does not fit, and touches nothing that is served. `device` is for that only."""
        self._check_name(name, taken=False)
        device.gateway_lane = Lane(name, self._pending)
        check_fit(name, device, common)

    def add_device(self, name: str, device: Any, common: DeviceCommon) -> None:
        """Serve one more device. Raises ConfigError for a name that is taken, and for what does not fit."""
        self._check_name(name)
        device.gateway_lane = Lane(name, self._pending)
        self.keeper.look_after(name, device, common)
        self._devices[name] = device
        self._show()

    def remove_device(self, name: str) -> None:
        """Serve a device no more; it was withdrawn and closed. Who has a reference to it gets DeviceUnavailable."""
        del self._devices[name]
        self._show()
        self.keeper.forget(name)

    def add_host(self, host: Host) -> None:
        """Serve the devices of one more host. Raises ConfigError for a name that is taken."""
        self._check_name(host.name)
        self._hosts[host.name] = host
        self._look_after(host)
        self._show()

    def remove_host(self, name: str) -> None:
        """Serve the devices of a host no more, and let go of it. Who has a reference to one gets DeviceUnavailable."""
        host = self._hosts.pop(name)
        self._show()
        for device in list(host.devices.values()):
            self.keeper.withdraw(device.name, "its host was taken out of the config")
        host.close()
        for device in list(host.devices.values()):
            self.keeper.forget(device.name)

    def _check_name(self, name: str, *, taken: bool = True) -> None:
        if name.startswith(("_", EXPOSED_PREFIX)) or hasattr(type(self), name):
            raise ConfigError(f"the device name {name!r} is the gateway's own; choose another one", device=name)
        if name in self._hosts or (taken and name in self._devices):
            raise ConfigError(f"{name!r} is the name of a device and of a host; choose another one", device=name)

    def _show(self) -> None:
        """Let clients see what there is now. In one step: they are looking."""
        rows = {name: _row(name, device) for name, device in self._devices.items()}
        rows |= {name: _host_row(host) for name, host in self._hosts.items()}
        self._exposures = MappingProxyType({**type(self).__exposure__, **rows})

    def exposures(self) -> Mapping[str, Exposure]:
        return self._exposures

    def __getattr__(self, name: str) -> Any:
        devices, hosts = self.__dict__.get("_devices", {}), self.__dict__.get("_hosts", {})
        if name in devices:
            return devices[name]
        if name in hosts:
            return hosts[name].sole or hosts[name].node
        raise AttributeError(name)

    @exposed(access="read")
    def names(self) -> list[str]:
        """The names of all devices, also of those that can't be reached now."""
        return [*list(self._devices), *self._bridged()]

    @exposed(access="read")
    def device(self, name: str) -> Any:
        """The device of that name. Raises NotFound, which lists the names there are; DeviceUnavailable where its host
        is away and has not been seen yet.
        """
        if type(name) is str:
            if name in self._devices:
                return self._devices[name]
            host, dot, own_name = name.partition(".")
            if dot and host in self._hosts:
                with suppress(KeyError):
                    return self._hosts[host].device(own_name)
            elif host in self._hosts and (sole := self._hosts[host].sole) is not None:
                return sole
        raise NotFound(f"no device {name!r:.80} here; there are: {', '.join(self.names()) or 'none'}")

    @exposed(access="read")
    def describe(self, name: str | None = None) -> dict[str, Any]:
        """Without a name: `{device: {name, driver, doc, state, waiting}}`. With one: the same for it, with its
        `members`.

        A member is `{name, kind, signature, doc, unit, access, settable}`. Nothing is asked of the hardware. What
        belongs to an instrument host has its name as `host`. While that can't be reached, the state is `unavailable`,
        `since` says since when, and `problem` why; a host of which no device is known then stands for itself.
        """
        hosts = list(self._hosts.values())
        for host in hosts:
            host.refresh()
        if name is None:
            summaries = {each: _summary(each, device) for each, device in list(self._devices.items())}
            summaries |= {host.name: _host_summary(host) for host in hosts if not host.devices}
            return summaries | {each: _bridged_summary(device) for each, device in self._bridged().items()}
        if type(name) is str and name in self._hosts and self._hosts[name].sole is None:
            host = self._hosts[name]
            return {**_host_summary(host), "members": _members(host.node)}
        device = self.device(name)
        summary = _bridged_summary(device) if isinstance(device, BridgedDevice) else _summary(name, device)
        return {**summary, "members": _members(device)}

    @exposed(access="read")
    def host_info(self, name: str) -> dict[str, Any]:
        """What is known of an instrument host: `{name, url, state, devices, resets_by, absences, line}`.

        `absences` are `{since, until, why}`, the latest last: a board that was reset or hung was away for a moment.
        `line` is what its serial line has carried, None without the link. `since` and `problem` while it is away.
        """
        host = self._host(name)
        summary = _host_summary(host)
        return {
            "name": host.name,
            "url": str(host.url),
            "state": summary["state"],
            "devices": [_bridged_summary(device) for device in list(host.devices.values())],
            "resets_by": host.resets_by,
            "absences": [
                {"since": shown_time(each.since), "until": shown_time(each.until), "why": each.why}
                for each in list(host.absences)
            ],
            "line": host.line(),
            **host.absence(),
        }

    @exposed(access="admin")
    def reset_host(self, name: str) -> None:
        """Reset the board that is an instrument host, as the config says that it can be.

        Raises NotFound, ConfigError where it does not say how, or the port can't.
        """
        self._host(name).reset()

    def _host(self, name: str) -> Host:
        host = self._hosts.get(name) if type(name) is str else None
        if host is None:
            raise NotFound(f"no instrument host {name!r:.80} here; there are: {', '.join(self._hosts) or 'none'}")
        return host

    # -- safety -----------------------------------------------------------------------------------------------------

    @exposed(access="read")
    def estop(self, reason: str = "") -> list[dict[str, Any]]:
        """The emergency stop: every device is made safe at once, and nothing can be controlled until it is reset.

        Anybody may. Gives how far it is after two seconds: `{device, outcome, at, took_s, why, detail}` each.
        """
        caller = caller_now()
        errands = self.keeper.safety.stop(caller.principal.name, str(reason)[:MAX_REASON] or "no reason given")
        return [report.shown() for report in reports_of(errands)]

    @exposed(access="admin")
    def estop_reset(self, reason: str) -> None:
        """Release the emergency stop. Raises OutOfRange without a reason."""
        self.keeper.safety.reset(caller_now().principal.name, str(reason)[:MAX_REASON])

    @exposed(access="read")
    def estop_state(self) -> dict[str, str] | None:
        """`{by, why, since}` while the emergency stop is latched, else None."""
        stop = self.keeper.safety.stopped
        return None if stop is None else {"by": stop.by, "why": stop.why, "since": shown_time(stop.since)}

    @exposed(access="control")
    def test_safe(self, device: str) -> dict[str, Any]:
        """Bring a device to its safe state, and say how that went. Raises LeaseConflict where somebody else has it."""
        caller = caller_now()
        station = self.keeper.stations.get(device) or self._custody.known(device)
        require(caller.principal, device, Access.CONTROL)
        self._custody.may_disturb(device, caller.key)
        report = self.keeper.safety.secure_now(station, f"test by {caller.principal.name}")
        if report is None:
            raise NotFound(f"{device} has no safe state; declare one: [devices.{device}.safe]", device=device)
        return report.shown()

    def _admit_reading(self, device: str, prop: str) -> None:
        row = self.keeper.row(device, prop)
        visit = permit.current()
        if isinstance(visit, RootVisit):
            require(visit.caller.principal, device, row.access)

    def _look_after(self, host: Host) -> None:
        host.on_known, host.on_back, host.on_listed = self._keep_bridged, self._secure_bridged, self._show
        for device in list(host.devices.values()):  # it may have been started before
            self._keep_bridged(device)

    def _secure_bridged(self, device: BridgedDevice, why: str) -> None:
        """What was controlled before its host was away: the client that did so believes in a state that may be gone."""
        station = self.keeper.stations.get(device.name)
        if station is None:
            return
        station.safe_state, station.needs_lease = device.safe_state, device.summary.needs_lease
        if station.active:
            self.keeper.safety.secure(station, why)

    def _keep_bridged(self, device: BridgedDevice) -> None:
        if device.gateway_lane.station is not None:
            return
        common = DeviceCommon(lease=device.summary.needs_lease)
        station = self.keeper.look_after(device.name, device, common)
        station.at_host = True

    def _bridged(self) -> dict[str, BridgedDevice]:
        return {device.name: device for host in list(self._hosts.values()) for device in host.devices.values()}


def _summary(name: str, device: Any) -> dict[str, Any]:
    lane = device.gateway_lane
    station: Station | None = lane.station
    return {
        "name": name,
        "driver": type(device).__name__,
        "doc": _first_line(type(device).__doc__),
        "state": str(getattr(device, "state", "open")),
        "waiting": lane.waiting,
        **({} if station is None else _kept(station)),
    }


def _kept(station: Station) -> dict[str, Any]:
    """What the gateway knows of a device beside what its driver says."""
    common, facts = station.common, {}
    if common.disabled is not None:
        facts = {"state": "disabled", "problem": common.disabled}
    elif station.absence is not None:
        why, since = station.absence
        facts = {"state": "missing", "problem": why, "since": shown_time(since)}
    elif station.hung is not None:
        facts = {"state": "faulty", "problem": f"a call of {station.hung.what} hangs"}
    custodian = station.custodian
    return {
        **facts,
        "identity": identity_of(station.device),
        "owner": common.owner or None,
        "notes": common.notes or None,
        "safe_state": station.safe_state or None,
        "needs_lease": station.needs_lease,
        "lease": custodian.shown(station.name) if custodian is not None else None,
        "made_safe": station.report.shown() if station.report is not None else None,
    }


def _bridged_summary(device: BridgedDevice) -> dict[str, Any]:
    absence = device.absence()
    return {
        "name": device.name,
        "driver": device.summary.driver,
        "doc": device.summary.doc,
        **_kept(device.gateway_lane.station),
        "owner": device.summary.owner or None,
        "notes": device.summary.notes or None,
        "state": AWAY if absence else device.summary.state,
        "waiting": device.gateway_lane.waiting + device.summary.waiting,
        "host": device.host.name,
        **absence,
    }


def _host_summary(host: Host) -> dict[str, Any]:
    absence = host.absence()
    return {
        "name": host.name,
        "driver": "Host",
        "doc": f"Instrument host at {host.url}.",
        "state": AWAY if absence else "open",
        "waiting": 0,
        "host": host.name,
        **absence,
    }


def _members(obj: Any) -> list[dict[str, Any]]:
    return [_member(row) for row in sorted(exposure_table(obj).values(), key=lambda row: row.name)]


def _host_row(host: Host) -> Exposure:
    sole = host.sole
    driver, doc = "Host", f"The devices of the instrument host {host.name}."
    if sole is not None:
        driver, doc = sole.summary.driver, sole.summary.doc
    row = row_of(host.name, Kind.PROPERTY, signature=f"-> {driver}", doc=doc)
    # Before anything of it is known it stands for itself, and may turn out to be a device.
    return replace(row, attribute=host.name, fixed=bool(host.devices))


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
        fixed=True,
    )


def _member(row: Exposure) -> dict[str, Any]:
    fields = asdict(row)
    del fields["attribute"], fields["fixed"]
    return {**fields, "kind": row.kind.value, "access": row.access.value}


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
