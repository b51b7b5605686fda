"""`list`, `describe`, `read`, `call` and `shell`, against a gateway in another process: output, JSON, exit codes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest

import gateway
from gateway.cli.main import COMMANDS, LazyGroup, group, main

Ask = Callable[..., "subprocess.CompletedProcess[str]"]


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """The one JSON document on stdout, which is all there is."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr, which is all there is."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# -- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.multicast
@pytest.mark.usefixtures("empty_network")
def test_list_shows_what_is_on_the_network(command: Any, bench: dict[str, Any], at_once: Any) -> None:
    done, as_json = at_once(partial(command, "list"), partial(command, "list", "--json"))
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["name", "address", "devices", "version"],
        ["cli-bench", bench["url"], "3", "0.1.0"],
    ]
    found = document(as_json)
    assert found.keys() == {"gateways", "asked", "troubles"}
    assert found["asked"] == ["127.0.0.1"]
    (row,) = found["gateways"]
    assert row.keys() == {"name", "url", "source", "addresses", "port", "id", "version", "devices", "tls"}
    assert (row["name"], row["url"], row["source"], row["devices"]) == ("cli-bench", bench["url"], "mdns", 3)


@pytest.mark.multicast
@pytest.mark.usefixtures("empty_network", "bench")
def test_the_only_gateway_is_taken_and_one_of_several_has_to_be_named(command: Any, at_once: Any) -> None:
    read = partial(command, "read", "dmm1.voltage_dc")
    two = partial(read, INSTRUMENT_GATEWAYS="other=tcp://127.0.0.1:1")
    only, plain, as_json = at_once(read, two, partial(two, "--json"))
    assert re.fullmatch(r"-?\d+\.\d+ V\n", only.stdout), only.stderr
    message = complaint(plain, 3)
    assert message.startswith("2 gateways: 'cli-bench' at tcp://127.0.0.1:")
    assert message.endswith("'other' at tcp://127.0.0.1:1; choose one with --gateway NAME_OR_URL")
    assert document(as_json, 3)["error"] == {"code": "ambiguous", "message": message}


@pytest.mark.multicast
def test_a_gateway_is_reached_by_its_name(command: Any, bench: dict[str, Any]) -> None:
    assert command("read", "psu1.max_voltage", "--gateway", bench["name"]).stdout == "12.0 V\n"


@pytest.mark.usefixtures("empty_network")
def test_without_any_gateway_the_error_says_how_to_start_one(command: Any) -> None:
    nobody = {"INSTRUMENT_GATEWAY_INTERFACES": "127.0.0.9"}
    done = command("list", "--timeout", "0.2", **nobody)
    assert (done.returncode, done.stdout[:19]) == (0, "no gateway answered")
    message = complaint(command("describe", **nobody), 3)
    assert "start one with `gateway demo` or `gateway serve CONFIG`" in message


# -- describe --------------------------------------------------------------------------------------------------------


FACTS = {
    "name",
    "driver",
    "state",
    "doc",
    "identity",
    "safe_state",
    "made_safe",
    "needs_lease",
    "lease",
    "owner",
    "notes",
}


def test_describe_lists_the_devices(ask: Ask) -> None:
    head, *rows = ask("describe").stdout.splitlines()
    assert re.split(r"  +", head) == ["device", "driver", "state", "lease", "safe state", "identity"]
    assert [row.split()[:3] for row in rows] == [
        ["psu1", "ScpiPowerSupply", "open"],
        ["dmm1", "ScpiMultimeter", "open"],
        ["console1", "SerialConsole", "open"],
    ]
    assert re.search(r" free +output off, setpoint 0 V \(verified \d\d:\d\d:\d\d\) +Instrument Gateway,", rows[0])
    described = document(ask("describe", "--json"))
    assert described.keys() == {"gateway", "devices"}
    assert [device["name"] for device in described["devices"]] == ["psu1", "dmm1", "console1"]
    supply, meter, _ = described["devices"]
    assert supply.keys() == meter.keys() == FACTS
    assert "Power Supply" in supply["identity"]
    assert (supply["needs_lease"], meter["needs_lease"]) == (True, False)
    assert supply["made_safe"]["outcome"] == "verified"
    assert (meter["safe_state"], meter["made_safe"], meter["lease"]) == (None, None, None)


