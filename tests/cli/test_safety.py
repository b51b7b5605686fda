"""`gateway estop` and `gateway test-safe`, against a gateway in another process."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Ask = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def stopping(ask: Ask) -> Iterator[Ask]:
    """`ask`; the stop is reset at the end."""
    yield ask
    assert ask("estop", "--reset", "the test is over").returncode == 0


def test_estop_makes_everything_safe_and_keeps_it_so_until_it_is_reset(stopping: Ask, lease: dict[str, str]) -> None:
    assert stopping("call", "psu1.set_voltage", "5", **lease).returncode == 0
    done = stopping("estop", "smoke")
    head, supply, *others, last = done.stdout.splitlines()
    assert (done.returncode, head.split()) == (0, ["device", "safe", "state", "took", "what"])
    assert re.fullmatch(r"psu1 +verified +[\d.]+ m?s", supply)
    assert [re.split(r"  +", row) for row in others] == [
        ["dmm1", "none", "it has no safe state"],
        ["console1", "none", "it has no safe state"],
    ]
    assert last == "stopped: nothing can be controlled until `gateway estop --reset REASON`"
    assert stopping("read", "psu1.voltage").stdout == "0.0 V\n"
    refused = stopping("call", "psu1.set_voltage", "5", **lease)
    assert refused.returncode == 1
    assert "emergency stop since " in refused.stderr
    assert "(smoke); reset it with a reason: gateway estop --reset REASON" in refused.stderr
    assert stopping("estop", "--reset", "it was steam").stdout == "reset: devices can be controlled again\n"
    assert stopping("call", "psu1.set_voltage", "5", **lease).returncode == 0


def test_estop_says_its_state(stopping: Ask, bench: dict[str, Any]) -> None:
    assert stopping("estop", "--state").stdout == "not stopped\n"
    assert json.loads(stopping("estop", "--state", "--json").stdout) == {"gateway": bench["url"], "stopped": None}
    shown = json.loads(stopping("estop", "smoke", "--json").stdout)
    assert shown.keys() == {"gateway", "stopped", "devices"}
    assert [(row["device"], row["outcome"]) for row in shown["devices"]] == [
        ("psu1", "verified"),
        ("dmm1", "none"),
        ("console1", "none"),
    ]
    assert all(row.keys() == {"device", "outcome", "at", "took_s", "why", "detail"} for row in shown["devices"])
    assert re.fullmatch(r"stopped by 127\.0\.0\.1 since \S+: smoke\n", stopping("estop", "--state").stdout)


def test_a_reset_needs_a_reason(stopping: Ask) -> None:
    assert stopping("estop").returncode == 0
    done = stopping("estop", "--reset", " ")
    assert (done.returncode, done.stderr[:27]) == (1, "error: a reset needs a reas")
    assert stopping("estop", "--state").stdout.startswith("stopped by ")


def test_test_safe_brings_a_device_to_its_safe_state_and_says_how_long_it_took(ask: Ask, bench: dict[str, Any]) -> None:
    done = ask("test-safe", "psu1")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"psu1: output off, setpoint 0 V: verified in [\d.]+ m?s\n", done.stdout)
    shown = json.loads(ask("test-safe", "psu1", "--json").stdout)
    assert shown.keys() == {"gateway", "device", "safe_state", "outcome", "at", "took_s", "why", "detail"}
    assert (shown["gateway"], shown["device"], shown["outcome"]) == (bench["url"], "psu1", "verified")


def test_test_safe_disturbs_nobody_who_has_the_device(ask: Ask, lease: dict[str, str]) -> None:
    assert ask("call", "psu1.set_voltage", "3", **lease).returncode == 0
    done = ask("test-safe", "psu1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: psu1 is leased by ")
    assert ask("read", "psu1.voltage").stdout == "3.0 V\n"
    assert ask("test-safe", "psu1", **lease).returncode == 0
    assert ask("read", "psu1.voltage").stdout == "0.0 V\n"


def test_a_device_that_can_not_be_made_safe_is_an_exit_code(command: Any, tmp_path: Any) -> None:
    config = tmp_path / "bench.toml"
    config.write_text(
        f'[gateway]\nlisten = "unix://{tmp_path}/gone"\n'
        f'[devices.psu1]\ndriver = "scpi-power-supply"\nport = "{tmp_path}/no-port"\n'
    )
    with command.running("serve", str(config), "--json") as serving:
        url = serving.document()["url"]
        stopped = command("estop", "--gateway", url)
        assert stopped.returncode == 1
        assert re.search(r"^psu1 +failed ", stopped.stdout, re.MULTILINE)
        assert stopped.stdout.splitlines()[-1] == "stopped; not verified to be safe: psu1"
        tested = command("test-safe", "psu1", "--gateway", url)
        assert tested.returncode == 1
        assert "failed in " in tested.stdout
        serving.stop()


def test_the_emergency_stop_holds_over_a_restart(command: Any, tmp_path: Any) -> None:
    config = tmp_path / "bench.toml"
    config.write_text(
        f'[gateway]\nname = "lab 1/2"\nlisten = "unix://{tmp_path}/lab"\n'
        f'[devices.console1]\ndriver = "serial-console"\nport = "{tmp_path}/no-port"\n'
    )
    url = f"unix://{tmp_path}/lab"

    def state() -> Any:
        return json.loads(command("estop", "--state", "--json", "--gateway", url).stdout)["stopped"]

    with command.running("serve", str(config), "--json") as serving:
        serving.document()
        assert state() is None
        assert command("estop", "smoke", "--gateway", url).returncode == 0
        first = state()
        serving.stop()
    with command.running("serve", str(config), "--json") as serving:
        serving.document()
        assert state() == first
        assert "(smoke) still holds" in serving.complaints()
        assert command("estop", "--reset", "it was steam", "--gateway", url).returncode == 0
        serving.stop()
    with command.running("serve", str(config), "--json") as serving:
        serving.document()
        assert state() is None
        serving.stop()
