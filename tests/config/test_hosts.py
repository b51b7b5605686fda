"""The tables [hosts.NAME]: what they may hold, and what is said about a wrong one."""

from __future__ import annotations

import pytest

from gateway import config
from gateway.config import RESERVED_NAMES
from gateway.errors import ConfigError

DEVICE = "[devices.psu1]\ndriver = 'scpi-power-supply'\n"


def parse(text: str) -> config.Config:
    return config.parse(text.encode(), file="bench.toml")


def test_hosts_are_read_in_the_files_order() -> None:
    parsed = parse("[hosts.bench3]\nurl = 'tcp://10.0.0.5'\n\n[hosts.bench2]\nurl = 'unix:///run/bench2'\n" + DEVICE)
    assert [(host.name, host.url) for host in parsed.hosts] == [
        ("bench3", "tcp://10.0.0.5"),
        ("bench2", "unix:///run/bench2"),
    ]
    assert [device.name for device in parsed.devices] == ["psu1"]


def test_a_config_may_have_hosts_only() -> None:
    parsed = parse("[hosts.bench2]\nurl = 'serial:///dev/serial/by-id/usb-x?baudrate=921600'\n")
    assert (parsed.devices, [host.name for host in parsed.hosts]) == ((), ["bench2"])
    assert parse(DEVICE).hosts == ()
    assert config.from_tables({}, origin="a test", hosts={"bench2": {"url": "tcp://x"}}).hosts[0].url == "tcp://x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hosts.bench2]\n", "bench.toml:1: [hosts.bench2] missing key 'url'; say where the host serves"),
        ("[hosts.bench2]\nurl = 5\n", "bench.toml:2: [hosts.bench2] 'url' must be text in quotes, not the number 5"),
        (
            "[hosts.bench2]\nurl = 'tcp://x'\nbaudrate = 9600\n",
            "bench.toml:3: [hosts.bench2] unknown key 'baudrate'; known: reset, url",
        ),
        (
            "[hosts.board]\nurl = 'serial:///dev/ttyACM0'\nreset = 'dtc'\n",
            "bench.toml:3: [hosts.board] 'reset': the text 'dtc' is no way to reset a board; did you mean 'dtr'?",
        ),
        (
            "[hosts.board]\nurl = 'serial:///dev/ttyACM0'\nreset = true\n",
            "bench.toml:3: [hosts.board] 'reset': true is no way to reset a board; known: break, dtr, esp32, rts",
        ),
        (
            "[hosts.board]\nurl = 'tcp://10.0.0.7'\nreset = 'dtr'\n",
            "bench.toml:3: [hosts.board] 'reset': it takes the control lines of a serial port, so a url of serial or",
        ),
        (
            "[hosts.board]\nurl = 'serial:///dev/ttyACM0?framing=raw'\nreset = 'dtr'\n",
            "with framing=link",
        ),
        ("[hosts.bench2]\nurl = 'tpc://x'\n", "bench.toml:2: [hosts.bench2] 'url': 'tpc://x': unknown scheme; did you"),
        ("[hosts.bench2]\nurl = 'bench2'\n", "bench.toml:2: [hosts.bench2] 'url': 'bench2' is no channel URL"),
        ("hosts = 5\n", "bench.toml:1: 'hosts' must be a table, [hosts], not the number 5"),
        ("[hosts]\nbench2 = 'tcp://x'\n", "bench.toml:2: [hosts.bench2] 'bench2' must be a table"),
        (
            "[hosts.'bench 2']\nurl = 'tcp://x'\n",
            "bench.toml:1: [hosts.bench 2] 'bench 2' is no host name; use letters",
        ),
        (f"[hosts.{'b' * 41}]\nurl = 'tcp://x'\n", "is longer than 40 characters"),
        ("[host.bench2]\nurl = 'tcp://x'\n", "bench.toml:1: unknown table 'host'; did you mean 'hosts'?"),
        (
            DEVICE + "[hosts.psu1]\nurl = 'tcp://x'\n",
            "bench.toml:3: [hosts.psu1] 'psu1' is a device's name already; choose another one for the host",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_host_can_not_have_a_name_of_the_gateways_own(name: str) -> None:
    with pytest.raises(ConfigError, match="is a name the gateway uses; choose another, such as 'bench2'"):
        parse(f"[hosts.{name}]\nurl = 'tcp://x'\n")


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[hosts.bench2]\nurl = 'tcp://user:hunter2@x'\n")
    assert "hunter2" not in str(caught.value)


def test_a_url_of_the_wrong_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"can't connect to gadget://.*a client opens usb://VID:PID"):
        parse('[hosts.bench2]\nurl = "gadget://1209:0001"\n')
    with pytest.raises(ConfigError, match=r"'listen': can't listen at usb://.*gateway host --usb"):
        parse('[gateway]\nlisten = "usb://1209:0001"\n')
