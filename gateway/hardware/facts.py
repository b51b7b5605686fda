"""What is plugged in: ports and USB devices with the facts they can be told apart by, from sysfs.

    <root>/sys/class/tty/ttyUSB0/device -> .../usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0
                                                        |     |     bInterfaceNumber
                                                        |     idVendor, idProduct, serial, manufacturer, product
                                                        the location: bus 1, port 1 of it, port 2 of the hub there
    <root>/sys/class/usbmisc/usbtmc0/device -> .../1-1.3/1-1.3:1.0
    <root>/dev/serial/by-id, by-path: names that udev keeps, where there is one

Where there is no sysfs, pyserial tells what it can of the serial ports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from gateway.channels.port_names import SERIAL_LINKS, SerialPort, find_serial_ports, lasting_names

MAX_FACT: Final = 256
"""Characters of a text that a USB device tells about itself."""
MAX_DEPTH: Final = 32
"""Folders between a port and the root of sysfs."""
USB_HUB: Final = "09"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One thing that is plugged in. What is not known is None or empty."""

    port: str
    """What a driver opens: `/dev/ttyUSB0`, `/dev/usbtmc0`; of another USB device its node `/dev/bus/usb/001/004`."""
    kind: Literal["serial", "usbtmc", "usb"] = "serial"
    names: tuple[str, ...] = ()
    """Other paths that lead to `port`, the most lasting first."""
    vid_pid: str | None = None
    """`0403:6001`, in small letters."""
    serial_number: str | None = None
    location: str | None = None
    """`1-1.2`: the USB bus, and the ports from its root to the device."""
    interface: int | None = None
    """The number of its interface in the USB device."""
    manufacturer: str = ""
    product: str = ""
    incarnation: tuple[int, ...] = ()
    """Differs where a port of the same name was made anew. For comparing only."""

    @property
    def stable(self) -> str:
        """The path to open: one that can't come to mean another thing, as far as there is one.

        By id where the id has a serial number in it, else by place; the bare port where no such name is kept.
        """
        by_id = [name for name in self.names if "/by-id/" in name]
        others = [name for name in self.names if "/by-id/" not in name]
        best = [*by_id, *others] if self.serial_number else [*others, *by_id]
        return best[0] if best else self.port

    def __str__(self) -> str:
        facts = [
            self.vid_pid,
            self.serial_number and f"serial number {self.serial_number}",
            self.location and f"at {self.location}",
            self.interface and f"interface {self.interface}",
        ]
        shown = ", ".join(str(fact) for fact in facts if fact)
        return f"{self.port} ({shown})" if shown else self.port


def find_hardware(
    root: str | os.PathLike[str] = "/", paths: Iterable[str] = (), *, without_port: bool = False
) -> list[Hardware]:
    """The ports that are there, sorted by name; with `without_port` also the USB devices that have none.

    `paths` are further ports to look for, such as those a config names: one that is there is in the list too, by the
    port it leads to, with the path among its names. `root` is where `sys` and `dev` are. Reads files, opens no port.
    """
    base = Path(root)
    found = {each.port: each for each in (*_ports(base), *(_other_usb(base) if without_port else ()))}
    for path in paths:
        if not os.path.exists(path):
            continue
        port = os.path.realpath(path)
        known = found.get(port) or Hardware(port=port)
        if path != port and path not in known.names:
            known = replace(known, names=(*known.names, path))
        found[port] = replace(known, incarnation=_incarnation(port))
    return [found[port] for port in sorted(found, key=_by_number)]


def _by_number(port: str) -> list[tuple[int, str]]:
    """ttyUSB9 before ttyUSB10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", port)]


def _ports(root: Path) -> Iterator[Hardware]:
    if not (root / "sys/class/tty").is_dir():
        yield from map(_from_pyserial, find_serial_ports())
        return
    names = lasting_names(root / str(folder).lstrip("/") for folder in SERIAL_LINKS)
    for kind, entry in _port_entries(root):
        port = str(root / "dev" / entry.name.replace("!", "/"))
        if os.path.exists(port):  # of one that is being taken away the node goes first
            hardware = _with_usb(Hardware(port=port, kind=kind), entry / "device", root)
            yield replace(hardware, names=names.get(os.path.realpath(port), ()), incarnation=_incarnation(port))


def _port_entries(root: Path) -> Iterator[tuple[Literal["serial", "usbtmc"], Path]]:
    # Texts and no Path objects: most machines have seventy virtual terminals here, and this is done again and again.
    tty, usbmisc = os.path.join(root, "sys/class/tty"), os.path.join(root, "sys/class/usbmisc")
    for name in _names(tty):
        # Type 0: a place for a UART, and none is there.
        if os.path.exists(f"{tty}/{name}/device") and _read(Path(tty, name, "type")) != "0":
            yield "serial", Path(tty, name)
    for name in _names(usbmisc):
        if name.startswith("usbtmc") and os.path.exists(f"{usbmisc}/{name}/device"):
            yield "usbtmc", Path(usbmisc, name)


def _other_usb(root: Path) -> Iterator[Hardware]:
    with_port = {_with_usb(Hardware(port=""), entry / "device", root).location for _, entry in _port_entries(root)}
    for name in _names(root / "sys/bus/usb/devices"):
        entry = root / "sys/bus/usb/devices" / name
        if ":" in entry.name or entry.name in with_port or _read(entry / "bDeviceClass") == USB_HUB:
            continue
        bus, number = _read(entry / "busnum"), _read(entry / "devnum")
        if bus.isdigit() and number.isdigit():
            port = str(root / f"dev/bus/usb/{int(bus):03}/{int(number):03}")
            hardware = _with_usb(Hardware(port=port, kind="usb"), entry, root)
            if hardware.vid_pid is not None:
                yield hardware


def _with_usb(hardware: Hardware, device: Path, root: Path) -> Hardware:
    """`hardware` with the facts of the USB device that `device` is or lies in, if it does."""
    top = os.path.realpath(root / "sys")
    folder = Path(os.path.realpath(device))
    interface: int | None = None
    for _ in range(MAX_DEPTH):
        if str(folder) == top or folder == folder.parent:
            break
        number = _read(folder / "bInterfaceNumber")
        if number:
            interface = _hex(number)
        vid, pid = _hex(_read(folder / "idVendor")), _hex(_read(folder / "idProduct"))
        if vid is not None and pid is not None:
            return replace(
                hardware,
                vid_pid=f"{vid:04x}:{pid:04x}",
                serial_number=_read(folder / "serial") or None,
                location=folder.name,
                interface=interface,
                manufacturer=_read(folder / "manufacturer"),
                product=_read(folder / "product"),
            )
        folder = folder.parent
    return hardware


def _from_pyserial(port: SerialPort) -> Hardware:
    return Hardware(
        port=port.device,
        names=(port.stable,) if port.stable != port.device else (),
        vid_pid=port.vid_pid,
        serial_number=port.serial_number,
        product=port.description,
        incarnation=_incarnation(port.device),
    )


def _names(folder: str | Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _read(path: Path) -> str:
    """A line of a file in sysfs; empty where it can't be read. What a USB device says of itself may be anything."""
    try:
        with open(path, "rb") as file:
            text = file.read(4 * MAX_FACT).decode("utf-8", "replace")
    except OSError:
        return ""
    return "".join(char for char in text.strip() if char.isprintable())[:MAX_FACT]


def _hex(text: str) -> int | None:
    try:
        return int(text, 16) if len(text) <= 4 else None
    except ValueError:
        return None


def _incarnation(port: str) -> tuple[int, ...]:
    try:
        status = os.stat(port)
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_rdev)
