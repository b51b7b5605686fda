"""Where a gateway may listen, as a table."""

from __future__ import annotations

import pytest

from gateway.config import parse
from gateway.config.listening import listen_problem, listen_warning

HARMLESS = [
    "tcp://127.0.0.1:18871",
    "tcp://127.8.9.1",
    "tcp://localhost",
    "tcp://:0",
    "tcp://[::1]:1",
    "unix:///run/gateway.sock",
    "tls://0.0.0.0:18871",
    "tls://192.168.1.20?identity=/etc/x",
    "serial:///dev/ttyAMA0",
    "no url at all",
]
OPEN = ["tcp://0.0.0.0", "tcp://192.168.1.20:4000", "tcp://[::]:1", "tcp://bench3:18871", "tcp://[fe80::1%eth0]:1"]


@pytest.mark.parametrize("url", HARMLESS)
@pytest.mark.parametrize("insecure_lan", [False, True])
@pytest.mark.parametrize("hazardous", [(), ("laser1",)])
def test_what_nobody_else_reaches_or_what_asks_for_proof_needs_nothing(
    url: str, insecure_lan: bool, hazardous: tuple[str, ...]
) -> None:
    assert listen_problem(url, insecure_lan=insecure_lan, hazardous=hazardous) == ""
    assert listen_warning(url, insecure_lan=insecure_lan) == ""


@pytest.mark.parametrize("url", OPEN)
def test_a_network_takes_tls_or_a_word_that_says_what_it_is(url: str) -> None:
    problem = listen_problem(url)
    assert problem.startswith(f"{url}: anybody on that network could use the instruments; listen at tls://")
    assert "insecure_lan = true (--insecure-lan)" in problem
    assert listen_problem(url, insecure_lan=True) == ""
    assert listen_warning(url, insecure_lan=True).startswith(f"INSECURE: anybody who reaches {url}")
    assert listen_warning(url) == ""


@pytest.mark.parametrize("url", OPEN)
def test_hazardous_devices_are_never_open_to_a_network(url: str) -> None:
    problem = listen_problem(url, insecure_lan=True, hazardous=["laser1", "hv1"])
    assert "insecure_lan is not for hazardous devices (laser1, hv1)" in problem
    assert "\n" not in problem


def test_the_fix_can_be_pasted() -> None:
    assert "tls://[fe80::1%eth0]:5 " in listen_problem("tcp://[fe80::1%eth0]:5")
    assert "tls://10.0.0.1:18871 " in listen_problem("tcp://10.0.0.1")
    assert "(a, b, c, d, e, ...)" in listen_problem("tcp://10.0.0.1", insecure_lan=True, hazardous="abcdefgh")


def test_the_config_says_it_and_says_no_by_default() -> None:
    devices = b'\n[devices.psu1]\ndriver = "scpi-power-supply"\n'
    assert not parse(b"[gateway]" + devices, file="f").gateway.insecure_lan
    assert parse(b"[gateway]\ninsecure_lan = true" + devices, file="f").gateway.insecure_lan
