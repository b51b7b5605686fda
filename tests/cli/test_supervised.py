"""`gateway serve` as the processes that it is: what happens when one of them dies, hangs, or is told something."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import gateway
from devices.simulators.line import Simulator
from devices.simulators.power_supply import SimulatedPowerSupply
from gateway.errors import DeviceUnavailable, EmergencyStop, GatewayError
from gateway.server.audit import last_records, verify
from tests.cli.terminal import Terminal

PATIENCE_S = 30.0

BROKEN_DRIVER = """
import os, pathlib, signal
from devices.base import Device
from gateway.service.exposure import exposed

class Broken(Device):
    safe_state = "asleep"

    @exposed(access="read")
    def identify(self):
        return "broken"

    @exposed
    def make_safe(self):
        if pathlib.Path("deadly").exists():
            os.kill(os.getpid(), signal.SIGSEGV)

    def _connect(self):
        pass

    def _disconnect(self):
        pass
"""


class Supply(SimulatedPowerSupply):
    """Remembers when its output was switched off, and can be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.off_at = 0.0
        self.slow_s = 0.0
        self.asked_at = 0.0

    def receive(self, data: bytes) -> bytes:
        self.asked_at = time.monotonic()
        if self.slow_s:
            time.sleep(self.slow_s)
        return super().receive(data)

    def _set_output(self, parameters: list[bytes]) -> None:
        was = self.output
        super()._set_output(parameters)
        if was and not self.output:
            self.off_at = time.monotonic()


@pytest.fixture
def supply() -> Supply:
    return Supply()


@pytest.fixture
def port(supply: Supply) -> Iterator[str]:
    with Simulator(supply) as line:
        yield line.path


@pytest.fixture
def write(command: Any, port: str) -> Callable[..., Path]:
    """Writes the config: `psu1`, and what else is given as text."""

    def to_file(more: str = "", *, psu1: str = "", section: str = "") -> Path:
        text = f'[gateway]\nlisten = "unix://{command.folder}/socket"\nadvertise = false\n{section}\n'
        text += f'[devices.psu1]\ndriver = "scpi-power-supply"\nport = "{port}"\n{psu1}\n{more}\n'
        path: Path = command.folder / "gateway.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def worker_of(running: Any) -> int:
    (worker,) = children(running.process.pid)
    return worker


def kill_worker(running: Any, number: int = signal.SIGKILL) -> int:
    """Kill it, and wait until it is gone."""
    worker = worker_of(running)
    os.kill(worker, number)
    until(lambda: is_gone(worker), "the end of the worker")
    return worker


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """What `condition` gives, once it is true. An error of the gateway's counts as false."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = condition()
        except (GatewayError, OSError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return True


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection, made as soon as somebody serves."""
    with ExitStack() as stack:

        def connect() -> Any:
            with ExitStack() as attempt:
                conn = attempt.enter_context(gateway.connect(url))
                conn.root.names()  # one that is just dying may have taken the connection
                stack.push(attempt.pop_all())
                return conn

        yield until(connect, "serving")


@contextmanager
def switched_on(url: str) -> Iterator[Any]:
    """The supply is on, and leased."""
    with gateway.connect(url) as conn, conn.lease("psu1") as mine:
        mine.psu1.set_voltage(5)
        mine.psu1.set_output(True)
        yield mine


