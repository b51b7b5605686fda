"""The texts of the unit and of the udev rules, judged by systemd where it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.systemd.udev import ADAPTERS, modem_rule, rules, usb_rule
from gateway.systemd.unit import SERVICE, Unit, setting

COMMAND = str(Path(sys.executable).parent / "gateway")
UNITS = [
    Unit(COMMAND),
    Unit(COMMAND, ("dialout", "plugdev", "gpio", "i2c"), created_user=True, created_config=True),
    Unit("/home/pi/my env/bin/gateway"),
]
MOST_EXPOSED = 2.5
"""systemd calls up to 4.9 "OK"; an ordinary service has 9.6."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS[:2])
def test_systemd_finds_nothing_to_say_about_the_unit(unit: Unit, tmp_path: Path) -> None:
    path = tmp_path / SERVICE
    path.write_text(unit.text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], check=False, capture_output=True, text=True, timeout=60
    )
    # It looks at everything that the unit leads to, and may have something to say about the system's own units.
    assert [line for line in done.stderr.splitlines() if SERVICE in line] == []
    assert done.returncode == 0, done.stderr


@needs_systemd
def test_a_mistake_in_the_unit_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / SERVICE
    path.write_text(Unit(COMMAND).text.replace("ProtectSystem=strict", "ProtectSystem=sure"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert [line for line in done.stderr.splitlines() if SERVICE in line]


@needs_systemd
def test_the_sandbox_is_tight_by_systemds_own_measure(tmp_path: Path) -> None:
    path = tmp_path / SERVICE
    path.write_text(Unit(COMMAND, ("dialout",)).text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd can't judge a file: {done.stderr.strip()}")
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", UNITS)
def test_every_line_is_a_section_a_setting_or_a_comment(unit: Unit) -> None:
    for line in unit.text.splitlines():
        assert re.fullmatch(r"|#.*|\[[A-Za-z-]+\]|[A-Z][A-Za-z]*=.*", line), line
        assert len(line) <= 120 or line.startswith("ExecStart=")


def test_the_unit_runs_the_command_it_was_given() -> None:
    assert setting(Unit("/opt/x/bin/gateway").text, "ExecStart") == (
        "/opt/x/bin/gateway serve /etc/instrument-gateway/gateway.toml"
    )
    quoted = setting(Unit('/opt/my "50%" env/gateway').text, "ExecStart")
    assert quoted.startswith('"/opt/my \\"50%%\\" env/gateway" serve ')


def test_a_gateway_that_is_installed_in_a_home_can_read_it_and_no_other_can() -> None:
    assert setting(Unit("/home/pi/env/bin/gateway").text, "ProtectHome") == "read-only"
    assert setting(Unit("/opt/env/bin/gateway").text, "ProtectHome") == "yes"


def test_groups_are_named_only_where_there_are_some() -> None:
    assert setting(Unit("/x", ("dialout", "i2c")).text, "SupplementaryGroups") == "dialout i2c"
    assert "\nSupplementaryGroups=" not in Unit("/x").text


def test_the_service_may_hear_of_devices_that_come_and_go() -> None:
    assert "AF_NETLINK" in setting(Unit("/x").text, "RestrictAddressFamilies")


def test_every_line_of_the_rules_is_a_rule_a_label_or_a_comment() -> None:
    item = r'(?:[A-Z_]+(?:\{[\w/]+\})?(?:==|!=|=|\+=)"[^"]*")'
    for line in rules().splitlines():
        assert re.fullmatch(rf"|#.*|{item}(?:, {item})*", line), line


def test_a_jump_in_the_rules_has_its_label_after_it() -> None:
    text = rules()
    for match in re.finditer(r'GOTO="(\w+)"', text):
        assert text.index(f'LABEL="{match[1]}"') > match.start()


def test_the_rules_cover_instruments_serial_ports_and_modem_manager() -> None:
    text = rules(group="bench", serial_group="uucp")
    assert 'ENV{ID_USB_INTERFACES}=="*:fe03*", GROUP="bench", MODE="0660"' in text
    assert 'SUBSYSTEM=="tty", SUBSYSTEMS=="usb", GROUP="uucp", MODE="0660"' in text
    for vid in ADAPTERS:
        assert f'ATTR{{idVendor}}=="{vid}", ENV{{ID_MM_DEVICE_IGNORE}}="1"' in text


def test_a_rule_for_one_device_names_it() -> None:
    assert 'ATTR{idVendor}=="0957", ATTR{idProduct}=="0588", GROUP="instrument-gateway"' in usb_rule("0957", "0588")
    assert modem_rule("0957", "0588").endswith('ENV{ID_MM_DEVICE_IGNORE}="1"')
