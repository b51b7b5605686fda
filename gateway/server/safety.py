"""Safety: bringing devices to their safe state, whatever else is going on, and the emergency stop.

A device is made safe by an errand in its lane: before all calls that wait, and after the call that runs, which is
interrupted. What its config declares as safe is set property by property and read back; otherwise the driver's own
`make_safe` does it, which reads back too. How it went is kept, logged and told.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from threading import Lock
from time import monotonic, sleep
from typing import Any, Final

from gateway.errors import DeviceError, EmergencyStop, GatewayError, OutOfRange
from gateway.server.errand import Errand
from gateway.server.station import Station, shown_time
from gateway.service.exposure import exposure_table
from gateway.sync.reactor import REACTOR

_log: Final = logging.getLogger(__name__)

HANG_S: Final = 2.0
"""How long a call that hangs is waited for before the device counts as not safe."""
TELL_S: Final = 2.0
"""How long the emergency stop waits for the devices before it tells how far they are."""
RELATIVE: Final = 0.01
ABSOLUTE: Final = 0.02
"""A number that was read back may differ from the one that was set by so much."""
MAX_REASON: Final = 200
RETRY_S: Final = 1.0
RETRY_MAX_S: Final = 30.0
"""Pauses between attempts to make a device safe that could not be: the first one, and the longest."""


class Outcome(StrEnum):
    """How making a device safe went."""

    VERIFIED = "verified"
    """It says so itself."""
    SENT = "sent"
    """It was told, and can't be asked."""
    FAILED = "failed"
    """It may not be safe: somebody should look."""


@dataclass(frozen=True, slots=True)
class SafeReport:
    """How a device was made safe."""

    device: str
    outcome: Outcome
    at: datetime
    took_s: float
    """From the reason until it was done."""
    why: str
    detail: str = ""

    def shown(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "outcome": self.outcome.value, "at": shown_time(self.at)}


@dataclass(frozen=True, slots=True)
class Stop:
    """The emergency stop, while it is latched."""

    by: str
    why: str
    since: datetime


class Securing(Errand[SafeReport]):
    """Making one device safe."""

    def __init__(self, station: Station, why: str, work: Callable[[Securing], SafeReport]) -> None:
        super().__init__(station.lane, lambda: work(self), f"{station.name}.make_safe")
        self.station = station
        self.why = why
        self.asked = monotonic()
        self.told_late = False
        """That it takes long was reported."""