# -- the gateway dies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "why"),
    [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "hung: no sign of life")],
    ids=["killed", "stopped"],
)
def test_a_gateway_that_dies_or_hangs_leaves_its_devices_safe_and_is_restarted(
    command: Any, supply: Supply, write: Callable[..., Path], number: int, why: str
) -> None:
    with command.running("serve", str(write()), "--json") as running:
        url = running.document()["url"]
        with switched_on(url):
            first = kill_worker(running, number)
            until(lambda: not supply.output, "the safe state")
        with connected(url) as conn:
            made_safe = conn.root.describe("psu1")["made_safe"]
            assert made_safe["outcome"] == "verified"
            assert why in made_safe["why"]
            assert worker_of(running) != first
            with conn.lease("psu1") as mine:
                mine.psu1.set_output(True)
                assert supply.output is True
        assert running.stop()[0] == 0
        assert running.rest() == ""  # the document came once
        complaints = running.complaints()
        assert re.search(f"ERROR .*the gateway {why}.*; its devices are made safe", complaints)
        assert "psu1: safe state verified" in complaints
        assert "the gateway serves again, after 1 restart" in complaints
    log = command.folder / "audit.jsonl"
    assert verify(log).ok
    ours = [record.fields for record in last_records(log, 100) if record.fields["identity"] == "the supervisor"]
    assert [(each["device"], each["method"], each["outcome"]) for each in ours] == [
        ("", "restart", "died"),
        ("psu1", "safe state", "verified"),
    ]
    assert all(why in each["note"] for each in ours)


def test_a_safe_state_that_the_config_declares_is_what_the_supervisor_brings_about(
    command: Any, supply: Supply, write: Callable[..., Path]
) -> None:
    config = write(psu1="[devices.psu1.safe]\noutput = false\nvoltage = 1.5")
    with command.running("serve", str(config), "--json") as running:
        with switched_on(running.document()["url"]):
            kill_worker(running)
            until(lambda: not supply.output and supply.voltage == 1.5)


def test_a_gateway_can_die_again_and_again(command: Any, supply: Supply, write: Callable[..., Path]) -> None:
    with command.running("serve", str(write()), "--json") as running:
        url = running.document()["url"]
        for _ in range(5):
            with connected(url) as conn, conn.lease("psu1") as mine:
                mine.psu1.set_output(True)
                kill_worker(running)
                until(lambda: not supply.output, "the safe state")
        with connected(url) as conn:
            assert conn.root.names() == ["psu1"]


def test_the_restarted_gateway_serves_what_the_dead_one_did_and_not_a_file_that_is_being_edited(
    command: Any, write: Callable[..., Path]
) -> None:
    config = write()
    with command.running("serve", str(config), "--json") as running:
        url = running.document()["url"]
        config.write_text("[devices", encoding="utf-8")
        kill_worker(running)
        with connected(url) as conn:
            assert conn.root.names() == ["psu1"]


def test_a_restarted_gateway_is_where_it_was(command: Any, write: Callable[..., Path]) -> None:
    config = write()
    text = config.read_text(encoding="utf-8").replace(f"unix://{command.folder}/socket", "tcp://127.0.0.1:0")
    config.write_text(text, encoding="utf-8")
    with command.running("serve", str(config), "--json") as running:
        kept = running.document()["url"]
        kill_worker(running)
        until(lambda: "serves again" in running.complaints())
        running.process.send_signal(signal.SIGHUP)
        status = command("describe", "--gateway", kept, "--json")
        assert [device["name"] for device in json.loads(status.stdout)["devices"]] == ["psu1"]
        assert running.stop()[0] == 0
        assert "takes effect at the next start" not in running.complaints()


def test_an_emergency_stop_outlives_the_gateway(command: Any, write: Callable[..., Path]) -> None:
    with command.running("serve", str(write()), "--json") as running:
        url = running.document()["url"]
        with gateway.connect(url) as conn:
            conn.root.estop("smoke")
            before = conn.root.estop_state()
            kill_worker(running)
        for _ in range(2):
            with connected(url) as conn:
                assert conn.root.estop_state() == before
                with conn.lease("psu1") as mine, pytest.raises(EmergencyStop, match="smoke"):
                    mine.psu1.set_output(True)
            kill_worker(running)
        with connected(url) as conn:
            conn.root.estop_reset("a fuse; replaced")
            with conn.lease("psu1") as mine:
                mine.psu1.set_output(True)


