"""The ports that a config names: there, open to the right user, and held by nobody else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.processes import holders_of_device
from gateway.doctor.subject import Place, Subject
from gateway.doctor.system import System
from gateway.doctor.usb_tree import ports_of
from gateway.systemd.unit import GROUPS, NAME

STABLE: Final = ("/dev/serial/by-id", "/dev/serial/by-path")
MAX_SHOWN: Final = 6

_COUNTED: Final = re.compile(r"/dev/tty(USB|ACM)\d+")
_CONSOLE: Final = re.compile(r"\bconsole=(\w+)")
_ALIASES: Final = ("/dev/serial0", "/dev/serial1")


def ports(system: System, subject: Subject) -> Iterator[Finding]:
    """Each port of the config, one after the other."""
    if not subject.places:
        yield ok("the config names no serial ports" if not subject.trouble else "no ports to look at without a config")
    for place in subject.places:
        yield from _port(system, subject, place)


def _port(system: System, subject: Subject, place: Place) -> Iterator[Finding]:
    found = ports_of(system, place)
    if not found:
        yield problem(
            f"{place}: not there; {_what_is_there(system)}",
            "# plug it in and switch it on; `sudo dmesg | tail` says what the kernel saw",
            "gateway ports    # the names to write into the config",
        )
        return
    if len(found) > 1:
        yield problem(
            f"{place}: {len(found)} ports are meant: {', '.join(found)}",
            "# name one by its path, or by a serial number of its own: gateway ports",
        )
        return
    path = found[0]
    sound = True
    for check in (_access, _held, _console, _name):
        for finding in check(system, subject, place, path):
            sound = False
            yield finding
    if sound:
        yield ok(f"{place}: {subject.user.name} can open it, and nobody else has")


def _access(system: System, subject: Subject, place: Place, path: str) -> Iterator[Finding]:
    user = subject.user
    if system.may_use(user, path):
        return
    found = system.path(path).stat()
    group = system.accounts().group_name(found.st_gid)
    mode = f"{found.st_mode & 0o777:o}"
    what = f"{place}: the user {user.name} can't open {path}, which belongs to the group {group} (mode {mode})"
    if not found.st_mode & 0o060:
        yield problem(
            f"{what}, and the group may not either", f"sudo chmod 660 {path}    # until it is plugged in again"
        )
    elif subject.is_service and group in GROUPS:
        yield problem(
            what, f"sudo gateway service install && sudo systemctl restart {NAME}    # takes the group into the unit"
        )
    elif subject.is_service:
        yield problem(what, f"sudo usermod -aG {group} {user.name} && sudo systemctl restart {NAME}")
    else:
        yield problem(what, f"sudo usermod -aG {group} {user.name}    # then log in again")


def _held(system: System, subject: Subject, place: Place, path: str) -> Iterator[Finding]:
    holders = holders_of_device(system, path)
    for process in holders.found:
        if not process.is_gateway:
            yield problem(f"{place}: {process} has it open", process.stop)
    if len(holders.found) > 1 and all(process.is_gateway for process in holders.found):
        yield problem(f"{place}: several gateways have it open: {holders.named}", *holders.fixes)


def _console(system: System, subject: Subject, place: Place, path: str) -> Iterator[Finding]:
    consoles = {f"/dev/{name}" for name in _CONSOLE.findall(system.word("/proc/cmdline"))}
    # serial0 is what Raspberry Pi OS calls the port on the pins.
    names = {path, *(alias for alias in _ALIASES if _same(system, alias, path))}
    if consoles & names:
        yield problem(
            f"{place}: the kernel writes its console to it",
            "sudo raspi-config nonint do_serial_cons 1 && sudo reboot",
            "# elsewhere: take console=... for this port out of the kernel's command line",
        )


def _name(system: System, subject: Subject, place: Place, path: str) -> Iterator[Finding]:
    if not place.path or not _COUNTED.fullmatch(place.path):
        return
    better = next(
        (
            f"{folder}/{name}"
            for folder in STABLE
            for name in system.names(folder)
            if _same(system, f"{folder}/{name}", path)
        ),
        None,
    )
    what = f"{place}: the name depends on what is plugged in first"
    yield warning(what, f'# in the config: port = "{better}"' if better else "gateway ports    # shows lasting names")


def _same(system: System, one: str, other: str) -> bool:
    return system.exists(one) and os.path.samefile(system.path(one), system.path(other))


def _what_is_there(system: System) -> str:
    names = [f"{STABLE[0]}/{name}" for name in system.names(STABLE[0])]
    names = names or [f"/dev/{name}" for name in system.names("/dev") if re.fullmatch(r"tty(USB|ACM|AMA)\d+", name)]
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"there is {', '.join(names[:MAX_SHOWN])}{more}" if names else "there is no serial port at all"
