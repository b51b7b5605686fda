"""The file and `devices.d` beside it, and that every mistake is found at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config
from gateway.config import files
from gateway.errors import ConfigError

PSU = "[devices.psu1]\ndriver = 'scpi-power-supply'\nport = '/dev/a'\n"
DMM = "[devices.dmm1]\ndriver = 'scpi-multimeter'\nport = '/dev/b'\n"


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "devices.d").mkdir()
    path = tmp_path / "gateway.toml"
    path.write_text("[gateway]\nname = 'bench'\n")
    return path


def beside(main: Path, name: str, text: str) -> Path:
    path = main.parent / "devices.d" / name
    path.write_text(text)
    return path


def told(main: Path) -> list[str]:
    return [str(problem).replace(f"{main.parent}/", "") for problem in config.examine(main).problems]


def test_devices_of_all_files_are_served_in_the_order_of_the_names(main: Path) -> None:
    beside(main, "20-dmm.toml", DMM)
    beside(main, "10-psu.toml", PSU)
    beside(main, "30-host.toml", "[hosts.bench2]\nurl = 'tcp://10.0.0.5'\n")
    beside(main, ".hidden.toml", "nonsense")
    beside(main, "psu.toml~", "nonsense")
    read = config.load(main)
    assert [section.name for section in read.devices] == ["psu1", "dmm1"]
    assert [section.name for section in read.hosts] == ["bench2"]
    assert [Path(name).name for name in read.files] == ["gateway.toml", "10-psu.toml", "20-dmm.toml", "30-host.toml"]
    assert read.devices[0].source.file == str(main.parent / "devices.d" / "10-psu.toml")
    assert read.gateway.name == "bench"


def test_a_config_without_the_folder_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(PSU)
    assert config.load(path).files == (str(path),)


def test_a_name_in_two_files_is_a_mistake_that_names_both_places(main: Path) -> None:
    beside(main, "a.toml", PSU)
    beside(main, "b.toml", "\n" + PSU + "\n[hosts.psu1]\nurl = 'tcp://x'\n")
    assert told(main) == [
        "devices.d/b.toml:2: [devices.psu1] 'psu1' is in devices.d/a.toml:1 already; a device has one table",
        "devices.d/b.toml:6: [hosts.psu1] 'psu1' is a device's name already (devices.d/a.toml:1); choose another one "
        "for the host",
    ]


def test_a_file_of_the_folder_holds_devices_and_hosts_only(main: Path) -> None:
    beside(main, "a.toml", "[limits]\nframe = 3\n[gateway]\n[device.psu1]\n" + PSU)
    assert told(main) == [
        "devices.d/a.toml:1: [limits] belongs into gateway.toml; here are [devices.NAME] and [hosts.NAME] only",
        "devices.d/a.toml:3: [gateway] belongs into gateway.toml; here are [devices.NAME] and [hosts.NAME] only",
        "devices.d/a.toml:4: unknown table 'device'; did you mean 'devices'?",
    ]


def test_every_mistake_of_every_file_is_found_in_the_order_of_the_lines(main: Path) -> None:
    main.write_text("[gateway]\nlisen = 3\nadvertise = 'yes'\n[limits]\nfram = 1\nframe = -1\n[devices.'a b']\n")
    beside(main, "a.toml", "no toml")
    beside(main, "b.toml", "[devices.psu1]\nport = 3\nlimits.x = 1\nmatch = {vid_pid = 1, serial = 2}\n" + DMM)
    beside(main, "c.toml", "")
    assert told(main) == [
        "gateway.toml:2: [gateway] unknown key 'lisen'; did you mean 'listen'?",
        "gateway.toml:3: [gateway] 'advertise' must be true or false, not the text 'yes'",
        "gateway.toml:5: [limits] unknown key 'fram'; did you mean 'frame'?",
        "gateway.toml:6: [limits] Limits.frame must be a number above 0, not -1",
        "gateway.toml:7: [devices.a b] 'a b' is no device name; use letters, digits and _ after a letter, such as "
        "'psu1'",
        "devices.d/a.toml:1: not TOML: expected '=' after a key in a key/value pair",
        "devices.d/b.toml:1: [devices.psu1] missing key 'driver'; name a driver, such as driver = \"scpi-multimeter\"",
        "devices.d/b.toml:3: [devices.psu1] 'limits.x' must be [lowest, highest], not the number 1",
        "devices.d/b.toml:4: [devices.psu1] 'match.vid_pid' must be text in quotes like '0403:6001', not the number 1",
        "devices.d/b.toml:4: [devices.psu1] unknown key 'match.serial'; did you mean 'serial_number'?",
        "devices.d/c.toml: the file is empty; write one like examples/bench.toml",
    ]


def test_a_mistake_carries_its_facts(main: Path) -> None:
    main.write_text("[gateway]\nlisen = 3\n" + PSU)
    (problem,) = config.examine(main).problems
    assert problem.facts == {
        "file": str(main),
        "line": 2,
        "key": "gateway.lisen",
        "reason": "unknown key 'lisen'; did you mean 'listen'?",
        "nearest": "listen",
    }


def test_loading_tells_the_first_mistake_and_how_to_see_the_others(main: Path) -> None:
    main.write_text("[gateway]\nlisen = 3\nnam = 'x'\n" + PSU)
    with pytest.raises(ConfigError) as raised:
        config.load(main)
    assert str(raised.value).endswith(f"did you mean 'listen'?; and 1 more: gateway check {main}")
    assert raised.value.line == 2


def test_a_folder_of_too_many_files_is_refused(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 1)
    beside(main, "a.toml", PSU)
    beside(main, "b.toml", DMM)
    assert told(main)[0] == "devices.d: has 2 files; at most 1 are read"


def test_two_devices_in_one_place_are_a_mistake_that_names_both(main: Path) -> None:
    beside(main, "a.toml", PSU)
    beside(main, "b.toml", DMM.replace("/dev/b", "/dev/a") + "[devices.x]\ndriver = 'y'\nmatch = {path = '1-1'}\n")
    beside(main, "c.toml", "[devices.z]\ndriver = 'y'\nmatch.path = '1-1'\n")
    found = [str(problem).replace(f"{main.parent}/", "") for problem in config.clashes(config.load(main))]
    assert found == [
        "devices.d/b.toml:3: [devices.dmm1] psu1 (devices.d/a.toml:3) has the same 'port'",
        "devices.d/c.toml:3: [devices.z] x (devices.d/b.toml:6) has the same 'match'",
    ]


def test_a_driver_with_an_option_that_every_device_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from devices.multimeter import MultimeterOptions, ScpiMultimeter
    from gateway import drivers

    class Options(MultimeterOptions, frozen=True, kw_only=True):
        notes: str = ""

    monkeypatch.setattr(ScpiMultimeter, "Options", Options)
    with pytest.raises(ConfigError, match=r"driver 'scpi-multimeter' has an option 'notes', which is a key of every"):
        drivers.load_driver("scpi-multimeter")