def test_a_driver_that_takes_its_process_along_does_not_take_the_supervisor_along(
    command: Any, supply: Supply, write: Callable[..., Path]
) -> None:
    (command.folder / "broken.py").write_text(BROKEN_DRIVER, encoding="utf-8")
    config = write('[devices.bad]\ndriver = "broken:Broken"')
    with command.running("serve", str(config), "--json") as running:
        url = running.document()["url"]
        with switched_on(url):
            (command.folder / "deadly").touch()
            kill_worker(running)
            until(lambda: "may not be in their safe state: " in running.complaints(), "a report")
        assert re.search(r"safe state: .*\bbad\b", running.complaints())
        (command.folder / "deadly").unlink()
        assert "the process of its driver was killed by SIGSEGV" in running.complaints()
        with connected(url) as conn:
            assert conn.root.bad.identify() == "broken"
        assert supply.output is False
        assert running.stop()[0] == 0


def test_gateways_that_die_while_they_start_are_given_up_with_a_last_word(
    command: Any, write: Callable[..., Path]
) -> None:
    (command.folder / "broken.py").write_text(BROKEN_DRIVER, encoding="utf-8")
    (command.folder / "deadly").touch()
    done = command("serve", str(write('[devices.bad]\ndriver = "broken:Broken"')))
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert (
        "giving up: 5 gateways in a row died while starting, the last one so: the gateway was killed by SIGSEGV" in last
    )
    assert "--no-supervise" in last


# -- the supervisor dies ---------------------------------------------------------------------------------------------


def test_a_gateway_without_its_supervisor_ends_and_leaves_its_devices_safe(
    command: Any, supply: Supply, write: Callable[..., Path]
) -> None:
    with command.running("serve", str(write()), "--json") as running:
        url = running.document()["url"]
        with gateway.connect(url) as conn, conn.lease("psu1") as mine:
            mine.psu1.set_output(True)
            worker = worker_of(running)
            running.process.kill()
            until(lambda: is_gone(worker), "the end of the worker")
            assert supply.output is False
        assert "the supervisor is gone; the gateway ends" in running.complaints()


# -- being told to end -----------------------------------------------------------------------------------------------


def test_the_end_can_be_asked_for_in_the_middle_of_a_restart(
    command: Any, supply: Supply, write: Callable[..., Path]
) -> None:
    with command.running("serve", str(write()), "--json") as running:
        with switched_on(running.document()["url"]):
            supply.slow_s = 0.1
            kill_worker(running)
            killed_at = time.monotonic()
            until(lambda: supply.asked_at > killed_at, "somebody who makes it safe")
            assert supply.output is True
            assert running.stop(signal.SIGTERM)[0] == 0
        assert supply.output is False
        assert children_are_gone(running)


def test_the_end_can_be_asked_for_while_the_restarted_gateway_starts(
    command: Any, supply: Supply, write: Callable[..., Path]
) -> None:
    with command.running("serve", str(write()), "--json") as running:
        running.document()
        first = worker_of(running)
        os.kill(first, signal.SIGKILL)
        until(lambda: "psu1: safe state" in running.complaints())
        assert running.stop(signal.SIGINT)[0] == 130
        assert supply.output is False
        assert "Traceback" not in running.complaints()


def children_are_gone(running: Any) -> bool:
    try:
        return not children(running.process.pid)
    except OSError:
        return True


def test_a_terminal_that_is_closed_ends_the_gateway(command: Any, supply: Supply, write: Callable[..., Path]) -> None:
    terminal = Terminal(command.line("serve", str(write())), command.environment())
    url = f"unix://{command.folder}/socket"
    terminal.wait_for("serving ")
    with connected(url) as conn, conn.lease("psu1") as mine:
        mine.psu1.set_output(True)
        worker = until(lambda: children(terminal.process.pid))[0]
        os.close(terminal._ours)
        assert terminal.process.wait(PATIENCE_S) in (0, 1)  # the last words have nowhere to go
        until(lambda: is_gone(worker))
        assert supply.output is False


