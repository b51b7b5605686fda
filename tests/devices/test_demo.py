"""The demo's bench: config tables that the drivers take, and nothing left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devices import demo
from devices.base import Device
from devices.console import SerialConsole
from devices.demo import open_bench
from devices.multimeter import ScpiMultimeter
from devices.power_supply import ScpiPowerSupply
from gateway.errors import DeviceUnavailable

ROOT = Path(__file__).resolve().parents[2]
DRIVERS: dict[str, type[Device]] = {
    "scpi-power-supply": ScpiPowerSupply,
    "scpi-multimeter": ScpiMultimeter,
    "serial-console": SerialConsole,
}


def build(name: str, table: dict[str, Any]) -> Any:
    options = dict(table)
    driver = DRIVERS[options.pop("driver")]
    return driver(name, msgspec.convert(options, driver.Options))


def gone(path: str, within_s: float = 30.0) -> bool:
    """Whether the pty vanishes: its process has ended."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while os.path.exists(path) and time.monotonic() < deadline:
        pause.wait(0.01)
    return not os.path.exists(path)


def test_the_bench_has_a_supply_a_meter_and_a_console_that_work() -> None:
    with open_bench() as tables:
        assert {name: table["driver"] for name, table in tables.items()} == {
            "psu1": "scpi-power-supply",
            "dmm1": "scpi-multimeter",
            "console1": "serial-console",
        }
        with (
            build("psu1", tables["psu1"]) as supply,
            build("dmm1", tables["dmm1"]) as meter,
            build("console1", tables["console1"]) as console,
        ):
            supply.voltage = 5.0
            supply.output = True
            assert supply.measured_voltage == 5.0
            assert abs(meter.voltage_dc - 5.0) < 0.1
            console.write(b"echo hello\r")
            assert console.read_until(b"hello\r\nhello\r\n")
        ports = [table["port"] for table in tables.values()]
    assert all(gone(port) for port in ports)


def children() -> set[int]:
    """The processes that this thread has started, those of other tests' fixtures among them."""
    return set(map(int, Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()))


def test_each_simulator_is_a_process_of_its_own_and_is_waited_for() -> None:
    before = children()
    with open_bench():
        simulators = children() - before
        assert len(simulators) == 3
        assert all(os.getpgid(simulator) != os.getpgid(0) for simulator in simulators)
    assert not any(os.path.exists(f"/proc/{simulator}") for simulator in simulators)


def test_a_simulator_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.BENCH, "toaster1", ("toaster", {"driver": "toaster"}))
    with pytest.raises(DeviceUnavailable, match="the simulator of toaster1 did not start"), open_bench():
        pass


def test_a_simulator_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STOP_S", 0.05)
    before = children()
    with open_bench() as tables:
        for simulator in children() - before:
            os.kill(simulator, signal.SIGSTOP)
    assert all(gone(table["port"]) for table in tables.values())


def test_the_bench_is_taken_down_when_its_user_fails() -> None:
    ports: list[str] = []
    with pytest.raises(RuntimeError, match="user"), open_bench() as tables:
        ports = [table["port"] for table in tables.values()]
        raise RuntimeError("user")
    assert ports
    assert all(gone(port) for port in ports)


def test_the_simulators_die_with_a_parent_that_is_killed() -> None:
    program = (
        "import sys\nfrom devices.demo import open_bench\nwith open_bench() as tables:\n"
        "    print(*[table['port'] for table in tables.values()], flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        ports = parent.stdout.readline().decode().split()
        assert len(ports) == 3
        assert all(os.path.exists(port) for port in ports)
        parent.send_signal(signal.SIGKILL)
    assert all(gone(port) for port in ports)


def test_the_bench_starts_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "devices").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_bench() as tables:
        assert len(tables) == 3
