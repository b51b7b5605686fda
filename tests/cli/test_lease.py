"""`gateway lease`: a command that has devices to itself, and what others see of it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., "subprocess.CompletedProcess[str]"]
GATEWAY = f"{shlex.quote(sys.executable)} -m gateway"


def under(ask: Ask, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A shell script under a lease of psu1; in it, `gateway` is the command."""
    return ask("lease", "psu1", *words, "--", "sh", "-c", f'gateway() {{ {GATEWAY} "$@"; }}; {script}')


def waiting(command: Any, bench: dict[str, Any], *words: str) -> Any:
    """Another `gateway lease psu1`, which runs until it is stopped."""
    line = ("lease", "psu1", "--gateway", bench["url"], *words)
    return command.running(*line, "--", "sh", "-c", "echo running; exec sleep 100")


# -- using it --------------------------------------------------------------------------------------------------------


def test_calls_of_the_command_use_the_lease_and_the_device_is_safe_afterwards(ask: Ask) -> None:
    done = under(
        ask, "gateway call psu1.set_voltage 2.5 && gateway call psu1.set_output True && gateway read psu1.voltage"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2.5 V\n", "")
    assert ask("read", "psu1.output").stdout == "False\n"
    assert ask("read", "psu1.voltage").stdout == "0.0 V\n"


def test_a_script_that_connects_by_url_or_by_name_uses_the_lease(
    ask: Ask, bench: dict[str, Any], tmp_path: Path
) -> None:
    script = tmp_path / "drive.py"
    script.write_text(
        "import sys, gateway\n"
        "with gateway.connect(sys.argv[1]) as conn:\n"
        "    conn.root.psu1.set_voltage(1.5)\n"
        "    print(conn.root.psu1.voltage)\n"
    )
    settings = {"INSTRUMENT_GATEWAYS": f"fixed={bench['url']}"}
    for place in (bench["url"], "fixed"):
        done = ask("lease", "psu1", "--", sys.executable, str(script), place, **settings)
        assert (done.returncode, done.stdout, done.stderr) == (0, "1.5\n", "")


def test_the_token_is_shown_to_no_other_gateway(ask: Ask, command: Any, tmp_path: Path, lease: dict[str, str]) -> None:
    with command.running("demo", "--name", "other", "--listen", f"unix://{tmp_path}/other", "--json") as other:
        url = other.document()["url"]
        done = ask("call", "psu1.set_voltage", "1", "--gateway", url, **lease)
        assert done.stderr.startswith("error: controlling psu1 takes a lease: gateway lease --gateway unix://")
        assert other.stop()[0] == 0, other.complaints()


def test_a_lease_that_is_over_does_not_keep_anybody_from_reading(ask: Ask) -> None:
    done = ask("read", "psu1.max_voltage", INSTRUMENT_GATEWAY_LEASE="over")
    assert done.stdout == "12.0 V\n"
    assert done.stderr.startswith("the lease in INSTRUMENT_GATEWAY_LEASE is not used: no lease has this token")


@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("kill -TERM $$", 128 + signal.SIGTERM)], ids=["exit", "signal"]
)
def test_the_exit_code_is_that_of_the_command(ask: Ask, script: str, code: int) -> None:
    assert under(ask, script).returncode == code


def test_a_command_that_is_not_there_is_an_error_of_a_shell(ask: Ask) -> None:
    done = ask("lease", "psu1", "--", "no-such-command")
    assert (done.returncode, done.stderr) == (127, "can't run 'no-such-command': No such file or directory\n")


def test_json_is_one_document_and_the_output_of_the_command_goes_to_stderr(ask: Ask, bench: dict[str, Any]) -> None:
    done = under(ask, "echo hello; exit 3", "--json")
    assert (done.returncode, done.stderr) == (3, "hello\n")
    shown = json.loads(done.stdout)
    assert shown.pop("number") > 0
    assert shown == {"gateway": bench["url"], "devices": ["psu1"], "exit": 3, "lost": None}


def test_a_signal_is_passed_on_to_the_command(command: Any, bench: dict[str, Any]) -> None:
    script = "trap 'echo got it; exit 5' INT; echo running; while :; do sleep 0.05; done"
    with command.running("lease", "psu1", "--gateway", bench["url"], "--", "sh", "-c", script) as running:
        running.lines_until("running")
        code, _ = running.stop(signal.SIGINT)
        assert (code, running.rest()) == (5, "got it\n")


# -- waiting, and being asked ----------------------------------------------------------------------------------------


def test_who_does_not_wait_is_told_who_has_it(ask: Ask, lease: dict[str, str]) -> None:
    done = under(ask, "true", "--no-wait")
    assert done.returncode == 1
    assert done.stderr.startswith("error: psu1 is leased by ")
    assert "(sh -c, pid " in done.stderr
    assert done.stdout == ""