def test_ctrl_c_on_a_terminal_ends_it_once(command: Any, supply: Supply, write: Callable[..., Path]) -> None:
    terminal = Terminal(command.line("serve", str(write())), command.environment())
    try:
        terminal.wait_for("serving ")
        terminal.type("\x03")
        code, shown = terminal.end()
        assert code == 130
        assert "in their safe state: psu1" in shown
        assert "Traceback" not in shown
        assert "restart" not in shown
    finally:
        terminal.close()


# -- SIGHUP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--no-supervise"]], ids=["supervised", "alone"])
def test_sighup_reads_the_config_again(
    command: Any, supply: Supply, write: Callable[..., Path], flags: list[str]
) -> None:
    other = Supply()
    other.output = True
    with Simulator(other) as line, command.running("serve", str(write()), "--json", *flags) as running:
        url = running.document()["url"]
        with gateway.connect(url) as conn, conn.lease("psu1") as mine:
            mine.psu1.set_output(True)
            write(f'[devices.psu2]\ndriver = "scpi-power-supply"\nport = "{line.path}"', section='name = "new"')
            running.process.send_signal(signal.SIGHUP)
            until(lambda: conn.root.names() == ["psu1", "psu2"] and not other.output, "a second device")
            assert mine.psu1.output is True
            until(lambda: "takes effect at the next start: gateway.name" in running.complaints())
            write()
            psu2 = conn.root.psu2
            running.process.send_signal(signal.SIGHUP)
            until(lambda: conn.root.names() == ["psu1"], "one device less")
            with pytest.raises(DeviceUnavailable):
                psu2.identify()
            assert mine.psu1.output is True
        assert running.stop()[0] == 0
        assert running.rest() == ""


@pytest.mark.parametrize("flags", [[], ["--no-supervise"]], ids=["supervised", "alone"])
def test_a_broken_config_changes_nothing_and_is_one_line(
    command: Any, supply: Supply, write: Callable[..., Path], flags: list[str]
) -> None:
    with command.running("serve", str(write()), "--json", *flags) as running:
        url = running.document()["url"]
        with gateway.connect(url) as conn, conn.lease("psu1") as mine:
            mine.psu1.set_output(True)
            write(psu1="prot = 1")
            running.process.send_signal(signal.SIGHUP)
            until(lambda: "unknown key 'prot'" in running.complaints(), "a complaint")
            assert mine.psu1.output is True
        complaints = running.complaints()
        assert complaints.count("\n") == 1
        assert "the config was not taken up, and nothing has changed: " in complaints
        assert running.stop()[0] == 0


def test_what_was_read_again_is_what_a_restarted_gateway_serves_and_the_supervisor_makes_safe(
    command: Any, write: Callable[..., Path]
) -> None:
    other = Supply()
    with Simulator(other) as line, command.running("serve", str(write()), "--json") as running:
        url = running.document()["url"]
        write(f'[devices.psu2]\ndriver = "scpi-power-supply"\nport = "{line.path}"')
        running.process.send_signal(signal.SIGHUP)
        with gateway.connect(url) as conn:
            until(lambda: conn.root.names() == ["psu1", "psu2"], "a second device")
            until(lambda: conn.root.describe("psu2")["made_safe"], "the start of the second device")
            with conn.lease("psu2") as mine:
                until(lambda: mine.psu2.set_output(True) is None)
                kill_worker(running)
                until(lambda: not other.output)
        with connected(url) as conn:
            assert conn.root.names() == ["psu1", "psu2"]
        assert "psu2: safe state verified" in running.complaints()


# -- the rest of `serve` ---------------------------------------------------------------------------------------------


