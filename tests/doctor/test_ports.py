"""Serial ports and USB devices: each fault made for real, with real lines and real processes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.doctor import Verdict
from gateway.doctor.subject import Place
from gateway.systemd.accounts import User
from gateway.systemd.udev import RULES_FILE, rules

Holder = Callable[..., int]
PSU = Place("psu1", "/dev/serial/by-id/usb-FTDI_A1")


@pytest.fixture
def psu(machine: Any, line: str) -> Any:
    """A machine with psu1 at a real line, which `pi` may open, being in the group of the line."""
    machine.with_real_processes()
    machine.tty("ttyUSB0", line, usb="1-1.2")
    machine.usb("1-1.2", "0403", "6001", serial_number="A1")
    machine.link("/dev/serial/by-id/usb-FTDI_A1", "../../ttyUSB0")
    os.chmod(line, 0o660)
    group = os.stat(line).st_gid
    machine.wants(PSU, user=User("pi", 1000, frozenset({group})))
    return machine


def test_a_port_that_is_there_free_and_open_to_the_user_is_well(psu: Any) -> None:
    psu.is_well("ports")


def test_a_port_that_is_missing_is_told_with_those_that_are_there(psu: Any) -> None:
    psu.wants(Place("dmm1", "/dev/serial/by-id/usb-Gone"))
    finding = psu.one("ports", Verdict.PROBLEM)
    assert "dmm1 (/dev/serial/by-id/usb-Gone): not there; there is /dev/serial/by-id/usb-FTDI_A1" in finding.what


def test_a_port_of_another_group_is_told_with_the_group_to_join(psu: Any, line: str) -> None:
    psu.write("/etc/group", f"dialout:x:{os.stat(line).st_gid}:\n")
    psu.wants(PSU, user=User("pi", 1000, frozenset({1000})))
    finding = psu.one("ports", Verdict.PROBLEM)
    assert "the user pi can't open" in finding.what
    assert finding.fix == ("sudo usermod -aG dialout pi    # then log in again",)


def test_the_services_group_comes_from_its_unit(psu: Any, line: str) -> None:
    psu.write("/etc/group", f"dialout:x:{os.stat(line).st_gid}:\n")
    psu.wants(PSU, user=User("instrument-gateway", 950, frozenset({950})), is_service=True)
    assert psu.one("ports", Verdict.PROBLEM).fix[0].startswith("sudo gateway service install")


def test_a_port_that_its_group_may_not_open_either_is_told(psu: Any, line: str) -> None:
    os.chmod(line, 0o600)
    assert "chmod 660" in psu.one("ports", Verdict.PROBLEM).fix[0]


def test_a_process_that_has_the_port_open_is_named_with_the_command_that_ends_it(
    psu: Any, line: str, holder: Holder
) -> None:
    pid = holder("minicom", line)
    finding = psu.one("ports", Verdict.PROBLEM)
    assert f"minicom (process {pid}) has it open" in finding.what
    assert finding.fix == (f"kill {pid}",)


def test_the_gateway_itself_may_have_the_port_open(psu: Any, line: str, holder: Holder) -> None:
    holder("gateway", line, words=("/opt/bin/gateway", "serve", "/etc/x.toml"))
    psu.is_well("ports")


def test_two_gateways_at_one_port_are_a_problem(psu: Any, line: str, holder: Holder) -> None:
    for _ in range(2):
        holder("gateway", line, words=("/opt/bin/gateway", "serve", "/etc/x.toml"))
    assert "several gateways" in psu.one("ports", Verdict.PROBLEM).what


def test_a_counted_name_is_warned_of_with_the_lasting_one(psu: Any) -> None:
    psu.wants(Place("psu1", "/dev/ttyUSB0"))
    assert psu.one("ports", Verdict.WARNING).fix == ('# in the config: port = "/dev/serial/by-id/usb-FTDI_A1"',)


@pytest.mark.parametrize("place", [Place("psu1", serial_number="A1"), Place("psu1", vid_pid="0403:6001")])
def test_a_port_is_found_by_what_its_adapter_is(psu: Any, place: Place) -> None:
    psu.wants(place)
    psu.is_well("ports")


def test_two_adapters_that_one_entry_means_are_both_named(psu: Any, line: str) -> None:
    psu.usb("1-1.3", "0403", "6001", serial_number="A2")
    psu.tty("ttyUSB1", line, usb="1-1.3")
    psu.wants(Place("psu1", vid_pid="0403:6001"))
    assert "2 ports are meant: /dev/ttyUSB0, /dev/ttyUSB1" in psu.one("ports", Verdict.PROBLEM).what


def test_a_port_that_the_kernels_console_writes_to_is_told(machine: Any, line: str) -> None:
    machine.write("/proc/cmdline", "console=serial0,115200 console=tty1 root=/dev/mmcblk0p2\n")
    machine.tty("ttyAMA0", line)
    machine.link("/dev/serial0", "ttyAMA0")
    os.chmod(line, 0o666)
    machine.wants(Place("board", "/dev/ttyAMA0"))
    assert "do_serial_cons 1" in machine.one("ports", Verdict.PROBLEM).fix[0]


# -- programs that grab ports -----------------------------------------------------------------------------------------


def test_modem_manager_is_warned_of_until_udev_rules_keep_it_away(psu: Any, holder: Holder) -> None:
    psu.is_well("modem-manager")
    holder("ModemManager")
    assert "disable --now ModemManager" in psu.one("modem-manager", Verdict.WARNING).fix[0]
    psu.write(RULES_FILE, rules())
    psu.is_well("modem-manager")


def test_modem_manager_at_a_port_of_the_config_is_a_problem(psu: Any, line: str, holder: Holder) -> None:
    psu.write(RULES_FILE, rules())
    holder("ModemManager", line)
    assert "has psu1" in psu.one("modem-manager", Verdict.PROBLEM).what


def test_brltty_that_runs_beside_an_adapter_is_a_problem(psu: Any, holder: Holder) -> None:
    psu.is_well("brltty")
    holder("brltty")
    assert "sudo systemctl mask --now brltty" in psu.one("brltty", Verdict.PROBLEM).fix[0]


def test_brlttys_rules_are_a_problem_for_the_adapters_that_they_catch(psu: Any) -> None:
    rule = 'ENV{PRODUCT}=="1a86/7523/*", ATTRS{manufacturer}=="", ENV{BRLTTY_BRAILLE_DRIVER}="bm"\n'
    psu.write("/usr/lib/udev/rules.d/85-brltty.rules", f"#{rule}")
    psu.usb("1-1.4", "1a86", "7523")
    psu.is_well("brltty")
    psu.write("/usr/lib/udev/rules.d/85-brltty.rules", rule)
    assert "1a86:7523 at 1-1.4" in psu.one("brltty", Verdict.PROBLEM).what


# -- USB instruments --------------------------------------------------------------------------------------------------

SCOPE = Place("scope", vid_pid="0957:0588")


def test_an_instrument_that_the_kernels_usbtmc_holds_is_told_with_the_commands_that_release_it(machine: Any) -> None:
    machine.is_well("usbtmc")
    machine.usb("1-1.5", "0957", "0588", kind="fe03", driver="usbtmc")
    finding = machine.one("usbtmc", Verdict.WARNING)
    assert finding.fix[0] == "echo 1-1.5:1.0 | sudo tee /sys/bus/usb/drivers/usbtmc/unbind"
    machine.wants(SCOPE)
    assert "which the config wants by libusb" in machine.one("usbtmc", Verdict.PROBLEM).what
    machine.wants(Place("scope", "/dev/usbtmc0"))
    machine.is_well("usbtmc")


def test_an_instrument_that_the_user_cannot_open_is_told_with_its_udev_rule(machine: Any) -> None:
    machine.is_well("usb-permission")
    machine.usb("1-1.5", "0957", "0588", kind="fe03")
    node = machine.write("/dev/bus/usb/001/004", mode=0o664)
    finding = machine.one("usb-permission", Verdict.PROBLEM)
    assert 'ATTR{idVendor}=="0957", ATTR{idProduct}=="0588", GROUP="plugdev", MODE="0660"' in finding.fix[0]
    assert finding.fix[-1] == "sudo usermod -aG plugdev pi    # then log in again"
    node.chmod(stat.S_IMODE(node.stat().st_mode) | 0o006)
    machine.is_well("usb-permission")


def test_a_device_that_the_config_means_is_looked_at_whatever_its_class(machine: Any) -> None:
    machine.usb("1-1.6", "1ab1", "04ce", serial_number="DS1")
    machine.write("/dev/bus/usb/001/004", mode=0o600)
    machine.is_well("usb-permission")
    machine.wants(Place("scope", serial_number="DS1"))
    machine.one("usb-permission", Verdict.PROBLEM)
    machine.subject = replace(machine.subject, user=User("root", 0, frozenset()))
    machine.is_well("usb-permission")
