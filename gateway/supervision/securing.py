"""The securer: a process that has the devices of a gateway made safe which died, each by a process of its own.

Drivers did not keep the gateway from dying, so they are not trusted here either: one that hangs or crashes takes along
nothing but its own process. The securer says how each device is as soon as it knows, writes the audit log, and ends.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.app import make_devices
from gateway.config import DeviceSection, with_port
from gateway.drivers import Driver, Instrument
from gateway.errors import GatewayError
from gateway.server.audit import AuditLog, Entry
from gateway.server.safety import Outcome, Safety
from gateway.server.station import Station
from gateway.supervision.machine import how_it_ended
from gateway.supervision.words import decode, encode
from gateway.sync.lane import Lane

SUPERVISOR: Final = "the supervisor"
"""Who did it, in the audit log."""
UNREACHED: Final = "unreached"
"""The outcome for a device that is not there, and was not there for the gateway either."""
NOTHING: Final = "nothing"
"""The outcome for a device that has no safe state: it is left alone."""
DEVICE_S: Final = 3.0
"""A device that is not safe by then counts as failed."""
LIFE_S: Final = 10
"""All these processes end by then in any case, also without a supervisor."""
MAX_LINE: Final = 4096


@dataclass(frozen=True, slots=True)
class Report:
    """How one device was made safe."""

    device: str
    outcome: str
    """`verified`, `failed`, `unreached` or `nothing`."""
    took_s: float
    detail: str = ""

    def encode(self) -> bytes:
        """As a line."""
        facts: dict[str, Any] = {
            "device": self.device,
            "outcome": self.outcome,
            "took_s": self.took_s,
            "detail": self.detail[:1000],
        }
        return encode("report", **facts) + b"\n"

    @staticmethod
    def decode(line: bytes) -> Report | None:
        """The report in a line; None if there is none."""
        said = decode(line)
        if said.get("word") != "report":
            return None
        took_s = said.get("took_s")
        return Report(
            str(said.get("device")),
            str(said.get("outcome")),
            took_s if isinstance(took_s, float) else 0.0,
            str(said.get("detail", "")),
        )


def secure_devices(
    sections: Sequence[DeviceSection],
    drivers: Mapping[str, Driver],
    reached: Mapping[str, str],
    why: str,
    told: Callable[[Report], None],
    timeout_s: float = DEVICE_S,
) -> list[Report]:
    """Have each device that has a safe state opened, brought there and let go, side by side, within `timeout_s`.

    `drivers` are those of `load_drivers`. `reached` are the ports of those that the gateway had open. `told` is called
    with each report as soon as it is there. This process must have no threads. Disabled devices are left alone.
    """
    began = time.monotonic()
    working = [
        _Work(section, drivers, reached.get(section.name), why, timeout_s)
        for section in sections
        if section.common.disabled is None
    ]
    reports = []
    poller = select.poll()
    by_pipe = {work.pipe: work for work in working}
    for pipe in by_pipe:
        poller.register(pipe, select.POLLIN)
    while by_pipe and (left_s := began + timeout_s - time.monotonic()) > 0:
        for pipe, _ in poller.poll(left_s * 1000):
            poller.unregister(pipe)
            reports.append(by_pipe.pop(pipe).report())
            told(reports[-1])
    for work in by_pipe.values():
        work.kill()
        reports.append(Report(work.name, Outcome.FAILED, time.monotonic() - began, f"not done within {timeout_s:g} s"))
        told(reports[-1])
    return reports


class _Work:
    """A process that makes one device safe. It writes its report to `pipe`, and ends."""

    def __init__(
        self, section: DeviceSection, drivers: Mapping[str, Driver], port: str | None, why: str, timeout_s: float
    ) -> None:
        self.name = section.name
        self.pipe, writing = os.pipe()
        self._began = time.monotonic()
        self._pid = os.fork()
        if self._pid == 0:
            with contextlib.suppress(BaseException):
                signal.alarm(LIFE_S)
                os.write(writing, _secure(section, drivers, port, why, timeout_s).encode())
            sys.stderr.flush()
            # Without the interpreter's own end: threads of a driver must not keep the process.
            os._exit(0)
        os.close(writing)

    def report(self) -> Report:
        """What it reported, or how it died. It has ended, or is about to."""
        # At most one line, which a pipe takes at once.
        report = Report.decode(os.read(self.pipe, MAX_LINE))
        if report is not None:
            return report
        _, status = os.waitpid(self._pid, 0)
        how = how_it_ended(os.waitstatus_to_exitcode(status))
        return Report(self.name, Outcome.FAILED, time.monotonic() - self._began, f"the process of its driver {how}")

    def kill(self) -> None:
        """It takes too long. Its port is free afterwards."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _secure(
    section: DeviceSection, drivers: Mapping[str, Driver], port: str | None, why: str, timeout_s: float
) -> Report:
    """Do it for one device. Never raises."""
    began = time.monotonic()
    opened = False
    try:
        if section.common.match is not None and port:
            section = with_port(section, port)
        instrument: Any = make_devices([section], drivers)[0].instrument
        instrument.gateway_lane = Lane(section.name, 1)
        station = Station(section.name, instrument, section.common)
        if not station.safe_state:
            return Report(section.name, NOTHING, time.monotonic() - began)
        try:
            instrument.open()
            opened = True
            made = Safety().secure_now(station, why, timeout_s)
        finally:
            _let_go(instrument)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, it is told, and the others go on
        text = " ".join(str(error).split())
        detail = text if isinstance(error, GatewayError) and text else f"{type(error).__name__}: {text}"
        was_there = opened or port is not None
        return Report(section.name, Outcome.FAILED if was_there else UNREACHED, time.monotonic() - began, detail)
    assert made is not None
    return Report(section.name, made.outcome.value, time.monotonic() - began, made.detail)


def _let_go(instrument: Instrument) -> None:
    with contextlib.suppress(Exception):
        getattr(instrument, "let_go", instrument.close)()


def write_down(path: Path, why: str, reports: Sequence[Report]) -> None:
    """Write into the audit log that the gateway died, and how its devices are. What can't be written is left out."""
    log = AuditLog(path, sync_s=math.inf)
    with contextlib.suppress(GatewayError):
        log.write(Entry(identity=SUPERVISOR, peer="", device="", method="restart", outcome="died", note=why))
        for report in reports:
            if report.outcome == NOTHING:
                continue
            log.write(
                Entry(
                    identity=SUPERVISOR,
                    peer="",
                    device=report.device,
                    method="safe state",
                    outcome=report.outcome,
                    duration_s=report.took_s,
                    note=f"{why} {report.detail}".strip(),
                )
            )
    log.close()


def run_securer(
    sections: Sequence[DeviceSection],
    drivers: Mapping[str, Driver],
    reached: Mapping[str, str],
    why: str,
    audit: Path | None,
    pipe: int,
) -> None:
    """What the forked process does. Does not return."""
    with contextlib.suppress(BaseException):
        # A Ctrl-C reaches all processes of the terminal; this one has to finish.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIFE_S)
        reports = secure_devices(sections, drivers, reached, why, lambda report: _write(pipe, report.encode()))
        if audit is not None:
            write_down(audit, why, reports)
    sys.stderr.flush()
    os._exit(0)


def _write(pipe: int, line: bytes) -> None:
    with contextlib.suppress(OSError):  # a line is shorter than what a pipe takes at once
        os.write(pipe, line)
