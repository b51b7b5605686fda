"""The serial ports of this machine, and which of them is meant: by a USB serial number, vendor and product.

`ttyACM0` is whichever device came first; after a replug the same one may be `ttyACM1`. Its serial number stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serial.tools import list_ports

from gateway.errors import Ambiguous, Unreachable

SERIAL_LINKS: Final = (Path("/dev/serial/by-id"), Path("/dev/serial/by-path"))
"""Where udev keeps names that outlive a replug, best first."""
MOST_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class SerialPort:
    """One serial port. `stable` is what a config should say; it is `device` where udev has no better name."""

    device: str
    stable: str
    description: str
    vid_pid: str | None
    serial_number: str | None
    accessible: bool

    def __str__(self) -> str:
        facts = [self.vid_pid, self.serial_number and f"serial_number={self.serial_number}"]
        shown = ", ".join(fact for fact in facts if fact)
        return f"{self.stable} ({shown})" if shown else self.stable


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which port is meant: what is None or empty may be anything."""

    serial_number: str = ""
    vid: int | None = None
    pid: int | None = None

    def __bool__(self) -> bool:
        return bool(self.serial_number) or self.vid is not None or self.pid is not None

    def __str__(self) -> str:
        facts = [self.serial_number and f"serial number {self.serial_number}"]
        facts += [f"{name} {value:04x}" for name, value in (("vid", self.vid), ("pid", self.pid)) if value is not None]
        return ", ".join(fact for fact in facts if fact)

    def is_met_by(self, port: SerialPort) -> bool:
        vid, pid = ((int(part, 16)) for part in port.vid_pid.split(":")) if port.vid_pid else (None, None)
        return self.serial_number in ("", port.serial_number) and self.vid in (None, vid) and self.pid in (None, pid)


def find_serial_ports(links: Iterable[Path] = SERIAL_LINKS) -> list[SerialPort]:
    """The serial ports pyserial finds, each with the first name under `links` that leads to it."""
    names = lasting_names(links)
    return [
        SerialPort(
            device=port.device,
            stable=names.get(os.path.realpath(port.device), (port.device,))[0],
            description="" if port.description in (None, "n/a") else port.description,
            vid_pid=None if port.vid is None else f"{port.vid:04x}:{port.pid:04x}",
            serial_number=port.serial_number,
            accessible=os.access(port.device, os.R_OK | os.W_OK),
        )
        for port in sorted(list_ports.comports())
    ]


def lasting_names(links: Iterable[Path] = SERIAL_LINKS) -> dict[str, tuple[str, ...]]:
    """The names under `links` that lead to each device, in the order of the folders."""
    names: dict[str, tuple[str, ...]] = {}
    for folder in links:
        for link in sorted(folder.iterdir()) if folder.is_dir() else ():
            device = os.path.realpath(link)
            names[device] = (*names.get(device, ()), str(link))
    return names


def find_port(wanted: Wanted) -> str:
    """The device of the one port that is meant. Raises Unreachable if none is there, Ambiguous if there are several;
    both list what is there.
    """
    ports = find_serial_ports()
    found = [port for port in ports if wanted.is_met_by(port)]
    if len(found) == 1:
        return found[0].device
    if found:
        advice = "name one by its path, or add serial_number, vid or pid"
        raise Ambiguous(f"{len(found)} serial ports have {wanted}: {_listed(found)}; {advice}")
    raise Unreachable(f"no serial port has {wanted}; is it plugged in? There is: {_listed(ports)}")


def _listed(ports: list[SerialPort]) -> str:
    shown = "; ".join(str(port) for port in ports[:MOST_SHOWN])
    more = f"; and {len(ports) - MOST_SHOWN} more" if len(ports) > MOST_SHOWN else ""
    return f"{shown}{more}" if ports else "no serial port at all"
