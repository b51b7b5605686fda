"""What differs between two configs."""

from __future__ import annotations

import pytest

from gateway import config
from gateway.config import Config, difference

BASE = """\
[gateway]
name = "bench"
[devices.psu1]
driver = "scpi-power-supply"
port = "/dev/a"
limits.voltage = [0, 12]
[devices.dmm1]
driver = "scpi-multimeter"
port = "/dev/b"
[hosts.bench2]
url = "tcp://10.0.0.5"
"""


def read(text: str) -> Config:
    return config.parse(text.encode(), file="x")


def changed(old: str, new: str) -> config.Changes:
    assert old in BASE
    return difference(read(BASE), read(BASE.replace(old, new)))


def names(sections: tuple[config.DeviceSection, ...]) -> list[str]:
    return [section.name for section in sections]


def test_the_same_config_written_otherwise_is_no_change() -> None:
    changes = changed('name = "bench"', "\n\n# a comment\nname = 'bench'\n")
    assert not changes
    assert names(changes.unchanged) == ["psu1", "dmm1"]
    assert [host.name for host in changes.hosts_unchanged] == ["bench2"]


def test_devices_are_added_and_removed_by_name() -> None:
    changes = changed("devices.dmm1", "devices.dmm2")
    assert (names(changes.added), names(changes.removed), names(changes.unchanged)) == (["dmm2"], ["dmm1"], ["psu1"])
    assert changes


@pytest.mark.parametrize(
    ("old", "new", "keys", "reopens", "people"),
    [
        ('port = "/dev/a"', 'port = "/dev/c"', {"port"}, True, False),
        ('port = "/dev/a"', 'port = "/dev/a"\nbaudrate = 1', {"baudrate"}, True, False),
        ('driver = "scpi-power-supply"', 'driver = "other"', {"driver"}, True, False),
        ('port = "/dev/a"', "match.path = '1-1'", {"port", "match"}, True, False),
        ("[0, 12]", "[0, 13]", {"limits"}, False, False),
        ("limits.voltage", "disabled = 'x'\nlimits.voltage", {"disabled"}, False, False),
        ("limits.voltage", "owner = 'x'\nnotes = 'y'\nlimits.voltage", {"owner", "notes"}, False, True),
    ],
)
def test_a_change_tells_its_keys_and_what_it_takes(
    old: str, new: str, keys: set[str], reopens: bool, people: bool
) -> None:
    changes = changed(old, new)
    (change,) = changes.changed
    assert (change.name, change.keys, change.reopens, change.only_for_people) == ("psu1", keys, reopens, people)
    assert names(changes.unchanged) == ["dmm1"]
    assert changes.restart == ()


def test_one_and_true_differ() -> None:
    one, true = (read(BASE.replace("limits", f"safe.output = {value}\nx = {value}\nlimits")) for value in ("1", "true"))
    (change,) = difference(one, true).changed
    assert change.keys == {"safe", "x"}


def test_hosts_are_compared_by_their_url() -> None:
    ((old, new),) = changed("10.0.0.5", "10.0.0.6").hosts_changed
    assert (old.url, new.url) == ("tcp://10.0.0.5", "tcp://10.0.0.6")
    moved = changed("hosts.bench2", "hosts.bench3")
    assert ([host.name for host in moved.hosts_added], [host.name for host in moved.hosts_removed]) == (
        ["bench3"],
        ["bench2"],
    )


def test_what_only_a_restart_brings_about_is_named() -> None:
    changes = changed('name = "bench"', 'name = "b"\nlisten = "tcp://127.0.0.1:1"\nlog_level = "info"')
    assert changes.restart == ("gateway.listen", "gateway.name")
    assert changes.log_level == "info"
    assert difference(read(BASE), read(BASE + "[limits]\nframe = 4096\n")).restart == ("limits.frame",)