def test_describe_says_who_has_a_device(ask: Ask, lease: dict[str, str]) -> None:
    (supply, *_) = document(ask("describe", "--json"))["devices"]
    assert supply["lease"].keys() == {"principal", "program", "host", "pid", "number", "held_s", "left_s", "waiting"}
    assert supply["lease"]["program"] == "sh -c"
    assert re.search(r"^lease: \S+: sh -c on \S+, for \d+ s$", ask("describe", "psu1").stdout, re.MULTILINE)


def test_describe_shows_the_members_of_a_device(ask: Ask) -> None:
    lines = ask("describe", "psu1").stdout.splitlines()
    assert lines[0] == "psu1: ScpiPowerSupply, open"
    assert lines[2].startswith("identity: Instrument Gateway,Simulated Power Supply")
    assert lines[3].startswith("safe state: output off, setpoint 0 V (verified ")
    (voltage,) = [line for line in lines if line.startswith("voltage ")]
    assert re.match(r"voltage +property, settable +-> float +V +read +The voltage setpoint\.", voltage)
    described = document(ask("describe", "psu1", "--json"))
    assert described.keys() == FACTS | {"gateway", "members"}
    (row,) = [row for row in described["members"] if row["name"] == "set_voltage"]
    assert row.keys() == {"name", "kind", "signature", "doc", "unit", "access", "settable"}
    assert (row["kind"], row["signature"], row["unit"]) == ("method", "(volts: float) -> None", "V")


# -- read and call ---------------------------------------------------------------------------------------------------


def test_read_prints_value_and_unit(ask: Ask, bench: dict[str, Any]) -> None:
    assert ask("read", "psu1.max_voltage").stdout == "12.0 V\n"
    assert ask("read", "psu1.state").stdout == "open\n"
    assert document(ask("read", "psu1.max_voltage", "--json")) == {
        "gateway": bench["url"],
        "device": "psu1",
        "member": "max_voltage",
        "unit": "V",
        "value": 12.0,
    }


def test_watch_reads_as_often_as_asked(ask: Ask) -> None:
    lines = ask("read", "dmm1.voltage_dc", "--watch", "0.05", "--count", "3").stdout.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r" +\d+\.\d\d s  -?\d+\.\d+ V", line) for line in lines)
    watched = document(ask("read", "dmm1.voltage_dc", "--watch", "0.05", "--count", "3", "--json"))
    assert watched.keys() == {"gateway", "device", "member", "unit", "readings"}
    times = [reading["t"] for reading in watched["readings"]]
    assert len(times) == 3
    assert times[2] >= 0.1


def test_call_takes_literals_keywords_and_negative_numbers(ask: Ask, lease: dict[str, str]) -> None:
    assert ask("call", "psu1.set_voltage", "2.5", **lease).returncode == 0
    assert ask("read", "psu1.voltage").stdout == "2.5 V\n"
    assert ask("call", "psu1.set_voltage", "volts=1", **lease).returncode == 0
    assert ask("read", "psu1.voltage").stdout == "1.0 V\n"
    refused = ask("call", "psu1.set_voltage", "-1.5", **lease)
    assert complaint(refused, 1) == "psu1.voltage must be from 0 to 12 V, not -1.5"
    assert ask("call", "psu1.set_output", "True", **lease).returncode == 0
    assert ask("read", "psu1.output").stdout == "True\n"
    assert ask("call", "console1.write", r"b'\r'").returncode == 0
    assert ask("call", "console1.read_until", "b'> '").stdout.endswith("board> '\n")


def test_call_gives_lists_and_arrays_in_full_away_from_a_terminal(ask: Ask) -> None:
    assert len(json.loads(ask("call", "dmm1.read", "50").stdout)) == 50
    called = document(ask("call", "dmm1.waveform", "500", "--json"))
    assert called.keys() == {"gateway", "device", "member", "unit", "value"}
    assert len(called["value"]) == 500
    assert all(isinstance(value, float) for value in called["value"])


