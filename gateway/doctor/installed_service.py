"""The service, where it is installed: its user, its command, and whether it runs."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.subject import Subject
from gateway.doctor.system import System
from gateway.systemd.install import UNIT_FILE, WANTED_BY
from gateway.systemd.unit import NAME, SERVICE, setting

_INSTALL = "sudo gateway service install"


def service(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether it starts at boot, and is up now."""
    unit = system.text(UNIT_FILE)
    if unit is None:
        yield ok("not installed as a service; `sudo gateway service install` does that")
        return
    sound = True
    command = setting(unit, "ExecStart").rsplit(" serve ", 1)[0].strip('"').replace("%%", "%")
    if not system.exists(command):
        sound = False
        yield problem(f"the service runs {command}, which is not there", _INSTALL)
    accounts = system.accounts()
    if NAME not in accounts.users:
        sound = False
        yield problem(f"the service's user {NAME} does not exist", _INSTALL)
    missing = [group for group in setting(unit, "SupplementaryGroups").split() if group not in accounts.groups]
    if missing:
        sound = False
        yield problem(f"the service can't start: it names groups that do not exist: {', '.join(missing)}", _INSTALL)
    if not system.path(WANTED_BY).is_symlink():
        sound = False
        yield warning("the service does not start at boot", f"sudo systemctl enable {NAME}")
    output = system.tool("systemctl", "is-active", SERVICE)
    state = output.out.strip() if output is not None else ""
    if state in ("failed", "inactive", "activating"):
        sound = False
        yield problem(f"the service is {state}", f"journalctl -u {NAME} -e    # why", f"sudo systemctl restart {NAME}")
    if sound:
        yield ok(f"the service is installed{f' and {state}' if state else ''}")
