"""`gateway policy explain`: the same rules as a call meets, without a gateway that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.identity.clients import Clients
from gateway.identity.principal import Role

CONFIG = """
[gateway]
listen = "unix:///tmp/nowhere"

[devices.psu1]
driver = "scpi-power-supply"
match = {serial_number = "SIM-PS-1"}
allow = "door.voltage_dc > 2"
[devices.psu1.limits]
voltage = [0, 12]

[devices.door]
driver = "scpi-multimeter"
port = "/dev/null"
disabled = "the cable is broken"
"""


@pytest.fixture
def explain(command: Any, tmp_path: Path) -> Any:
    (tmp_path / "bench.toml").write_text(CONFIG)
    clients = Clients(tmp_path / "identity")
    (tmp_path / "identity").mkdir(mode=0o700)
    clients.add("alice", "a" * 64)
    clients.add("bob", "b" * 64, role=Role.OBSERVE, devices={"door": Role.ADMIN})
    clients.add("mallory", "c" * 64)
    clients.revoke("mallory")

    def run(*words: str, code: int = 0) -> Any:
        places = ("--config", str(tmp_path / "bench.toml"), "--identity", str(tmp_path / "identity"))
        done = command("policy", "explain", *words[:2], *places, "--json", *words[2:])
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


def verdicts(shown: Any) -> dict[str, str]:
    return {rule["rule"]: rule["verdict"] for rule in shown["rules"]}


def test_a_call_within_all_limits_is_allowed_given_lease_and_interlock(explain: Any) -> None:
    shown = explain("alice", "psu1.set_voltage", "10")
    assert shown.keys() == {"client", "call", "access", "allowed", "rules"}
    assert (shown["client"], shown["call"], shown["access"]) == ("alice", "psu1.set_voltage(10)", "control")
    assert shown["allowed"] is True
    assert verdicts(shown) == {
        "role": "allowed",
        "in use": "allowed",
        "lease": "needed",
        "limits": "allowed",
        "interlock": "needed",
    }
    why = {rule["rule"]: rule["why"] for rule in shown["rules"]}
    assert why["role"] == "alice is operate on psu1 (default role); control needs operate: allowed"
    assert why["lease"] == "controlling psu1 takes a lease (it has a safe state: output off, setpoint 0 V)"
    assert why["limits"] == "within the config's limits: psu1.voltage from 0 to 12 V"
    assert why["interlock"] == "must hold at the time of the call: door.voltage_dc > 2"


@pytest.mark.parametrize(
    "words", [("psu1.set_voltage", "40"), ("psu1.set_voltage", "volts=40"), ("psu1.voltage", "40")]
)
def test_a_value_beyond_the_limits_is_refused_whoever_asks(explain: Any, words: tuple[str, ...]) -> None:
    shown = explain("local", *words, code=1)
    (refused,) = [rule for rule in shown["rules"] if rule["verdict"] == "refused"]
    assert refused["rule"] == "limits"
    assert refused["why"].startswith("psu1.voltage must be from 0 to 12 V, says the gateway's config, not 40")


def test_reading_asks_for_the_role_only(explain: Any) -> None:
    shown = explain("bob", "psu1.voltage")
    assert (shown["call"], shown["access"]) == ("psu1.voltage", "read")
    assert verdicts(shown) == {"role": "allowed", "in use": "allowed"}


def test_an_observer_may_not_set(explain: Any) -> None:
    for words in (("psu1.voltage", "1"), ("psu1.set_voltage", "1")):
        shown = explain("bob", *words, code=1)
        assert shown["rules"][0] == {
            "rule": "role",
            "verdict": "refused",
            "why": "bob is observe on psu1 (default role); control needs operate: refused",
        }


def test_a_disabled_device_is_refused(explain: Any) -> None:
    assert verdicts(explain("bob", "door.voltage_dc", code=1)) == {"role": "allowed", "in use": "refused"}


def test_a_revoked_client_is_refused_first(explain: Any) -> None:
    shown = explain("mallory", "psu1.voltage", code=1)
    assert shown["rules"][0]["rule"] == "identity"
    assert shown["rules"][0]["why"].startswith("mallory was revoked on ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("carol", "psu1.voltage"), "no client 'carol'; paired: alice, bob"),
        (("alice", "psu2.voltage"), "the config has no device 'psu2'; did you mean 'psu1'?"),
        (("alice", "psu1.query"), "psu1 exposes no 'query'"),
        (("alice", "psu1.measured_voltage", "1"), "psu1.measured_voltage is a property that can't be set so"),
    ],
)
def test_what_is_not_there_is_an_error(explain: Any, words: tuple[str, ...], message: str) -> None:
    error = explain(*words, code=3)["error"]
    assert (error["code"], error["message"]) == ("not-found", message)


def test_it_is_told_to_people_in_a_table(command: Any, explain: Any, tmp_path: Path) -> None:
    words = ("policy", "explain", "local", "psu1.set_voltage", "40", "--config", str(tmp_path / "bench.toml"))
    done = command(*words)
    assert done.returncode == 1
    head, *_, last = done.stdout.splitlines()
    assert head == "local: psu1.set_voltage(40) (control)"
    assert last == "refused"
