"""The securer: a process of its own that makes the devices of a gateway safe which died.

Drivers did not keep the gateway from dying, so they are not trusted here either: what hangs or crashes takes the
securer along, and not the supervisor. It says how each device is as soon as that is known, writes the audit log, ends.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.app import Instrument, make_devices
from gateway.config import DeviceSection, with_port
from gateway.errors import GatewayError
from gateway.server.audit import AuditLog, Entry
from gateway.server.safety import Outcome, Safety
from gateway.server.station import Station
from gateway.supervision.words import decode, encode
from gateway.sync.lane import Lane

SUPERVISOR: Final = "the supervisor"
"""Who did it, in the audit log."""
UNREACHED: Final = "unreached"
"""The outcome for a device that is not there, and was not there for the gateway either."""
DEVICE_S: Final = 3.0
"""A device that is not safe by then counts as failed."""
LIFE_S: Final = 15
"""The securer ends by then in any case, also without a supervisor."""


@dataclass(frozen=True, slots=True)
class Report:
    """How one device was made safe."""

    device: str
    outcome: str
    """`verified`, `failed` or `unreached`."""
    took_s: float
    detail: str = ""

    def encode(self) -> bytes:
        """As a line."""
        facts = {"device": self.device, "outcome": self.outcome, "took_s": self.took_s, "detail": self.detail}
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
    reached: Mapping[str, str],
    why: str,
    told: Callable[[Report], None],
    timeout_s: float = DEVICE_S,
) -> list[Report]:
    """Open each device that has a safe state, bring it there, let go of it; side by side, for `timeout_s` at most.

    `reached` are the ports of those that the gateway had open. `told` is called with each report, in some thread.
    """
    reports: dict[str, Report] = {}
    lock = threading.Lock()

    def settle(report: Report) -> None:
        with lock:
            if report.device not in reports:
                reports[report.device] = report
                told(report)

    def work(section: DeviceSection) -> None:
        report = _secure(section, reached.get(section.name), why, timeout_s)
        if report is not None:
            settle(report)

    began = time.monotonic()
    threads = [
        (section, threading.Thread(target=work, args=(section,), name=f"securer-{section.name}", daemon=True))
        for section in sections
        if section.common.disabled is None
    ]
    for _, thread in threads:
        thread.start()
    for section, thread in threads:
        thread.join(max(0.0, began + timeout_s - time.monotonic()))
        if thread.is_alive():
            settle(Report(section.name, Outcome.FAILED, time.monotonic() - began, f"not done within {timeout_s:g} s"))
    return list(reports.values())


def _secure(section: DeviceSection, port: str | None, why: str, timeout_s: float) -> Report | None:
    """Do it for one device; None where it has no safe state. Never raises."""
    began = time.monotonic()
    opened = False
    try:
        if section.common.match is not None and port:
            section = with_port(section, port)
        instrument: Any = make_devices([section])[0].instrument
        instrument.gateway_lane = Lane(section.name, 1)
        station = Station(section.name, instrument, section.common)
        if not station.safe_state:
            return None
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
    sections: Sequence[DeviceSection], reached: Mapping[str, str], why: str, audit: Path | None, pipe: int
) -> None:
    """What the forked process does. Does not return."""
    with contextlib.suppress(BaseException):
        # A Ctrl-C reaches all processes of the terminal; this one has to finish.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIFE_S)
        reports = secure_devices(sections, reached, why, lambda report: _write(pipe, report.encode()))
        if audit is not None:
            write_down(audit, why, reports)
    sys.stderr.flush()
    # Without the interpreter's own end: threads that hang must not keep the process.
    os._exit(0)


def _write(pipe: int, line: bytes) -> None:
    with contextlib.suppress(OSError):  # a line is shorter than what a pipe takes at once
        os.write(pipe, line)