ERRORS = [
    (("read", "psu1"), 2, "usage", "'psu1' is not DEVICE.MEMBER, such as psu1.voltage; see gateway read --help"),
    (("read", "psu1.identify"), 2, "usage", "psu1.identify is a method; use: gateway call psu1.identify"),
    (("call", "psu1.voltage"), 2, "usage", "psu1.voltage is a property; use: gateway read psu1.voltage"),
    (("read", "psu1.state", "--count", "2"), 2, "usage", "--count goes with --watch SECONDS"),
    (("read", "psu2.voltage"), 3, "not-found", "no device 'psu2' at "),
    (("read", "psu1.voltag"), 3, "not-found", "psu1 has no 'voltag'; did you mean 'voltage'?"),
    (("describe", "dmm"), 3, "not-found", "no device 'dmm' at "),
    (
        ("call", "psu1.set_voltage", "3 V"),
        1,
        "not-leased",
        "controlling psu1 takes a lease: gateway lease psu1 -- gateway call psu1.set_voltage '3 V'",
    ),
    (("lease", "psu2", "--", "true"), 3, "not-found", "no device 'psu2' here; there are: psu1, dmm1, console1"),
    (("lease", "psu2"), 3, "not-found", "no device 'psu2' at "),
    (("lease", "--", "true"), 2, "usage", "say which devices: gateway lease psu1 -- COMMAND"),
    (("lease", "psu1", "--"), 2, "usage", "say behind -- which command to run"),
    (("lease", "psu1", "--no-wait"), 2, "usage", "--no-wait needs a command to run"),
    (("lease", "psu1", "--no-wait", "--wait", "1", "--", "true"), 2, "usage", "--no-wait goes neither with --wait"),
    (("lease", "--release", "psu1"), 2, "usage", "--release DEVICE and --reason TEXT go together"),
    (("lease", "--release", "psu1", "--reason", "lunch"), 3, "not-found", "there is no lease of 'psu1'"),
    (("lease", "psu1", "--soft", "-1", "--", "true"), 1, "out-of-range", "soft_s must be from 0.1 to 86400 s"),
    (("estop", "smoke", "--state"), 2, "usage", "REASON, --reset and --state exclude each other"),
    (("test-safe", "psu2"), 3, "not-found", "no device 'psu2' at "),
    (("test-safe", "dmm1"), 3, "not-found", "dmm1 has no safe state; declare one: [devices.dmm1.safe]"),
    (("call", "console1.read_until", "b'never'", "0.1"), 4, "call-timeout", "console1"),
    (
        ("call", "console1.read_until", "b'never'", "5", "--timeout", "0.3"),
        4,
        "call-timeout",
        "result expired: no answer",
    ),
    (("shell", "-c", "psu1.query('*RST')"), 1, "access-denied", "psu1: 'query' is not exposed"),
    (("shell", "-c", "1/0"), 1, "zero-division-error", "ZeroDivisionError: division by zero"),
    (("shell", "-c", "1 +"), 2, "usage", "--command is not Python: "),
    (("read", "psu1.state", "--gateway", "tcp://127.0.0.1:1"), 4, "link-down", "can't reach tcp://127.0.0.1:1"),
    (("read", "psu1.state", "--gateway", "ftp://x"), 2, "config-error", "'ftp://x': unknown scheme"),
    (("read", "psu1.state", "--timeout", "0"), 2, "usage", "Invalid value for '--timeout'"),
    (("reed", "psu1.state"), 2, "usage", "no command 'reed'; did you mean 'read'?"),
    (("read", "psu1.state", "--jsonn"), 2, "usage", "No such option"),
]


