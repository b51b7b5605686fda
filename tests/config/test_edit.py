"""`disabled` is set and taken out, and nothing else in the file changes."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import config
from gateway.config.edit import disable, enable, toml_text, write_file
from gateway.errors import ConfigError, NotFound

TEXT = """\
# the bench
[gateway]   # ours
name = "bench"

[devices.psu1] # the supply
driver = "scpi-power-supply"  # disabled = "no"
notes = '''
[devices.dmm1]
disabled = "not this"
'''

[devices.dmm1]
  driver = "scpi-multimeter"
  port = "/dev/b"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(TEXT)
    return file


def reason(path: Path, device: str) -> str | None:
    return {section.name: section.common.disabled for section in config.load(path).devices}[device]


def test_a_device_is_disabled_in_its_table_and_all_else_stays(path: Path) -> None:
    done = disable(path, "dmm1", 'on "repair" \\ until May')
    assert (done.file, done.line, done.changed) == (str(path), 13, True)
    new = 'disabled = "on \\"repair\\" \\\\ until May"\n'
    assert path.read_text() == TEXT.replace("[devices.dmm1]\n  driver", f"[devices.dmm1]\n{new}  driver")
    assert (reason(path, "dmm1"), reason(path, "psu1")) == ('on "repair" \\ until May', None)


def test_disabling_again_changes_the_reason_and_keeps_the_comment(path: Path) -> None:
    disable(path, "dmm1", "one")
    path.write_text(path.read_text().replace('disabled = "one"', "disabled = 'one' # until May"))
    assert disable(path, "dmm1", r"two \1").changed
    assert 'disabled = "two \\\\1" # until May\n' in path.read_text()
    assert not disable(path, "dmm1", r"two \1").changed


def test_enabling_gives_the_file_back_as_it_was(path: Path) -> None:
    for device in ("psu1", "dmm1"):
        disable(path, device, "on repair")
        assert enable(path, device).changed
        assert path.read_text() == TEXT
        assert not enable(path, device).changed


@pytest.mark.parametrize(
    "text",
    [
        "[devices]\npsu1.driver = 'x'\npsu1.port = 'y'\n",
        "devices.psu1.driver = 'x' # c\n",
        "[devices.psu1.safe]\noutput = false\n[devices.psu1]\ndriver = 'x'\n",
        "[devices.'psu1']\r\ndriver = 'x'\r\n",
        "[devices.psu1]\ndriver = 'x'\n[devices.psu1.safe]\na = 1",
        "\ufeff[devices.psu1]\ndriver = 'x'\n",
    ],
)
def test_a_table_is_found_however_it_is_written(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
    assert disable(path, "psu1", "on repair").changed
    assert reason(path, "psu1") == "on repair"
    assert path.read_bytes().count(b"\r\n") in (0, path.read_bytes().count(b"\n"))
    enable(path, "psu1")
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize(
    "text", ["devices.psu1 = {driver = 'x'}\n", "[devices.psu1]\ndriver = 'x'\ndisabled = '''\na\n'''\n"]
)
def test_what_can_t_be_edited_safely_is_left_alone(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"gateway.toml:1: \[devices.psu1\] this table can't be edited safely; write"):
        disable(path, "psu1", "on repair")
    assert path.read_text() == text


def test_the_file_of_the_folder_that_has_the_device_is_edited(path: Path) -> None:
    (path.parent / "devices.d").mkdir()
    other = path.parent / "devices.d" / "board.toml"
    other.write_text("[devices.board]\ndriver = 'serial-console'\n")
    assert disable(path, "board", "x").file == str(other)
    assert path.read_text() == TEXT


def test_an_unknown_device_is_told_with_the_nearest(path: Path) -> None:
    with pytest.raises(NotFound, match="no device 'dmm'.*did you mean 'dmm1'"):
        enable(path, "dmm")


@pytest.mark.parametrize("text", ["", " ", "a\nb", "\x1b[2J", "x" * 501])
def test_a_reason_is_one_printable_line(path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="a reason is one line"):
        disable(path, "dmm1", text)


def test_mode_and_link_of_the_file_stay(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    disable(link, "dmm1", "x")
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["gateway.toml", "link.toml"]


def test_a_file_that_can_t_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write beside it: No such file"):
        write_file(tmp_path / "missing" / "x.toml", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot write it: Is a directory"):
        write_file(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_as_toml(text: str) -> None:
    assert tomllib.loads(f"x = {toml_text(text)}")["x"] == text
