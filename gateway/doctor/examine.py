"""The table of checks, in the order in which a call goes through the machine, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.doctor.board import memory, power
from gateway.doctor.configuration import config
from gateway.doctor.findings import Finding, skipped
from gateway.doctor.firewall import firewall
from gateway.doctor.grabbers import brltty, modem_manager
from gateway.doctor.installed_service import service
from gateway.doctor.interpreter import package, python
from gateway.doctor.listening import listen
from gateway.doctor.mdns import avahi, mdns
from gateway.doctor.serial_ports import ports
from gateway.doctor.storage import card, disk
from gateway.doctor.subject import Subject
from gateway.doctor.system import SUDO, System
from gateway.doctor.trust import clock, tls
from gateway.doctor.usb import usb_permission, usbtmc

Check = Callable[[System, Subject], Iterable[Finding]]

CHECKS: Final[dict[str, Check]] = {
    "python": python,
    "package": package,
    "config": config,
    "service": service,
    "ports": ports,
    "modem-manager": modem_manager,
    "brltty": brltty,
    "usbtmc": usbtmc,
    "usb-permission": usb_permission,
    "listen": listen,
    "firewall": firewall,
    "mdns": mdns,
    "avahi": avahi,
    "tls": tls,
    "clock": clock,
    "power": power,
    "disk": disk,
    "card": card,
    "memory": memory,
}
"""Name -> check. Names are stable: scripts read them in the JSON."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A finding, and the check that gave it."""

    check: str
    finding: Finding


def examine(system: System, subject: Subject, names: Iterable[str] | None = None) -> Iterator[Examined]:
    """Run the checks of these names, by default all; each finding as soon as it is there."""
    for name in CHECKS if names is None else names:
        try:
            for finding in CHECKS[name](system, subject):
                yield Examined(name, finding)
        except OSError as reason:
            # What can't be looked at must not hide what the other checks find.
            where = f"{reason.filename}: " if reason.filename else ""
            fix = (SUDO,) if isinstance(reason, PermissionError) and system.uid != 0 else ()
            yield Examined(name, skipped(f"could not look: {where}{reason.strerror or reason}", *fix))
