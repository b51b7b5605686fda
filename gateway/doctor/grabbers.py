"""Programs that open every serial port they see: ModemManager and brltty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.processes import holders_of_device, named
from gateway.doctor.subject import Subject
from gateway.doctor.system import System
from gateway.doctor.usb_tree import ports_of, usb_devices
from gateway.systemd.udev import ADAPTERS, RULES_FILE

BRLTTY_RULES: Final = (
    "/usr/lib/udev/rules.d/85-brltty.rules",
    "/usr/lib/udev/rules.d/90-brltty-device.rules",
    "/usr/lib/udev/rules.d/90-brltty-usb-generic.rules",
    "/etc/udev/rules.d/85-brltty.rules",
)
IGNORE: Final = "ID_MM_DEVICE_IGNORE"

_PRODUCT: Final = re.compile(r'^[^#\n]*PRODUCT\}?=="([0-9a-f]{1,4})/([0-9a-f]{1,4})/', re.MULTILINE)
_NO_MODEM: Final = "sudo systemctl disable --now ModemManager    # if this computer has no modem"


def modem_manager(system: System, subject: Subject) -> Iterator[Finding]:
    """ModemManager sends AT commands to new serial ports, unless a udev rule tells it not to."""
    running = named(system, "ModemManager")
    if not running:
        yield ok("ModemManager does not run")
        return
    grabbed = [place for place in subject.places if _is_held_by(system, ports_of(system, place), "ModemManager")]
    if grabbed:
        yield problem(
            f"ModemManager has {', '.join(map(str, grabbed))} open",
            _NO_MODEM,
            "sudo gateway service install    # writes udev rules against it",
        )
    elif IGNORE in system.word(RULES_FILE):
        yield ok(f"ModemManager runs, and {RULES_FILE} keeps it from adapters and instruments")
    else:
        yield warning(
            "ModemManager runs, and sends AT commands to serial ports when they are plugged in",
            _NO_MODEM,
            "sudo gateway service install    # writes udev rules against it",
        )


def brltty(system: System, subject: Subject) -> Iterator[Finding]:
    """brltty takes serial adapters for Braille displays; the port then vanishes a second after it came."""
    claimed = _claimed(system)
    for process in named(system, "brltty"):
        adapters = [device for device in usb_devices(system) if device.vid in ADAPTERS]
        if adapters or any(ports_of(system, place) for place in subject.places):
            yield problem(
                f"{process} runs, and takes serial adapters for Braille displays",
                process.stop if process.unit else "sudo systemctl mask --now brltty brltty-udev",
                "sudo apt remove brltty    # if nobody here uses a Braille display",
            )
            return
    victims = [device for device in usb_devices(system) if (device.vid, device.pid) in claimed]
    if victims:
        yield problem(
            f"brltty's udev rules take {', '.join(map(str, victims))} for a Braille display",
            "sudo systemctl mask --now brltty brltty-udev && sudo ln -s /dev/null /etc/udev/rules.d/85-brltty.rules",
            "sudo apt remove brltty    # if nobody here uses a Braille display",
        )
    else:
        yield ok("brltty takes no serial adapter of this computer")


def _is_held_by(system: System, paths: list[str], name: str) -> bool:
    return any(process.name == name for path in paths for process in holders_of_device(system, path).found)


def _claimed(system: System) -> set[tuple[str, str]]:
    """Vendor and product of what brltty's rules catch."""
    texts = [system.word(path) for path in BRLTTY_RULES]
    return {(vid.zfill(4), pid.zfill(4)) for text in texts for vid, pid in _PRODUCT.findall(text)}
