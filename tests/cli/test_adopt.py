"""`gateway adopt`: from simulators at the ends of serial lines, and a real advertisement, to a config that is served.

Only ports of the test are looked at: on a real machine there may be real instruments.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from devices.simulators.console import ConsoleBoard
from devices.simulators.line import Simulator
from devices.simulators.multimeter import IDENTITY, SimulatedMultimeter
from devices.simulators.power_supply import SimulatedPowerSupply
from tests.cli.terminal import Terminal

PEER = Path(__file__).parents[1] / "discovery" / "peer.py"


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The ports of a multimeter, a power supply and a board that is no instrument."""
    kinds = {"meter": SimulatedMultimeter(), "supply": SimulatedPowerSupply(), "board": ConsoleBoard()}
    with ExitStack() as lines:
        started = {
            name: lines.enter_context(Simulator(each, link=tmp_path / name))  # type: ignore[arg-type]
            for name, each in kinds.items()
        }
        yield {name: simulator.path for name, simulator in started.items()}


@pytest.fixture
def adopt(command: Any, ports: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str, names: tuple[str, ...] = ("meter", "supply")) -> subprocess.CompletedProcess[str]:
        only = [word for name in names for word in ("--port", ports[name])]
        done: subprocess.CompletedProcess[str] = command("adopt", "--config", "gateway.toml", *only, *words)
        return done

    return run


def test_what_is_plugged_in_is_adopted_and_served(
    command: Any, adopt: Callable[..., Any], ports: dict[str, str]
) -> None:
    done = adopt("--probe", "--no-lan", "--yes", "--baudrate", "9600")
    assert done.returncode == 0, done.stderr
    folder = command.folder / "devices.d"
    assert sorted(path.name for path in folder.iterdir()) == ["dmm1.toml", "psu1.toml"]
    assert (folder / "dmm1.toml").read_text() == (
        f"# {IDENTITY}: written by gateway adopt\n"
        f'[devices.dmm1]\ndriver = "scpi-multimeter"\nport = "{ports["meter"]}"\n'
    )
    assert command("check", "gateway.toml").returncode == 0
    again = adopt("--probe", "--no-lan", "--json")
    assert json.loads(again.stdout)["proposals"] == []
    assert sorted(each["device"] for each in json.loads(again.stdout)["others"]) == ["dmm1", "psu1"]
    (command.folder / "gateway.toml").write_text("[gateway]\nlisten = 'tcp://127.0.0.1:0'\nadvertise = false\n")
    with command.running("serve", "gateway.toml", "--json") as running:
        devices = {each["name"]: each["identity"] for each in running.document()["devices"]}
        assert devices["dmm1"] == IDENTITY
        assert running.stop()[0] == 0


def test_without_leave_nothing_is_asked_and_nothing_written(command: Any, adopt: Callable[..., Any]) -> None:
    done = adopt("--no-lan", "--yes")
    assert done.returncode == 0
    assert done.stdout.startswith("nothing to adopt\n")
    assert "what was not asked is asked with --probe" in done.stderr
    done = adopt("--no-lan", "--probe")
    assert "nothing was written; --yes writes it" in done.stderr
    assert not (command.folder / "devices.d").exists()


def test_a_dry_run_shows_what_would_be_written(command: Any, adopt: Callable[..., Any]) -> None:
    done = adopt("--no-lan", "--probe", "--yes", "--dry-run", names=("meter",))
    assert "devices.d/dmm1.toml:\n" in done.stdout
    assert '  driver = "scpi-multimeter"\n' in done.stdout
    assert not (command.folder / "gateway.toml").exists()


def test_as_json_proposals_are_listed_and_what_else_is_there_with_the_reason(
    command: Any, adopt: Callable[..., Any], ports: dict[str, str]
) -> None:
    done = adopt("--no-lan", "--probe", "--json", "--baudrate", "115200", names=("meter", "board"))
    document = json.loads(done.stdout)
    (proposal,) = document["proposals"]
    assert (proposal["name"], proposal["identity"], proposal["written"]) == ("dmm1", IDENTITY, None)
    assert proposal["table"] == {"driver": "scpi-multimeter", "port": ports["meter"], "baudrate": 115200}
    assert [(each["identity"], each["note"]) for each in document["others"]] == [("", "no answer to *IDN?")]
    assert not (command.folder / "devices.d").exists()


def test_a_port_that_a_program_has_open_is_not_asked(command: Any, adopt: Callable[..., Any], ports: Any) -> None:
    script = "import sys; held = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, ports["meter"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        (other,) = json.loads(adopt("--no-lan", "--probe", "--json", names=("meter",)).stdout)["others"]
        assert other["note"].startswith("in use by ")
        assert f"({holder.pid})" in other["note"]
        assert holder.stdin is not None
        holder.stdin.close()


@pytest.mark.multicast
@pytest.mark.usefixtures("empty_network")
def test_an_instrument_on_the_network_is_listed_with_what_it_says(command: Any, adopt: Callable[..., Any]) -> None:
    items = [b"Manufacturer=ACME", b"Model=Scope", b"SerialNumber=S1", b"FirmwareVersion=1.0"]
    txt = b"".join(bytes([len(item)]) + item for item in items).hex()
    services = [{"type": "_scpi-raw._tcp.local.", "name": "scope", "port": 5025, "txt": txt}]
    line = [*command.network.prefix, sys.executable, str(PEER), "records", json.dumps({"services": services})]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as advertising:
        assert advertising.stdout is not None
        assert b"registered" in advertising.stdout.readline()
        for timeout in ("2", "4", "8"):
            others = json.loads(adopt("--json", "--timeout", timeout, names=("board",)).stdout)["others"]
            if len(others) == 2:
                break
        assert others[1] == {
            "where": "127.0.0.1:5025",
            "transport": "socket",
            "identity": "ACME,Scope,S1,1.0",
            "device": "",
            "note": "",
        }
        assert advertising.stdin is not None
        advertising.stdin.close()


def test_a_config_with_mistakes_is_told_first(command: Any, adopt: Callable[..., Any]) -> None:
    (command.folder / "gateway.toml").write_text("[gateway]\nnam = 3\n")
    done = adopt("--no-lan", "--probe", "--yes")
    assert (done.returncode, "unknown key 'nam'" in done.stderr) == (2, True)


def test_on_a_terminal_each_port_and_each_file_takes_a_yes(command: Any, ports: dict[str, str]) -> None:
    only = [word for name in ("meter", "supply") for word in ("--port", ports[name])]
    words = command.line("adopt", "--config", str(command.folder / "gateway.toml"), "--no-lan", *only)
    terminal = Terminal(words, command.environment(TERM="xterm-256color", LANG="C.UTF-8"))
    try:
        for answer in ("y", "n"):
            terminal.wait_for(r"ask /dev/pts/\d+\? \[y/N\]: ")
            terminal.type(f"{answer}\n")
        shown = terminal.wait_for(r"write it beside .*\? \[y/N\]: ")
        assert "not asked" in shown
        terminal.type("y\n")
        code, shown = terminal.end()
    finally:
        terminal.close()
    assert code == 0, shown
    (file,) = (command.folder / "devices.d").iterdir()
    assert str(file) in shown.replace("\r\n", "")
