"""Certificates and the clock by which they are judged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from gateway.doctor.certificate import validity
from gateway.doctor.findings import Finding, ok, problem, skipped, warning
from gateway.doctor.subject import Subject
from gateway.doctor.system import SUDO, System
from gateway.systemd.unit import NAME

DAY_S: Final = 86_400.0
SOON_DAYS: Final = 30
EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""No clock that shows less is right."""
TIMESYNC: Final = "/run/systemd/timesync/synchronized"

_NTP: Final = (
    "sudo timedatectl set-ntp true",
    "timedatectl timesync-status    # says which server answers, if one does",
)


def tls(system: System, subject: Subject) -> Iterator[Finding]:
    """The certificates and keys by which gateway and clients know each other."""
    folder = subject.identity
    if not system.exists(folder):
        if subject.is_local:
            yield ok("no certificates, and none are needed: only this computer can connect")
        else:
            yield warning(
                f"{folder}: no certificates yet; they are made when the gateway first listens with TLS",
                f"sudo systemctl start {NAME}",
            )
        return
    try:
        names = sorted(path.name for path in system.path(folder).iterdir())
    except PermissionError:
        yield skipped(f"{folder} can be looked into by its owner only, as it should be", SUDO)
        return
    sound = True
    for name in names:
        path = f"{folder}/{name}"
        check = _key if name.endswith(".key") else _certificate if name.endswith((".pem", ".crt")) else None
        for finding in check(system, subject, path) if check else ():
            sound = False
            yield finding
    for name in names:
        if name.endswith((".pem", ".crt")) and f"{name.rpartition('.')[0]}.key" not in names:
            sound = False
            yield problem(
                f"{folder}/{name}: its key {name.rpartition('.')[0]}.key is missing",
                "# bring the file back from a backup; without it, clients have to be paired anew",
            )
    if sound:
        yield ok(f"{folder}: {len(names)} files, valid and well kept")


def _certificate(system: System, subject: Subject, path: str) -> Iterator[Finding]:
    if not system.may_use(subject.user, path, write=False):
        yield problem(f"{path}: the user {subject.user.name} can't read it", f"sudo chown {subject.user.name} {path}")
    try:
        found = validity(system.text(path) or "")
    except ValueError as reason:
        yield problem(f"{path}: no certificate: {reason}", "# bring the file back from a backup")
        return
    now = system.now()
    if now < found.not_before:
        yield problem(f"{path}: not valid before {_day(found.not_before)}, and the clock says {_day(now)}", *_NTP)
    elif now > found.not_after:
        yield problem(f"{path}: expired on {_day(found.not_after)}; the clock says {_day(now)}", *_renew(path))
    elif found.not_after - now < SOON_DAYS * DAY_S:
        yield warning(f"{path}: expires on {_day(found.not_after)}", *_renew(path))


def _key(system: System, subject: Subject, path: str) -> Iterator[Finding]:
    mode = system.path(path).stat().st_mode & 0o777
    if mode & 0o077:
        yield problem(f"{path}: others can read this secret (mode {mode:o})", f"sudo chmod 600 {path}")
    if not system.may_use(subject.user, path, write=False):
        yield problem(f"{path}: the user {subject.user.name} can't read it", f"sudo chown {subject.user.name} {path}")


def _renew(path: str) -> tuple[str, ...]:
    if path.endswith("/server.pem"):
        return (f"sudo rm {path} && sudo systemctl restart {NAME}    # a new one is made; clients notice nothing",)
    return ("# once it has been replaced, pair the clients anew: gateway pair",)


def clock(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether the time is right: certificates, logs and leases' histories depend on it."""
    now = system.now()
    if now < EARLIEST:
        yield problem(f"the clock says {_day(now)}, which is wrong: certificates will be refused", *_NTP)
        return
    if system.exists(TIMESYNC):
        yield ok("the clock is synchronised")
        return
    output = system.tool("timedatectl", "show", "--property=NTPSynchronized", "--value")
    answer = output.out.strip() if output is not None and output.code == 0 else ""
    if answer == "yes":
        yield ok("the clock is synchronised")
    elif answer == "no":
        yield warning(
            f"the clock is not synchronised; it says {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC", *_NTP
        )
    else:
        yield skipped("nobody here says whether the clock is synchronised", "sudo apt install systemd-timesyncd")


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
