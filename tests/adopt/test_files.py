"""Proposals become files of the config, or nothing changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway import config
from gateway.adopt import Proposal, Seen, read_current, taken_names, write_proposal
from gateway.errors import ConfigError

SEEN = Seen(where="/dev/ttyUSB0", transport="serial", identity="ACME,DMM,1,1.0")


def proposal(**table: object) -> Proposal:
    return Proposal(name="dmm1", driver="scpi-multimeter", seen=SEEN, table={"driver": "scpi-multimeter", **table})


def test_the_first_device_makes_the_config(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "gateway.toml"
    assert read_current(path).devices == ()
    file = write_proposal(path, proposal(match={"serial_number": 'A"\\', "interface": 1}, baudrate=115_200))
    assert file == str(tmp_path / "etc" / "devices.d" / "dmm1.toml")
    (section,) = config.load(path).devices
    assert (section.name, section.options) == ("dmm1", {"baudrate": 115_200})
    assert section.common.match == config.Match(serial_number='A"\\', interface=1)
    assert Path(file).read_text().startswith("# ACME,DMM,1,1.0: written by gateway adopt\n")


def test_a_config_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[devices.psu1]\ndriver = 'x'\n")
    write_proposal(path, proposal(port="/dev/ttyUSB0"))
    assert path.read_text() == "[devices.psu1]\ndriver = 'x'\n"
    assert taken_names(path, config.load(path)) == {"psu1", "dmm1"}


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    write_proposal(path, proposal(port="/dev/ttyUSB0"))
    before = (tmp_path / "devices.d" / "dmm1.toml").read_text()
    with pytest.raises(ConfigError, match="dmm1.toml: is there already"):
        write_proposal(path, proposal(port="/dev/ttyUSB1"))
    assert (tmp_path / "devices.d" / "dmm1.toml").read_text() == before


def test_a_file_with_which_the_config_would_be_wrong_is_taken_away_again(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[devices.dmm1]\ndriver = 'x'\n")
    with pytest.raises(ConfigError, match="'dmm1' is in .*gateway.toml:1 already"):
        write_proposal(path, proposal(port="/dev/ttyUSB0"))
    assert os.listdir(tmp_path / "devices.d") == []


def test_a_folder_that_can_t_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="devices.d: cannot make it: Not a directory"):
        write_proposal(tmp_path / "file" / "gateway.toml", proposal())


def test_a_config_with_mistakes_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[gateway]\nnam = 3\n")
    with pytest.raises(ConfigError, match="unknown key 'nam'"):
        read_current(path)
