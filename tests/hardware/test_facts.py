"""What sysfs tells of the things that are plugged in."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.hardware import Hardware, find_hardware
from tests.hardware.machine import Machine


def test_a_port_has_the_facts_of_its_usb_device(machine: Machine) -> None:
    port = machine.tty("ttyUSB0", "1-1.2", "0403:6001", "FT8X2Q", interface=1, by_id="usb-FT", by_path="pci-0")
    (found,) = find_hardware(machine.root)
    assert (found.port, found.kind, found.vid_pid, found.serial_number) == (port, "serial", "0403:6001", "FT8X2Q")
    assert (found.location, found.interface, found.manufacturer) == ("1-1.2", 1, "acme")
    assert [os.path.basename(name) for name in found.names] == ["usb-FT", "pci-0"]
    assert str(found) == f"{port} (0403:6001, serial number FT8X2Q, at 1-1.2, interface 1)"


def test_ports_of_the_board_are_listed_and_those_without_a_chip_are_not(machine: Machine) -> None:
    machine.uart("ttyS0", kind=0)
    port = machine.uart("ttyAMA0", kind=32)
    (found,) = find_hardware(machine.root)
    assert (found.port, found.vid_pid, found.location) == (port, None, None)


def test_ports_are_sorted_as_people_count(machine: Machine) -> None:
    ports = [machine.tty(f"ttyUSB{number}", f"1-{number}") for number in (10, 9, 1)]
    assert [each.port for each in find_hardware(machine.root)] == ports[::-1]


def test_usbtmc_and_other_usb_devices_are_listed_and_hubs_are_not(machine: Machine) -> None:
    tmc = machine.usbtmc("usbtmc0", "1-1.3", serial="MY1")
    machine.usb("1-1", device_class="09")
    machine.usb("1-2", "0483:df11", "DFU", product="Bootloader\x1b[2J")
    node = machine.root / "dev/bus/usb/001/003"
    found = {each.kind: each for each in find_hardware(machine.root, without_port=True)}
    assert found.keys() == {"usbtmc", "usb"}
    assert (found["usbtmc"].port, found["usbtmc"].serial_number) == (tmc, "MY1")
    assert (found["usb"].port, found["usb"].product) == (str(node), "Bootloader[2J")
    assert [each.kind for each in find_hardware(machine.root)] == ["usbtmc"]


def test_a_port_whose_node_is_gone_already_is_not_there(machine: Machine) -> None:
    os.unlink(machine.tty("ttyUSB0"))
    assert find_hardware(machine.root, without_port=True) == []


def test_a_port_that_was_made_anew_is_another_incarnation(machine: Machine, tmp_path: Path) -> None:
    path = Path(machine.tty("ttyUSB0"))
    (before,) = find_hardware(machine.root)
    path.rename(tmp_path / "kept")  # so that its inode is not used again
    path.touch()
    (after,) = find_hardware(machine.root)
    assert before.incarnation != after.incarnation


def test_a_path_of_the_config_is_found_by_the_port_it_leads_to(machine: Machine, tmp_path: Path) -> None:
    port = machine.tty("ttyUSB0", serial="A")
    link, other = tmp_path / "psu", tmp_path / "own"
    link.symlink_to(port)
    other.touch()
    found = {each.port: each for each in find_hardware(machine.root, [str(link), str(other), "/nowhere"])}
    assert found.keys() == {port, str(other)}
    assert (found[port].names, found[port].serial_number) == ((str(link),), "A")
    assert found[str(other)].names == ()


def test_the_stable_path_is_by_id_only_if_a_serial_number_is_in_it() -> None:
    names = ("/dev/serial/by-id/usb-x", "/dev/serial/by-path/pci-0")
    assert Hardware(port="/dev/ttyUSB0", names=names, serial_number="A").stable == names[0]
    assert Hardware(port="/dev/ttyUSB0", names=names).stable == names[1]
    assert Hardware(port="/dev/ttyUSB0").stable == "/dev/ttyUSB0"


def test_what_a_usb_device_says_is_bounded_and_damage_does_no_harm(machine: Machine) -> None:
    machine.tty("ttyUSB0", "1-1", serial="x" * 5000)
    machine.tty("ttyUSB1", "1-2")
    (machine.root / "sys/devices/usb1/1-2/idVendor").write_bytes(b"\xff\xfe")
    first, second = find_hardware(machine.root)
    assert len(first.serial_number or "") == 256
    assert (second.vid_pid, second.location) == (None, None)


def test_this_machine_can_be_looked_at() -> None:
    assert all(os.path.exists(each.port) for each in find_hardware() if each.kind != "usb")
