"""`gateway ports`: stable names, and the fix where a port can't be opened."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import usb.core
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from gateway.cli import ports


@pytest.fixture
def tty() -> Iterator[str]:
    leader, follower = pty.openpty()
    yield os.ttyname(follower)
    os.close(leader)
    os.close(follower)


def port_info(device: str) -> ListPortInfo:
    info = ListPortInfo(device)
    info.vid, info.pid, info.serial_number, info.description = 0x0403, 0x6001, "A1", "FT232R"
    return info


def test_a_port_is_named_by_the_link_that_survives_a_replug(
    tty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("by-id", "usb-FTDI_A1-if00"), ("by-path", "pci-0000:00")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).symlink_to(tty)
    monkeypatch.setattr(list_ports, "comports", lambda: [port_info(tty)])
    (port,) = ports.find_serial_ports([tmp_path / "by-id", tmp_path / "by-path", tmp_path / "missing"])
    assert port.stable == str(tmp_path / "by-id" / "usb-FTDI_A1-if00")
    assert (port.device, port.vid_pid, port.serial_number, port.accessible) == (tty, "0403:6001", "A1", True)


def test_a_port_without_a_link_keeps_its_device_name(tty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [port_info(tty)])
    (port,) = ports.find_serial_ports([tmp_path])
    assert port.stable == tty


def test_a_missing_libusb_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_backend(**_: Any) -> None:
        raise usb.core.NoBackendError("No backend available")

    monkeypatch.setattr(usb.core, "find", no_backend)
    devices, notes = ports.find_usb_devices()
    assert devices == []
    assert notes == ["USB devices are not listed: no libusb here; install it with: sudo apt install libusb-1.0-0"]


class UnreadableDevice(SimpleNamespace):
    """Answers as pyusb does for a device whose strings this user may not read."""

    @property
    def manufacturer(self) -> str:
        raise ValueError("The device has no langid (permission issue, no string descriptors supported or device error)")

    product = serial_number = manufacturer


def test_a_usb_device_is_named_by_its_serial_number_or_else_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"idVendor": 0x16C0, "idProduct": 0x05DC, "bus": 1, "address": 7, "port_numbers": (2, 3)}
    named = SimpleNamespace(**place, manufacturer="acme", product="scope", serial_number="S1")
    monkeypatch.setattr(usb.core, "find", lambda **_: iter([named, UnreadableDevice(**place)]))
    devices, notes = ports.find_usb_devices()
    assert [device.stable for device in devices] == ["16c0:05dc:S1", "16c0:05dc@1-2.3"]
    assert [device.accessible for device in devices] == [True, False]
    (note,) = notes
    assert 'ATTR{idVendor}=="16c0", ATTR{idProduct}=="05dc"' in note


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_command_itself(flags: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "ports", *flags], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    if flags:
        assert json.loads(done.stdout).keys() == {"serial", "usb", "notes"}
    else:
        assert "serial port" in done.stdout
