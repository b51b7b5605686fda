"""Keeper: what watches over the devices of a running gateway - leases, safe states, deadlines, interlocks, readings.

One thread looks around every tenth of a second. Everything that waits for a device is done by workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event, Thread
from time import monotonic, time
from typing import Any, Final

from gateway.config.common import DeviceCommon
from gateway.errors import AccessDenied, Busy, ConfigError, DeviceUnavailable, GatewayError, NotFound
from gateway.server.audit import AuditLog, Entry
from gateway.server.custody import Custody
from gateway.server.errand import Errand
from gateway.server.interlock import Interlock
from gateway.server.leasing import GATEWAY
from gateway.server.observing.observers import Observers
from gateway.server.safety import Safety, reports_of
from gateway.server.station import Caller, Station
from gateway.service.exposure import Exposure, Kind, exposure_table
from gateway.service.reading import Reading
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

TICK_S: Final = 0.1
INTERLOCK_S: Final = 0.5
"""Between two looks at an interlock of a device that is in use."""
FRESH_S: Final = 0.5
"""A reading for an interlock may be so old."""
READ_S: Final = 5.0
"""A reading for an observer takes so long at most, waiting for its turn included."""
CLOSE_S: Final = 5.0
_STOP: Final = ""
"""What stands for the emergency stop's own condition among the names of devices."""


