"""`gateway check`, `disable` and `enable`: what they say, and what they leave alone."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RIGHT = "[devices.psu1]\ndriver = 'scpi-power-supply'\nport = '/dev/ttyNothing'\n"
WRONG = """\
[gateway]
lisen = "tcp://127.0.0.1"
[devices.psu1]
driver = "scpi-power-suply"
[devices.dmm1]
driver = "scpi-multimeter"
prt = "/dev/ttyUSB0"
baudrate = "9600"
limits.voltage = [3, 1]
[devices.board]
driver = "nowhere.drivers:Board"
"""


@pytest.fixture
def config(command: Any) -> Path:
    path: Path = command.folder / "gateway.toml"
    path.write_text(RIGHT)
    return path


def test_a_config_without_mistakes_is_one_line_and_exit_code_0(command: Any, config: Path) -> None:
    done = command("check", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{config}: no mistake in 1 file: 1 device\n"


def test_every_mistake_is_a_line_that_names_file_line_key_and_nearest(command: Any, config: Path) -> None:
    config.write_text(WRONG)
    done = command("check", str(config))
    assert done.returncode == 2
    assert [line.removeprefix(f"{config}:") for line in done.stdout.splitlines()] == [
        "2: [gateway] unknown key 'lisen'; did you mean 'listen'?",
        "4: [devices.psu1] unknown driver 'scpi-power-suply'; did you mean 'scpi-power-supply'?",
        "7: [devices.dmm1] unknown key 'prt'; did you mean 'port'?",
        "8: [devices.dmm1] 'baudrate' must be a whole number, not the text '9600'",
        "9: [devices.dmm1] 'limits.voltage' must be [lowest, highest]: 3 is above 1",
        "11: [devices.board] driver 'nowhere.drivers:Board' can't be imported: No module named 'nowhere'; install what "
        "is missing",
    ]
    assert done.stderr == "6 mistakes in 1 file\n"


def test_as_json_each_mistake_has_its_facts(command: Any, config: Path) -> None:
    config.write_text(WRONG)
    (command.folder / "devices.d").mkdir()
    (command.folder / "devices.d" / "x.toml").write_text(RIGHT)
    done = command("check", str(config), "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 2
    assert document["files"] == [str(config), str(command.folder / "devices.d" / "x.toml")]
    assert document["problems"][0] == {
        "file": str(config),
        "line": 2,
        "key": "gateway.lisen",
        "reason": "unknown key 'lisen'; did you mean 'listen'?",
        "nearest": "listen",
    }
    assert document["problems"][1]["nearest"] == "scpi-power-supply"
    assert document["problems"][-1]["reason"] == f"'psu1' is in {config}:3 already; a device has one table"


def test_checking_touches_no_hardware(command: Any, config: Path) -> None:
    leader, follower = pty.openpty()
    try:
        os.set_blocking(leader, False)
        config.write_text(RIGHT.replace("/dev/ttyNothing", os.ttyname(follower)))
        assert command("check", str(config)).returncode == 0
        with pytest.raises(BlockingIOError):
            os.read(leader, 100)
    finally:
        os.close(leader)
        os.close(follower)


def test_without_a_name_the_default_config_is_checked_and_served(command: Any) -> None:
    own = command.folder / "instrument-gateway" / "gateway.toml"
    own.parent.mkdir()
    own.write_text(f"[gateway]\nlisten = 'tcp://127.0.0.1:0'\nadvertise = false\n{RIGHT}")
    assert command("check").stdout.startswith(str(own))
    with command.running("serve", "--json") as running:
        assert [device["name"] for device in running.document()["devices"]] == ["psu1"]
        running.stop()


def test_a_config_that_is_named_twice_is_wrong_usage(command: Any, config: Path) -> None:
    done = command("serve", str(config), "--config", str(config))
    assert (done.returncode, "the config is named twice" in done.stderr) == (2, True)


def test_the_published_schema_is_that_of_the_code(command: Any) -> None:
    done = command("check", "--schema")
    assert done.returncode == 0
    published = (ROOT / "docs" / "reference" / "gateway.schema.json").read_text(encoding="utf-8")
    assert json.loads(published) == json.loads(done.stdout), (
        "run: gateway check --schema > docs/reference/gateway.schema.json"
    )


# -- disable and enable -----------------------------------------------------------------------------------------------


def test_a_device_is_disabled_with_a_reason_and_enabled_again(command: Any, config: Path) -> None:
    done = command("disable", "psu1", "--reason", "on repair", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"psu1 is disabled in {config}:2\n")
    assert 'disabled = "on repair"\n' in config.read_text()
    again = command("disable", "psu1", "--reason", "on repair", "--config", str(config), "--json")
    expected = {"device": "psu1", "disabled": "on repair", "file": str(config), "line": 2, "changed": False}
    assert json.loads(again.stdout) == expected
    assert command("enable", "psu1", "--config", str(config)).stdout.startswith(f"psu1 is enabled in {config}:2\n")
    assert config.read_text() == RIGHT
    assert "psu1 is enabled already: nothing was changed" in command("enable", "psu1", "--config", str(config)).stdout


def test_what_can_t_be_disabled_is_one_line_with_its_exit_code(command: Any, config: Path) -> None:
    done = command("disable", "psu", "--reason", "x", "--config", str(config))
    assert (done.returncode, done.stderr) == (3, f"error: no device 'psu' in {config}; did you mean 'psu1'?\n")
    done = command("disable", "psu1", "--config", str(config))
    assert (done.returncode, "--reason" in done.stderr) == (2, True)
    done = command("enable", "psu1", "--config", str(config.with_name("no.toml")), "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "config-error")
