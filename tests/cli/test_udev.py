"""`gateway udev`, and `gateway host --usb` where this machine can be no USB device."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

RULE = (
    'SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ATTR{idVendor}=="1209", ATTR{idProduct}=="00ab", '
    'GROUP="plugdev", MODE="0660", TAG+="uaccess"'
)


def test_the_rule_is_printed_and_nothing_written(command: Any, tmp_path: Path) -> None:
    file = tmp_path / "70.rules"
    done = command("udev", "1209:00AB", "--print", "--file", str(file))
    assert (done.returncode, done.stdout) == (0, f"{RULE}\n")
    assert not file.exists()


def test_the_rule_is_added_once_and_the_others_stay(command: Any, tmp_path: Path) -> None:
    file = tmp_path / "rules.d" / "70.rules"
    file.parent.mkdir()
    file.write_text("# mine")
    done = command("udev", "1209:00ab", "--file", str(file), "--json")
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert (said["rule"], said["file"], said["changed"]) == (RULE, str(file), True)
    assert file.read_text() == f"# mine\n{RULE}\n"
    assert file.stat().st_mode & 0o777 == 0o644
    again = command("udev", "1209:00ab", "--file", str(file), "--json")
    assert json.loads(again.stdout)["changed"] is False
    assert file.read_text() == f"# mine\n{RULE}\n"
    assert sorted(os.listdir(file.parent)) == ["70.rules"]


@pytest.mark.parametrize("device", ["1209", "1209:1", "1209:00gg", "usb://1209:0001", ""])
def test_what_is_no_device_is_refused(command: Any, device: str) -> None:
    done = command("udev", device)
    assert done.returncode == 2
    assert "is no VID:PID: four hexadecimal digits each" in done.stderr


def test_a_file_that_can_not_be_written_is_told(command: Any, tmp_path: Path) -> None:
    done = command("udev", "1209:0001", "--file", str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


def test_a_host_serves_a_line_or_usb(command: Any, tmp_path: Path) -> None:
    config = tmp_path / "host.toml"
    config.write_text('[gateway]\nname = "host"\n')
    for options in ((), ("--serial", "serial:///dev/x", "--usb")):
        done = command("host", *options, "--config", str(config))
        assert done.returncode == 2
        assert "give --serial URL or --usb, one of them" in done.stderr
    done = command("host", "--usb=gadget://12", "--config", str(config))
    assert done.returncode == 2
    assert "after gadget:// comes VID:PID" in done.stderr


@pytest.mark.skipif(any(Path("/sys/class/udc").glob("*")), reason="this machine can be a USB device")
def test_a_machine_that_can_be_no_usb_device_says_what_to_do(command: Any, tmp_path: Path) -> None:
    config = tmp_path / "host.toml"
    config.write_text('[devices.psu1]\ndriver = "scpi-power-supply"\nport = "/dev/nothing"\n')
    done = command("host", "--usb", "--config", str(config))
    assert done.returncode == 2
    assert "no port that can be a USB device" in done.stderr
    assert "dtoverlay=dwc2" in done.stderr