def test_the_service_manager_is_told_how_it_goes(command: Any, write: Callable[..., Path]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(command.folder / "notify"))
        manager.settimeout(PATIENCE_S)
        told: list[str] = []

        def hear(wanted: str) -> None:
            while not any(wanted in each for each in told):
                told.append(manager.recv(4096).decode())
            told.clear()

        environment = {"NOTIFY_SOCKET": str(command.folder / "notify"), "WATCHDOG_USEC": "1000000"}
        with command.running("serve", str(write()), "--json", **environment) as running:
            hear("READY=1\nSTATUS=serving 1 of 1 devices at unix:")
            running.document()
            hear("WATCHDOG=1")
            running.process.send_signal(signal.SIGHUP)
            hear("RELOADING=1")
            hear("READY=1")
            kill_worker(running)
            hear("STATUS=the gateway was killed by SIGKILL; making the devices safe")
            hear("READY=1\nSTATUS=serving")
            hear("WATCHDOG=1")
            running.process.send_signal(signal.SIGTERM)
            hear("STOPPING=1")
            assert running.process.wait(PATIENCE_S) == 0


def test_a_gateway_alone_tells_the_service_manager_itself(command: Any, write: Callable[..., Path]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(command.folder / "notify"))
        manager.settimeout(PATIENCE_S)
        environment = {"NOTIFY_SOCKET": str(command.folder / "notify"), "WATCHDOG_USEC": "1000000"}
        with command.running("serve", str(write()), "--no-supervise", **environment) as running:
            told = set()
            while not {"READY=1", "WATCHDOG=1"} <= told:
                told.add(manager.recv(4096).decode().split("\n")[0])
            assert children(running.process.pid) == []
            running.process.send_signal(signal.SIGTERM)
            while manager.recv(4096) != b"STOPPING=1":
                pass
            assert running.process.wait(PATIENCE_S) == 0


def test_an_open_network_takes_a_flag_and_is_warned_about_at_every_start(
    command: Any, write: Callable[..., Path]
) -> None:
    config = write()
    text = config.read_text(encoding="utf-8").replace(f"unix://{command.folder}/socket", "tcp://0.0.0.0:0")
    config.write_text(text, encoding="utf-8")
    done = command("serve", str(config))
    assert done.returncode == 2
    assert "--insecure-lan" in done.stderr
    assert done.stderr.count("\n") == 1
    with command.running("serve", str(config), "--insecure-lan", "--json") as running:
        assert running.document()["local_only"] is False
        assert running.complaints().startswith("INSECURE: anybody who reaches tcp://0.0.0.0:0 can use the instruments")
        kill_worker(running)
        until(lambda: running.complaints().count("INSECURE: ") == 2)
        until(lambda: "serves again" in running.complaints())
        running.process.send_signal(signal.SIGHUP)  # the flag holds for what is read later too
        assert running.stop()[0] == 0
        assert "not taken up" not in running.complaints()


@pytest.mark.parametrize("where", ["default", "named", "off"])
def test_the_audit_log_is_where_the_config_says(
    command: Any, supply: Supply, write: Callable[..., Path], where: str
) -> None:
    named = command.folder / "elsewhere" / "log"
    section = {"default": "", "named": f"audit = {json.dumps(str(named))}", "off": 'audit = "off"'}[where]
    with command.running("serve", str(write(section=section)), "--json") as running:
        url = running.document()["url"]
        with switched_on(url):
            pass
        until(lambda: not supply.output)
        assert running.stop()[0] == 0
        assert running.complaints() == ""
    there = [path for path in (command.folder / "audit.jsonl", named) if path.exists()]
    assert there == {"default": [command.folder / "audit.jsonl"], "named": [named], "off": []}[where]
    for path in there:
        methods = [record.fields["method"] for record in last_records(path, 100)]
        assert "set_output" in methods


def test_a_second_gateway_is_refused_and_the_first_one_is_left_alone(
    command: Any, supply: Supply, write: Callable[..., Path]
) -> None:
    config = write()
    text = config.read_text(encoding="utf-8").replace(f"unix://{command.folder}/socket", "tcp://127.0.0.1:0")
    config.write_text(text, encoding="utf-8")
    with command.running("serve", str(config), "--json") as running:
        url = running.document()["url"]
        config.write_text(text.replace("tcp://127.0.0.1:0", url), encoding="utf-8")
        done = command("serve", str(config), "--json")
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["code"] == "config-error"
        assert running.stop()[0] == 0
