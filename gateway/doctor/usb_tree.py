"""The USB devices of the machine, read from /sys: no libusb and no right to open them is needed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.doctor.subject import Place
from gateway.doctor.system import System

DEVICES: Final = "/sys/bus/usb/devices"
TTYS: Final = "/sys/class/tty"
MAX_DEPTH: Final = 12

_DEVICE: Final = re.compile(r"\d+-[\d.]+")


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of a USB device."""

    name: str
    """Such as `1-1.2:1.0`."""
    kind: str
    """Class and subclass in hex: `fe03` is USB-TMC."""
    driver: str
    """The kernel's driver that holds it; empty if none does."""


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One USB device."""

    name: str
    """Where it is plugged in, such as `1-1.2`."""
    vid: str
    pid: str
    serial_number: str
    product: str
    node: str
    """What libusb opens, such as `/dev/bus/usb/001/004`."""
    interfaces: tuple[Interface, ...]

    def __str__(self) -> str:
        return f"{self.product or 'USB device'} {self.vid}:{self.pid} at {self.name}"

    @property
    def is_instrument(self) -> bool:
        """Whether it speaks USB-TMC."""
        return any(interface.kind == "fe03" for interface in self.interfaces)

    def is_meant_by(self, place: Place) -> bool:
        """Whether `place` names it by what it is."""
        if not (place.vid_pid or place.serial_number):
            return False
        return place.vid_pid in ("", f"{self.vid}:{self.pid}") and place.serial_number in ("", self.serial_number)


def usb_devices(system: System) -> list[UsbDevice]:
    """All but the hubs at the root."""
    names = system.names(DEVICES)
    return [_device(system, name, names) for name in names if _DEVICE.fullmatch(name)]


def ports_of(system: System, place: Place) -> list[str]:
    """The paths that `place` leads to now: its own path, or the serial ports of the USB devices it means."""
    if place.path:
        return [place.path] if system.exists(place.path) else []
    found = []
    for tty in system.names(TTYS):
        folder = usb_folder(system, tty)
        if folder is not None and _device_at(folder).is_meant_by(place):
            found.append(f"/dev/{tty}")
    return found


def usb_folder(system: System, tty: str) -> Path | None:
    """The folder under /sys of the USB device that a serial port belongs to; None if it is on no USB."""
    path = Path(os.path.realpath(system.path(f"{TTYS}/{tty}/device")))
    for folder in [path, *path.parents][:MAX_DEPTH]:
        if (folder / "idVendor").exists():
            return folder
    return None


def _device_at(folder: Path) -> UsbDevice:
    vid, pid, serial_number = (_word(folder / name) for name in ("idVendor", "idProduct", "serial"))
    return UsbDevice(folder.name, vid, pid, serial_number, "", "", ())


def _device(system: System, name: str, names: list[str]) -> UsbDevice:
    def fact(key: str) -> str:
        return system.word(f"{DEVICES}/{name}/{key}")

    bus, number = fact("busnum"), fact("devnum")
    node = f"/dev/bus/usb/{bus.zfill(3)}/{number.zfill(3)}" if bus and number else ""
    inside = [each for each in names if each.startswith(f"{name}:")]
    # Interfaces are listed beside their device; also look inside it.
    inside += [each for each in system.names(f"{DEVICES}/{name}") if each.startswith(f"{name}:") and each not in inside]
    return UsbDevice(
        name,
        fact("idVendor"),
        fact("idProduct"),
        fact("serial"),
        fact("product"),
        node,
        tuple(_interface(system, name, each) for each in inside),
    )


def _interface(system: System, device: str, name: str) -> Interface:
    folder = f"{DEVICES}/{name}" if system.exists(f"{DEVICES}/{name}") else f"{DEVICES}/{device}/{name}"
    kind = system.word(f"{folder}/bInterfaceClass") + system.word(f"{folder}/bInterfaceSubClass")
    link = system.path(f"{folder}/driver")
    return Interface(name, kind, os.path.basename(os.readlink(link)) if link.is_symlink() else "")


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200].strip()
    except OSError:
        return ""
