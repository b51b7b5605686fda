"""Where a SCPI instrument is, as a config says it: `port`, `resource` or `match`, and one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.multimeter import MultimeterOptions
from gateway import config as configuration
from gateway.config import Config
from gateway.errors import ConfigError

HERE = 'resource = "usbtmc://1209:0002/A"\n'


def loaded(folder: Path, *sections: str) -> Config:
    """A config with a multimeter for each section."""
    file = folder / "gateway.toml"
    tables = (f'[devices.dmm{place}]\ndriver = "scpi-multimeter"\n{section}' for place, section in enumerate(sections))
    file.write_text("".join(tables))
    return configuration.load(file)


@pytest.mark.parametrize("section", [HERE, 'port = "/dev/ttyUSB0"\n', 'match = { vid_pid = "0403:6001" }\n'])
def test_one_of_them_is_enough(tmp_path: Path, section: str) -> None:
    config = loaded(tmp_path, section)
    assert configuration.option_problems(config.devices[0], MultimeterOptions) == []


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("", "missing key 'port', or 'resource' for an instrument on USB"),
        (f'{HERE}port = "/dev/ttyUSB0"\n', "'port' and 'resource' both say where the device is; keep one of them"),
        ('resource = "usbtmc://1209"\n', "'resource' must be such as usbtmc://0957:0588/MY53001234"),
        ("resource = 7\n", "'resource' must be text in quotes"),
    ],
)
def test_anything_else_is_told(tmp_path: Path, section: str, said: str) -> None:
    config = loaded(tmp_path, section)
    problems = configuration.option_problems(config.devices[0], MultimeterOptions)
    assert [said in str(problem) for problem in problems] == [True]


def test_a_match_beside_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'match' and 'resource' both say where the device is"):
        loaded(tmp_path, f'{HERE}match = {{ vid_pid = "1209:0002" }}\n')


def test_two_devices_can_not_have_the_same_resource(tmp_path: Path) -> None:
    problems = configuration.clashes(loaded(tmp_path, HERE, HERE))
    assert ["has the same 'resource'" in str(problem) for problem in problems] == [True]