@pytest.mark.parametrize(("words", "code", "name", "message"), ERRORS, ids=[" ".join(words) for words, *_ in ERRORS])
def test_an_error_has_a_code_and_a_message_that_helps(
    ask: Ask, words: tuple[str, ...], code: int, name: str, message: str
) -> None:
    error = document(ask(words[0], "--json", *words[1:]), code)["error"]
    assert error.keys() == {"code", "message"}
    assert error["code"] == name
    assert message in error["message"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [(words, code, message) for words, code, name, message in ERRORS if name in {"usage", "not-found", "link-down"}][
        ::3
    ],
)
def test_an_error_is_one_line_on_stderr(ask: Ask, words: tuple[str, ...], code: int, message: str) -> None:
    assert message in complaint(ask(*words), code)


def test_an_error_of_a_call_under_a_lease_is_the_devices(ask: Ask, lease: dict[str, str]) -> None:
    for words, name, message in (
        (("psu1.set_voltage", "99"), "out-of-range", "psu1.voltage must be from 0 to 12 V, not 99"),
        (("psu1.set_output", "on"), "type-error", "TypeError: psu1.output must be True or False, not str"),
    ):
        error = document(ask("call", *words, "--json", **lease), 1)["error"]
        assert error["code"] == name
        assert message in error["message"]


def test_debug_shows_the_traceback(ask: Ask) -> None:
    done = ask("call", "psu1.set_voltage", "99", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_server_that_is_no_gateway_is_told_apart(command: Any, tmp_path: Path) -> None:
    class Calculator(gateway.Service):
        def exposed_add(self, a: int, b: int) -> int:
            return a + b

    with gateway.Server(Calculator, f"unix://{tmp_path}/calculator") as server:
        message = complaint(command("describe", "--gateway", server.url), 3)
    assert "speaks RPyC, but is no instrument gateway" in message


# -- shell -----------------------------------------------------------------------------------------------------------


def test_shell_has_the_devices_by_name(ask: Ask) -> None:
    assert ask("shell", "-c", "print(psu1.max_voltage)\nroot.names()").stdout == "12.0\n['psu1', 'dmm1', 'console1']\n"
    ran = document(ask("shell", "--json", "-c", "print('hello'); dmm1.waveform(3) * 0"))
    assert ran.keys() == {"gateway", "output", "value"}
    assert (ran["output"], ran["value"]) == ("hello\n", [0.0, 0.0, 0.0])
    assert ask("shell", "-c", "exit(7)").returncode == 7


def test_shell_runs_what_is_piped_into_it_and_goes_on_after_an_error(ask: Ask) -> None:
    done = ask("shell", typed="psu1.nothing\nprint(psu1.max_voltage)\n")
    assert done.returncode == 0
    assert done.stdout == "12.0\n"
    assert done.stderr.startswith("AccessDenied: psu1: 'nothing' is not exposed")


def test_shell_gets_a_lease_and_gives_it_back(ask: Ask) -> None:
    used = ask("shell", "-c", "bench = lease('psu1')\nbench.psu1.set_voltage(2)\nprint(psu1.voltage)\nbench.release()")
    assert (used.returncode, used.stdout, used.stderr) == (0, "2.0\n", "")
    assert ask("read", "psu1.voltage").stdout == "0.0 V\n"


# -- every command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_debug_and_a_documented_form(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(group, LazyGroup)
    found = group.get_command(click.Context(group), name)
    for words in [[name, each] for each in found.commands] if isinstance(found, click.Group) else [[name]]:
        assert main([*words, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "--json" in shown
        assert "--debug" in shown
        assert "JSON" in shown.partition("Options:")[0] or name == "stdio"


def test_ctrl_c_ends_a_watch_without_a_traceback(command: Any, bench: dict[str, Any]) -> None:
    with command.running("read", "dmm1.voltage_dc", "--watch", "0.05", "--gateway", bench["url"]) as running:
        running.lines_until(" V")
        code, took_s = running.stop(signal.SIGINT)
        assert (code, running.complaints()) == (130, "interrupted\n")
        assert took_s < 2


def test_a_reader_that_leaves_early_is_no_error_message(command: Any, bench: dict[str, Any]) -> None:
    line = [*command.line("read", "dmm1.voltage_dc", "--watch", "0.01", "--gateway", bench["url"]), "--count", "500"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=command.environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == b""