class Keeper:
    """Keeps `devices` (by name, each with its lane); `commons` are their common config keys.

    `as_host`: the one client is a gateway, which knows the leases; what it controlled is made safe when it is gone.
    """

    def __init__(
        self,
        devices: Mapping[str, Any],
        commons: Mapping[str, DeviceCommon] | None = None,
        *,
        as_host: bool = False,
    ) -> None:
        self._as_host = as_host
        self.audit: AuditLog | None = None
        self.safety = Safety()
        self.custody = Custody(self.safety)
        self.stations: dict[str, Station] = {}
        self.each_tick: list[Callable[[float], None]] = []
        """Called by the keeper's own thread with the time of `monotonic`: as long as they are, it looks around."""
        commons = commons or {}
        for name, device in devices.items():
            self.look_after(name, device, commons.get(name, DeviceCommon()))
        self.observers = Observers(self.read, self._polls())
        self._stop_unless: Interlock | None = None
        self._interlocks_at = 0.0
        self._looking: set[str] = set()
        self._ended = Event()
        self._thread: Thread | None = None

    def look_after(self, name: str, device: Any, common: DeviceCommon) -> Station:
        """Keep one more device. Raises ConfigError for a config that does not fit it; then it is not kept."""
        station = Station(name, device, common, on_trial=True)
        station.read = self._read_fresh
        _check_polls(station)
        if self.audit is not None:
            station.refusals.append(self._refusal)
        self.stations[name] = station
        self.safety.look_after(station)
        if not self._as_host:
            self.custody.look_after(station)
        station.lane.station = station  # last: no call may meet it before it asks for everything
        return station

    def check_fit(self, name: str, common: DeviceCommon) -> None:
        """Raises what `follow` raises, and changes nothing."""
        self._as_by(name, common)

    def follow(self, name: str, common: DeviceCommon) -> None:
        """Keep a device as its config says now. Raises GatewayError for a config that does not fit it."""
        self.stations[name].follow(self._as_by(name, common))

    def _as_by(self, name: str, common: DeviceCommon) -> Station:
        other = Station(name, self.stations[name].device, common, on_trial=True)
        _check_polls(other)
        return other

    def withdraw(self, name: str, why: str) -> None:
        """From now on the device can't be used, by nobody, and who had it loses it: see `forget` and `give_back`."""
        station = self.stations.get(name)
        if station is not None:
            station.absence = why, datetime.now(UTC)
            self.custody.take_away(name, why)

    def give_back(self, name: str) -> None:
        """The device can be used again."""
        self.stations[name].absence = None

    def forget(self, name: str) -> None:
        """Keep a device no more. It was withdrawn, and stays so for whoever still has a reference to it."""
        self.custody.forget(name)
        self.safety.forget(name)
        self.stations.pop(name, None)

    def poll(self) -> None:
        """Poll what the devices' configs say now. To be called after changes."""
        self.observers.keep(self._polls())

    def _polls(self) -> dict[tuple[str, str], float]:
        return {
            (station.name, prop): seconds
            for station in self.stations.values()
            for prop, seconds in station.common.cache.items()
        }

    def client_lost(self, caller: Caller, why: str) -> None:
        """A client is gone: its leases end, and what needs none is made safe if it is a host's."""
        self.custody.lost(caller, why)
        if self._as_host:
            for station in list(self.stations.values()):
                if station.active and station.controller == caller.key:
                    self.safety.secure(station, f"the gateway is gone: {why}")

    def write_down(self, audit: AuditLog) -> None:
        """Have what is done written into the log, and nothing controlled while that can't be."""
        self.audit = audit
        for station in self.stations.values():
            station.refusals.append(self._refusal)

        def note(device: str, method: str, outcome: str, detail: str, took_s: float = 0.0) -> None:
            with suppress(GatewayError):  # being safe goes on, written down or not
                audit.write(
                    Entry(
                        identity=GATEWAY,
                        peer="",
                        device=device,
                        method=method,
                        outcome=outcome,
                        duration_s=took_s,
                        note=detail,
                    )
                )

        self.safety.told = lambda report: note(
            report.device, "safe state", report.outcome.value, f"{report.why} {report.detail}".strip(), report.took_s
        )

    def stop_unless(self, condition: str) -> None:
        """Press the emergency stop as soon as `condition` does not hold, or can't be found out.

        Raises ConfigError for a text that is no condition, or one about a reading that there is not.
        """
        self._stop_unless = Interlock(condition)
        for device, prop in self._stop_unless.readings:
            try:
                self.row(device, prop)
            except GatewayError as problem:
                raise ConfigError(f"{condition!r}: {problem}") from problem

    def _refusal(self) -> DeviceUnavailable | None:
        audit = self.audit
        if audit is None or audit.ready:
            return None
        return DeviceUnavailable(f"{audit.problem}; nothing was done", what="audit log")

    def start(self) -> None:
        """Begin to look around. Idempotent."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="gateway-keeper", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._ended.set()
        self.observers.close()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    # -- readings ---------------------------------------------------------------------------------------------------

    def row(self, device: str, prop: str) -> Exposure:
        """The property of that device. Raises NotFound, AccessDenied for a method."""
        station = self.stations.get(device)
        if station is None:
            raise NotFound(f"no device {device!r:.80} here; there are: {', '.join(self.stations) or 'none'}")
        return _property(station, prop)

    def read(self, device: str, prop: str) -> Reading:
        """A reading, in the device's lane. Raises what reading raises, Busy where it takes long."""
        row, station = self.row(device, prop), self.stations[device]
        station.refuse_absent()

        def work() -> Any:
            station.refuse_absent()  # since then somebody may have been given up
            return getattr(station.device, row.attribute)

        errand = Errand(station.lane, work, f"{device}.{prop}")
        errand.start()
        try:
            value = errand.result(READ_S)
        except Busy:
            errand.cancel()
            raise
        return Reading(
            value, row.unit, time(), device, prop, identity_of(station.device), self.custody.number_of(device)
        )

    def _read_fresh(self, device: str, prop: str) -> Any:
        return self.observers.get(device, prop, FRESH_S, READ_S).checked()

    # -- looking around ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.wait(TICK_S):
            for each in self.each_tick:
                _safely(each, monotonic())
            _safely(self._look)

    def _look(self) -> None:
        now = monotonic()
        _safely(self.custody.tick)
        for station in list(self.stations.values()):
            _safely(self._look_at, station, now)
        if self._stop_unless is not None and self.safety.stopped is None and _STOP not in self._looking:
            self._looking.add(_STOP)
            WORKERS.submit(self._look_at_stop, self._stop_unless)
        if now >= self._interlocks_at:
            self._interlocks_at = now + INTERLOCK_S
            for station in list(self.stations.values()):
                if station.interlock is not None and station.active and station.name not in self._looking:
                    self._looking.add(station.name)
                    WORKERS.submit(self._look_at_interlock, station)

    def _look_at_stop(self, condition: Interlock) -> None:
        try:
            term = condition.failing(lambda device, prop: self.read(device, prop).value)
            if term and not self._ended.is_set():
                self.safety.stop(GATEWAY, term)
        finally:
            self._looking.discard(_STOP)

    def _look_at(self, station: Station, now: float) -> None:
        if station.overdue(now):
            _log.error("%s: %s hangs; the device is faulty", station.name, station.hung and station.hung.what)
        station.end_transaction(now)
        self.safety.look(station, now)

    def _look_at_interlock(self, station: Station) -> None:
        try:
            term = station.failing_term()
            if term:
                errand = self.safety.secure(station, f"interlock: {term}")
                if errand is not None:
                    reports_of([errand])
                else:
                    station.active = False
                    _log.error("%s is interlocked and has no safe state: %s", station.name, term)
        finally:
            self._looking.discard(station.name)


def _safely(look: Callable[..., object], *args: Any) -> None:
    """One look around; what goes wrong with it must not keep the others from being done."""
    try:
        look(*args)
    except Exception:
        _log.exception("unexpected error; going on")


def _property(station: Station, prop: str) -> Exposure:
    row = exposure_table(station.device).get(prop)
    if row is None:
        raise NotFound(f"{station.name} has no {prop!r:.80}", device=station.name, member=prop)
    if row.kind is not Kind.PROPERTY:
        raise AccessDenied(f"{station.name}.{prop} is a method: call it", rule="exposure-table", member=prop)
    return row


def _check_polls(station: Station) -> None:
    for prop in station.common.cache:
        _property(station, prop)


def check_fit(name: str, device: Any, common: DeviceCommon) -> None:
    """Raises ConfigError, NotFound or AccessDenied where the common keys do not fit the device, which is not kept."""
    _check_polls(Station(name, device, common, on_trial=True))


def identity_of(device: Any) -> str | None:
    """What the device said it is when it was opened, where that is known; nothing is asked."""
    known = getattr(device, "gateway_identity", None)
    return known if isinstance(known, str) and known else None
