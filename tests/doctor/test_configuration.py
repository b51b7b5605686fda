"""The config, the service, and what of a config is examined."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway import config as configuration
from gateway.doctor import Verdict
from gateway.doctor.subject import Place, place_of, subject_of
from gateway.errors import NotFound
from gateway.systemd.install import CONFIG_FOLDER, Installer, Target
from gateway.systemd.tools import Output
from gateway.systemd.unit import CONFIG, NAME

TEXT = """
[gateway]
listen = "tcp://192.0.2.7:18871"
interfaces = ["192.0.2.7"]
[devices.psu1]
driver = "scpi-power-supply"
port = "/dev/serial/by-id/usb-FTDI"
[hosts.bench2]
url = "serial://?serial_number=A50285BI&vid=0403&pid=6001&baudrate=921600"
[hosts.bench3]
url = "ssh://pi@bench3"
"""


def examined(machine: Any, **wanted: Any) -> Any:
    asked = {"config": CONFIG, "user": None, "load": configuration.load} | wanted
    return subject_of(machine.system, **asked)


def test_the_places_of_a_config_are_what_is_examined(machine: Any) -> None:
    machine.write(CONFIG, TEXT)
    subject = examined(machine)
    assert subject.trouble == ""
    assert subject.places == (
        Place("psu1", "/dev/serial/by-id/usb-FTDI"),
        Place("bench2", serial_number="A50285BI", vid_pid="0403:6001"),
    )
    assert (subject.tcp, subject.is_local, subject.interfaces) == (("192.0.2.7", 18871), False, ("192.0.2.7",))


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"port": "/dev/ttyUSB0"}, Place("psu1", "/dev/ttyUSB0")),
        ({"match": {"serial_number": "A1", "vid_pid": "0403:600A"}}, Place("psu1", "", "A1", "0403:600a")),
        ({"match": {"idn": "Keysight*", "probe": True}}, None),
        ({"port": "tcp://10.0.0.1:5025"}, None),
        ({"port": 7}, None),
        ({}, None),
    ],
)
def test_a_device_is_found_by_its_port_or_by_what_it_is(options: dict[str, Any], place: Place | None) -> None:
    assert place_of("psu1", options) == place


def test_a_config_that_is_missing_is_a_problem_with_the_commands_that_make_one(machine: Any) -> None:
    machine.subject = examined(machine)
    assert "nothing to serve" in machine.one("config", Verdict.PROBLEM).what


def test_a_mistake_in_the_config_is_told_with_its_line(machine: Any) -> None:
    machine.write(CONFIG, "[gateway]\nlisen = 1\n")
    machine.subject = examined(machine)
    finding = machine.one("config", Verdict.PROBLEM)
    assert f"{CONFIG}:2: [gateway] unknown key 'lisen'; did you mean 'listen'?" in finding.what


def test_a_config_that_the_gateways_user_cannot_read_is_a_problem(machine: Any) -> None:
    machine.write(CONFIG, TEXT, mode=0o600)
    machine.subject = examined(machine, user="pi")
    assert machine.one("config", Verdict.PROBLEM).fix == (f"sudo chmod 644 {CONFIG}",)


def test_a_config_that_everybody_can_change_is_warned_of(machine: Any) -> None:
    machine.write(CONFIG, TEXT, mode=0o666)
    machine.subject = examined(machine, user="pi")
    assert "everybody" in machine.one("config", Verdict.WARNING).what


def test_a_good_config_is_well(machine: Any) -> None:
    machine.write(CONFIG, TEXT)
    machine.subject = examined(machine, user="pi")
    machine.is_well("config")


def test_who_runs_the_gateway_is_the_services_user_else_who_asked_by_sudo(machine: Any) -> None:
    sudo = replace(machine.system, environ={"SUDO_USER": "pi"})
    assert subject_of(sudo, config=CONFIG, user=None, load=configuration.load).user.name == "pi"
    install(machine)
    subject = subject_of(sudo, config=CONFIG, user=None, load=configuration.load)
    assert (subject.user.name, subject.is_service) == (NAME, True)
    assert 20 in subject.user.gids  # dialout, by the unit
    with pytest.raises(NotFound, match="no user 'nobody-here'"):
        examined(machine, user="nobody-here")


# -- the service ------------------------------------------------------------------------------------------------------


def install(machine: Any) -> None:
    machine.write("/etc/passwd", (machine.root / "etc/passwd").read_text() + f"{NAME}:x:950:950::/:/bin/false\n")
    machine.write("/etc/group", (machine.root / "etc/group").read_text() + f"{NAME}:x:950:\n")
    machine.write("/opt/bin/gateway", "#!/bin/sh\n", mode=0o755)
    Installer(Target(machine.root), lambda step: None).install(command="/opt/bin/gateway")


def test_without_a_service_there_is_nothing_to_complain_of(machine: Any) -> None:
    machine.is_well("service")


def test_an_installed_service_is_well(machine: Any) -> None:
    install(machine)
    machine.is_well("service")


def test_a_service_whose_command_user_group_or_link_is_gone_is_told(machine: Any) -> None:
    install(machine)
    (machine.root / "opt/bin/gateway").unlink()
    machine.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    machine.write("/etc/group", "root:x:0:\n")
    (machine.root / "etc/systemd/system/multi-user.target.wants/instrument-gateway.service").unlink()
    machine.answers["systemctl", "is-active", f"{NAME}.service"] = Output(3, "failed\n")
    found = machine.check("service")
    said = " | ".join(finding.what for finding in found)
    for part in (
        "/opt/bin/gateway, which is not there",
        "user instrument-gateway does not exist",
        "do not exist: dialout",
        "does not start at boot",
        "the service is failed",
    ):
        assert part in said
    assert all(finding.fix for finding in found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_folder_that_is_closed_is_not_taken_for_an_empty_one(machine: Any) -> None:
    folder: Path = machine.root / CONFIG_FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    folder.chmod(0)
    try:
        with pytest.raises(PermissionError):
            machine.system.text(CONFIG)
    finally:
        folder.chmod(0o755)