def test_who_waits_is_told_the_place_and_the_time_it_may_take(ask: Ask, lease: dict[str, str]) -> None:
    done = under(ask, "true", "--wait", "0.5")
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first == "waiting for psu1: number 1 in the queue, about 5 min"
    assert last.startswith("error: psu1: not granted within ")


def test_a_lease_goes_to_who_waits_when_it_is_released(command: Any, bench: dict[str, Any], ask: Ask) -> None:
    with waiting(command, bench) as first:
        first.lines_until("running")
        (folder := command.folder / "second").mkdir()
        with waiting(type(command)(command.network, folder), bench) as second:
            while "waiting for psu1: number 1" not in second.complaints():
                assert second.process.poll() is None
            (row,) = json.loads(ask("lease", "psu1", "--json").stdout)["leases"]
            assert [each["position"] for each in row["waiting"]] == [1]
            assert first.stop()[0] == 128 + signal.SIGTERM
            second.lines_until("running")
            second.stop()


def test_a_holder_that_is_asked_says_who_asks_and_keeps_it(command: Any, bench: dict[str, Any], ask: Ask) -> None:
    with waiting(command, bench) as holder:
        holder.lines_until("running")
        assert under(ask, "true", "--ask", "--wait", "1").returncode == 1
        assert "(sh -c, pid " in holder.complaints()
        assert "asks for psu1: you keep it; --yield would hand it over\n" in holder.complaints()
        holder.stop()


def test_a_holder_that_yields_hands_the_device_over_as_it_is(command: Any, bench: dict[str, Any], ask: Ask) -> None:
    script = f"{GATEWAY} call psu1.set_voltage 4; echo running; exec sleep 100"
    line = ("lease", "psu1", "--yield", "--gateway", bench["url"], "--", "sh", "-c", script)
    with command.running(*line) as holder:
        holder.lines_until("running")
        done = under(ask, "gateway read psu1.voltage", "--ask")
        assert (done.returncode, done.stdout) == (0, "4.0 V\n")
        assert holder.process.wait(20) == 1
        assert "they get it" in holder.complaints()


# -- losing it -------------------------------------------------------------------------------------------------------


def test_a_command_whose_lease_is_ended_by_force_gets_sigterm_and_the_reason_is_told(
    command: Any, bench: dict[str, Any], ask: Ask
) -> None:
    script = "trap 'echo ending; exit 0' TERM; echo running; while :; do sleep 0.05; done"
    line = ("lease", "psu1", "--gateway", bench["url"], "--", "sh", "-c", script)
    with command.running(*line) as holder:
        holder.lines_until("running")
        done = ask("lease", "--release", "psu1", "--reason", "lunch")
        assert (done.returncode, done.stderr) == (0, "")
        assert holder.process.wait(20) == 1
        assert holder.rest() == "ending\n"
        assert holder.complaints() == "lease lost: lunch (by 127.0.0.1); ending the command\n"


def test_force_takes_the_device_and_says_why(command: Any, bench: dict[str, Any], ask: Ask) -> None:
    with waiting(command, bench, "--json") as holder:
        while "running" not in holder.complaints():
            assert holder.process.poll() is None
        assert under(ask, "gateway call psu1.set_voltage 1", "--force", "the oven is hot").returncode == 0
        assert holder.process.wait(20) == 1
        assert json.loads(holder.rest())["lost"] == {"by": "127.0.0.1", "why": "the oven is hot"}


def test_a_gateway_that_ends_ends_the_command(command: Any, tmp_path: Path) -> None:
    with command.running("demo", "--name", "short", "--listen", f"unix://{tmp_path}/short", "--json") as gateway:
        place = gateway.document()
        (folder := tmp_path / "holder").mkdir()
        with waiting(type(command)(command.network, folder), place) as holder:
            holder.lines_until("running")
            assert gateway.stop()[0] == 0
            assert holder.process.wait(20) == 1
            assert holder.complaints().startswith("lease lost: ")


# -- who has what ----------------------------------------------------------------------------------------------------


def test_without_a_command_it_shows_who_has_what(ask: Ask, lease: dict[str, str], bench: dict[str, Any]) -> None:
    head, *rows = ask("lease").stdout.splitlines()
    assert head.split() == ["device", "state", "who", "has", "it", "since", "ends", "who", "waits"]
    assert rows[0].startswith("psu1      held ")
    assert "sh -c on " in rows[0]
    assert rows[0].endswith("in 5 min if left alone")
    assert [" ".join(row.split()) for row in rows[1:]] == ["dmm1 needs no lease", "console1 needs no lease"]
    shown = json.loads(ask("lease", "psu1", "--json").stdout)
    assert shown["gateway"] == bench["url"]
    (row,) = shown["leases"]
    assert row.keys() == {
        *("device", "needs_lease", "state", "holder", "number", "devices", "held_s", "idle_end_s", "hard_end_s"),
        *("left_s", "asked_by", "grace_s", "waiting"),
    }
    assert (row["device"], row["state"], row["holder"]["program"], row["waiting"]) == ("psu1", "held", "sh -c", [])
