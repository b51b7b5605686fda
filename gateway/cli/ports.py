"""`gateway ports`: what is plugged into this machine, under names that stay, and why it can't be opened if it can't."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from typing import Any

import usb.core

from gateway.channels.port_names import SerialPort, find_serial_ports
from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.systemd.udev import user_rule


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One USB device. `stable` is `VID:PID:SERIAL`, or `VID:PID@BUS-PORTS` for a device without a serial number."""

    stable: str
    vid_pid: str
    bus: int
    address: int
    manufacturer: str | None
    product: str | None
    serial_number: str | None
    accessible: bool


@subcommand("ports")
def command(screen: Screen) -> None:
    """List this machine's serial ports and USB devices, with names that survive a replug.

    Use the stable name as `port` in a config. A port that exists and can't be opened is noted with the fix.

    JSON: {"serial": [...], "usb": [...], "notes": [...]}.
    """
    serial_ports = find_serial_ports()
    devices, notes = find_usb_devices()
    notes = [*(_serial_fix(port) for port in serial_ports if not port.accessible), *notes]
    screen.document(
        {
            "serial": [asdict(port) for port in serial_ports],
            "usb": [asdict(device) for device in devices],
            "notes": notes,
        }
    )
    screen.table(
        ("serial port", "stable name", "vid:pid", "serial number", "description"),
        [(p.device, p.stable, p.vid_pid or "", p.serial_number or "", p.description) for p in serial_ports],
        empty="no serial port",
    )
    if devices:
        screen.line()
        screen.table(
            ("usb device", "bus", "manufacturer", "product"),
            [(d.stable, f"{d.bus}:{d.address}", d.manufacturer or "", d.product or "") for d in devices],
        )
    elif not notes:
        screen.line("no USB device", style="dim")
    if not screen.as_json:
        for note in notes:
            screen.note(note, style="yellow")


def find_usb_devices() -> tuple[list[UsbDevice], list[str]]:
    """The USB devices pyusb finds, and notes: no libusb here, or a device this user can't open."""
    try:
        found = list(usb.core.find(find_all=True) or ())
    except usb.core.NoBackendError:
        return [], ["USB devices are not listed: no libusb here; install it with: sudo apt install libusb-1.0-0"]
    except usb.core.USBError as problem:
        return [], [f"USB devices are not listed: {problem.strerror or problem}"]
    devices = [_usb_device(device) for device in found]
    return devices, [_usb_fix(device) for device in devices if not device.accessible]


def _usb_device(device: Any) -> UsbDevice:
    accessible = True
    texts: dict[str, str | None] = {}
    for name in ("manufacturer", "product", "serial_number"):
        try:
            texts[name] = getattr(device, name)
        except usb.core.USBError as problem:
            texts[name] = None
            accessible = accessible and problem.errno not in (errno.EACCES, errno.EPERM)
        except (NotImplementedError, ValueError):
            # pyusb raises ValueError for a device whose language table can't be read, which is how most systems
            # answer a user without the right to open it.
            texts[name] = None
            accessible = False
    vid_pid = f"{device.idVendor:04x}:{device.idProduct:04x}"
    ports = ".".join(str(port) for port in device.port_numbers or ())
    return UsbDevice(
        stable=f"{vid_pid}:{texts['serial_number']}" if texts["serial_number"] else f"{vid_pid}@{device.bus}-{ports}",
        vid_pid=vid_pid,
        bus=device.bus,
        address=device.address,
        accessible=accessible,
        **texts,
    )


def _serial_fix(port: SerialPort) -> str:
    try:
        import grp

        group = grp.getgrgid(os.stat(port.device).st_gid).gr_name
    except (ImportError, KeyError, OSError):
        return f"{port.device}: this user can't open it"
    return (
        f"{port.device}: this user can't open it; it belongs to the group {group}: "
        f"run `sudo usermod -aG {group} $USER` and log in again"
    )


def _usb_fix(device: UsbDevice) -> str:
    vid, pid = device.vid_pid.split(":")
    return (
        f"{device.stable}: this user can't open it; `sudo gateway udev {vid}:{pid}` puts this rule into place: "
        f"{user_rule(vid, pid)}"
    )