class Safety:
    """Makes the devices of `stations` safe. `told` is called with each report."""

    def __init__(self, told: Callable[[SafeReport], None] = lambda report: None) -> None:
        self._stations: dict[str, Station] = {}
        self.told = told
        self.stopped: Stop | None = None
        """The emergency stop, if it is latched. Only `stop`, `latch` and `reset` change it."""
        self.on_latched: list[Callable[[Stop | None], object]] = []
        """Called with each change of `stopped`, before anything else is done. Must not wait."""
        self._lock = Lock()
        self._retries: dict[str, _Retry] = {}

    def look_after(self, station: Station) -> None:
        """From now on the station's device is among those that the emergency stop is about."""
        self._stations[station.name] = station
        station.alarm = self

    def forget(self, name: str) -> None:
        """The device is gone for good."""
        self._stations.pop(name, None)
        self._retries.pop(name, None)

    # -- one device -------------------------------------------------------------------------------------------------

    def secure(self, station: Station, why: str, *, patience_s: float = 0.0) -> Securing | None:
        """Begin to make a device safe; None where it has no safe state, or is disabled. Does not wait.

        Whatever is asked of the device from now on happens after it. Who is in the device has `patience_s` to leave
        before it is interrupted. What was begun earlier and waits for its turn still is given once more.
        """
        if not station.safe_state or station.common.disabled is not None:
            return None
        with station.gate:
            waits = station.waits
            if not isinstance(waits, Securing):
                station.waits = waits = Securing(station, why, self._make_safe)
                # The gate is held, so that nobody interrupts for an errand that isn't in the lane yet.
                waits.start_first()
        if patience_s:
            errand = waits
            REACTOR.call_later(patience_s, lambda: station.interrupt_for(errand, why))
        else:
            station.interrupt_for(waits, why)
        return waits

    def secure_now(self, station: Station, why: str, timeout_s: float = 10.0) -> SafeReport | None:
        """Make a device safe and say how it went. Raises Busy where it takes longer; it goes on then."""
        errand = self.secure(station, why)
        return None if errand is None else errand.result(timeout_s)

    def look(self, station: Station, now: float) -> None:
        """To be called several times a second: reports what hangs, and tries again what has failed."""
        errand = station.waits or station.securing
        if isinstance(errand, Securing) and not errand.done:
            if now - errand.asked > HANG_S and not errand.told_late:
                errand.told_late = True
                what = station.visit.what if station.visit is not None else "its driver"
                self._owe(station, errand, f"{what} hangs; switch {station.name} off by hand")
            return
        retry = self._retries.get(station.name)
        can_be_tried = station.absence is None and station.hung is None
        if station.owed and can_be_tried and retry is not None and now >= retry.at:
            self.secure(station, retry.why)

    def owe(self, station: Station, why: str, detail: str) -> None:
        """The device should be safe and could not be made so: nothing is controlled until a later attempt succeeds."""
        if station.safe_state and station.common.disabled is None:
            station.owed = detail
            retry = self._retries.get(station.name)
            pause_s = RETRY_S if retry is None else min(2 * retry.pause_s, RETRY_MAX_S)
            self._retries[station.name] = _Retry(monotonic() + pause_s, pause_s, why)

    def _owe(self, station: Station, errand: Securing, detail: str) -> None:
        report = SafeReport(
            station.name, Outcome.FAILED, datetime.now(UTC), monotonic() - errand.asked, errand.why, detail
        )
        self.owe(station, errand.why, detail)
        self._publish(station, report)

    def _make_safe(self, errand: Securing) -> SafeReport:
        station = errand.station
        with station.gate:
            if station.waits is errand:
                station.waits = None
            station.securing = errand
            station.resume()
        outcome, detail = Outcome.FAILED, ""
        try:
            self._await_hung(station, errand)
            outcome, detail = _bring(station)
        except Exception as error:
            detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if errand.done:  # it hung itself, and was given up: what comes now proves nothing
            outcome, detail = Outcome.FAILED, detail or "it took too long"
        if outcome is Outcome.FAILED:
            self.owe(station, errand.why, detail)
        else:
            station.active, station.owed = False, ""
            self._retries.pop(station.name, None)
        report = SafeReport(station.name, outcome, datetime.now(UTC), monotonic() - errand.asked, errand.why, detail)
        self._publish(station, report)
        return report

    def _publish(self, station: Station, report: SafeReport) -> None:
        last, station.report = station.report, report
        failed = report.outcome is Outcome.FAILED
        level = {Outcome.FAILED: logging.ERROR, Outcome.SENT: logging.WARNING}.get(report.outcome, logging.INFO)
        if (
            failed
            and last is not None
            and (last.outcome, last.why, last.detail)
            == (
                report.outcome,
                report.why,
                report.detail,
            )
        ):
            return  # the same attempt once more
        _log.log(
            level,
            "%s: safe state %s (%s)%s",
            station.name,
            report.outcome,
            report.why,
            f": {report.detail}" if report.detail else "",
        )
        try:
            self.told(report)
        except Exception:
            _log.exception("%s: nobody could be told", station.name)

    def _await_hung(self, station: Station, errand: Securing) -> None:
        deadline = monotonic() + HANG_S
        while (hung := station.hung) is not None and hung is not errand:
            if monotonic() >= deadline:
                raise DeviceError(f"its driver hangs in {hung.what}; switch {station.name} off by hand")
            sleep(0.01)

    # -- all of them ------------------------------------------------------------------------------------------------

    def refusal(self) -> GatewayError | None:
        """The error for every attempt to control something while the emergency stop is latched."""
        stop = self.stopped
        if stop is None:
            return None
        return EmergencyStop(
            f"emergency stop since {shown_time(stop.since)} by {stop.by} ({stop.why}); reset it with a reason: gateway"
            " estop --reset REASON",
            by=stop.by,
            why=stop.why,
            since=shown_time(stop.since),
        )

    def stop(self, by: str, why: str) -> list[Securing]:
        """Latch the emergency stop and begin to make every device safe, side by side. Does not wait."""
        why = why[:MAX_REASON]
        with self._lock:
            if self.stopped is None:
                self._latch(Stop(by, why, datetime.now(UTC)))
        begun = []
        for station in list(self._stations.values()):
            try:
                begun.append(self.secure(station, f"emergency stop by {by}: {why}"))
            except Exception:  # the other devices have to be made safe all the same
                _log.exception("%s: the emergency stop did not reach it", station.name)
        _log.critical("EMERGENCY STOP by %s: %s", by, why)  # last, for a log may have to be waited for
        return [errand for errand in begun if errand is not None]

    def latch(self, stop: Stop) -> None:
        """Take over the emergency stop of a gateway that died; its devices have to be made safe by somebody else."""
        with self._lock:
            self._latch(stop)
        _log.warning("the emergency stop of %s (%s) still holds", stop.by, stop.why)

    def reset(self, by: str, why: str) -> None:
        """Release the emergency stop. Raises OutOfRange without a reason."""
        if not why.strip():
            raise OutOfRange("a reset needs a reason: what was found, and what was done about it")
        with self._lock:
            was = self.stopped
            self._latch(None)
        if was is not None:
            _log.warning("emergency stop of %s reset by %s: %s", was.by, by, why)

    def _latch(self, stop: Stop | None) -> None:
        self.stopped = stop
        for told in self.on_latched:
            told(stop)


