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

_log: Final = logging.getLogger(__name__)

HANG_S: Final = 2.0
"""How long a call that hangs is waited for before the device counts as not safe."""
TELL_S: Final = 2.0
"""How long the emergency stop waits for the devices before it tells how far they are."""
RELATIVE: Final = 0.01
ABSOLUTE: Final = 0.02
"""A number that was read back may differ from the one that was set by so much."""
MAX_REASON: Final = 200


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


class Safety:
    """Makes the devices of `stations` safe. `told` is called with each report."""

    def __init__(self, told: Callable[[SafeReport], None] = lambda report: None) -> None:
        self._stations: dict[str, Station] = {}
        self.told = told
        self._stop: Stop | None = None
        self._lock = Lock()

    def look_after(self, station: Station) -> None:
        """From now on the station's device is among those that the emergency stop is about."""
        self._stations[station.name] = station
        station.refusals.append(self.refusal)

    def forget(self, name: str) -> None:
        """The device is gone for good."""
        self._stations.pop(name, None)

    # -- one device -------------------------------------------------------------------------------------------------

    def secure(self, station: Station, why: str) -> Errand[SafeReport] | None:
        """Begin to make a device safe; None where it has no safe state. Does not wait.

        Whatever is asked of the device from now on happens after it.
        """
        if not station.safe_state:
            return None
        began = monotonic()
        errand = Errand(station.lane, lambda: self._make_safe(station, why, began))
        station.interrupt(why)
        errand.start_first()
        return errand

    def secure_now(self, station: Station, why: str, timeout_s: float = 10.0) -> SafeReport | None:
        """Make a device safe and say how it went. Raises Busy where it takes longer; it goes on then."""
        errand = self.secure(station, why)
        return None if errand is None else errand.result(timeout_s)

    def _make_safe(self, station: Station, why: str, began: float) -> SafeReport:
        with station.gate:
            station.securing = True
            station.resume()
        outcome, detail = Outcome.FAILED, ""
        try:
            self._await_hung(station)
            outcome, detail = _bring(station)
            station.active = False
        except Exception as error:
            detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        finally:
            station.securing = False
        report = SafeReport(station.name, outcome, datetime.now(UTC), monotonic() - began, why, detail)
        station.report = report
        level = logging.ERROR if outcome is Outcome.FAILED else logging.INFO
        _log.log(level, "%s: safe state %s (%s)%s", station.name, outcome, why, f": {detail}" if detail else "")
        self.told(report)
        return report

    def _await_hung(self, station: Station) -> None:
        deadline = monotonic() + HANG_S
        while station.hung is not None:
            if monotonic() >= deadline:
                raise DeviceError(f"its driver hangs in {station.hung.what}; switch {station.name} off by hand")
            sleep(0.01)

    # -- all of them ------------------------------------------------------------------------------------------------

    @property
    def stopped(self) -> Stop | None:
        """The emergency stop, if it is latched."""
        return self._stop

    def refusal(self) -> GatewayError | None:
        """The error for every attempt to control something while the emergency stop is latched."""
        stop = self._stop
        if stop is None:
            return None
        return EmergencyStop(
            f"emergency stop since {shown_time(stop.since)} by {stop.by} ({stop.why}); reset it with a reason: gateway"
            " estop --reset REASON",
            by=stop.by,
            why=stop.why,
            since=shown_time(stop.since),
        )

    def stop(self, by: str, why: str) -> list[Errand[SafeReport]]:
        """Latch the emergency stop and begin to make every device safe, side by side. Does not wait."""
        with self._lock:
            if self._stop is None:
                self._stop = Stop(by, why[:MAX_REASON], datetime.now(UTC))
        _log.critical("EMERGENCY STOP by %s: %s", by, why)
        begun = [self.secure(station, f"emergency stop by {by}: {why}") for station in list(self._stations.values())]
        return [errand for errand in begun if errand is not None]

    def reset(self, by: str, why: str) -> None:
        """Release the emergency stop. Raises OutOfRange without a reason."""
        if not why.strip():
            raise OutOfRange("a reset needs a reason: what was found, and what was done about it")
        with self._lock:
            was, self._stop = self._stop, None
        if was is not None:
            _log.warning("emergency stop of %s reset by %s: %s", was.by, by, why)


def reports_of(errands: Iterable[Errand[SafeReport]], timeout_s: float = TELL_S) -> list[SafeReport]:
    """What is known of errands after `timeout_s` at most: those that are done."""
    deadline = monotonic() + timeout_s
    return [errand.result(0.0) for errand in list(errands) if errand.wait(max(0.0, deadline - monotonic()))]


def _bring(station: Station) -> tuple[Outcome, str]:
    """Do it, in the device's lane. Raises what the driver raises."""
    device, rows = station.device, exposure_table(station.device)
    if not station.common.safe:
        row = rows.get("make_safe")
        getattr(device, "make_safe" if row is None else row.attribute)()
        return Outcome.VERIFIED, ""
    for name, value in station.common.safe.items():
        setattr(device, rows[name].attribute, value)
    for name, value in station.common.safe.items():
        said = getattr(device, rows[name].attribute)
        if not _same(said, value):
            return Outcome.FAILED, f"{name} was set to {value!r} and is {said!r:.60}"
    return Outcome.VERIFIED, ""


def _same(said: Any, value: Any) -> bool:
    if isinstance(said, bool) or isinstance(value, bool) or not isinstance(said, int | float):
        return bool(said == value)
    return isinstance(value, int | float) and math.isclose(said, value, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