@dataclass(frozen=True, slots=True)
class _Retry:
    """When a device that could not be made safe is tried again, after which pause, and why it must be."""

    at: float
    pause_s: float
    why: str


def reports_of(errands: Iterable[Securing], timeout_s: float = TELL_S) -> list[SafeReport]:
    """How it went, as far as is known after `timeout_s` at most: what is not done then has failed so far."""
    deadline = monotonic() + timeout_s
    reports = []
    for errand in list(errands):
        try:
            reports.append(errand.result(max(0.0, deadline - monotonic())))
        except Exception as error:
            took = monotonic() - errand.asked
            reports.append(
                SafeReport(errand.station.name, Outcome.FAILED, datetime.now(UTC), took, errand.why, str(error))
            )
    return reports


def _bring(station: Station) -> tuple[Outcome, str]:
    """Do it, in the device's lane. Raises what the driver raises."""
    device, rows = station.device, exposure_table(station.device)
    if not station.common.safe:
        row = rows.get("make_safe")
        getattr(device, "make_safe" if row is None else row.attribute)()
        return Outcome.VERIFIED, ""
    wrong, unknown = [], []
    for name, value in station.common.safe.items():
        try:
            setattr(device, rows[name].attribute, value)
        except Exception as error:  # what can be set is set all the same
            wrong.append(f"{name} can't be set: {type(error).__name__}: {' '.join(str(error).split())}")
    for name, value in station.common.safe.items():
        try:
            said = getattr(device, rows[name].attribute)
            if not _same(said, value):
                wrong.append(f"{name} was set to {value!r} and is {said!r:.60}")
        except Exception as error:
            unknown.append(f"{name} can't be read back: {type(error).__name__}: {' '.join(str(error).split())}")
    outcome = Outcome.FAILED if wrong else Outcome.SENT if unknown else Outcome.VERIFIED
    return outcome, "; ".join(wrong + unknown)


def _same(said: Any, value: Any) -> bool:
    if isinstance(said, bool) or isinstance(value, bool) or not isinstance(said, int | float):
        return bool(said == value)
    return isinstance(value, int | float) and math.isclose(said, value, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
