"""What the guide "How to test your own instrument driver with this kit" shows works as it is shown."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devices.simulators.line import Simulator
from devices.simulators.power_supply import SimulatedPowerSupply
from hil.faults import End
from hil.pty_wire import PtyWire

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "how-to"
GUIDE = (GUIDES / "test-your-driver.md").read_text(encoding="utf-8")
DRIVER_GUIDE = (GUIDES / "write-a-driver.md").read_text(encoding="utf-8")
FILES = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
SHOWN = [line for block in re.findall(r"```text\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody else's, with the files of both guides."""
    folder = tmp_path_factory.mktemp("project")
    for name, source in FILES.findall(DRIVER_GUIDE):
        if not name.startswith("test_"):
            (folder / name).write_text(source, encoding="utf-8")
    for name, source in FILES.findall(GUIDE):
        (folder / name).write_text(source, encoding="utf-8")
    return folder


@pytest.fixture
def cable() -> Iterator[PtyWire]:
    with PtyWire() as wire:
        yield wire


def run(folder: Path, command: str) -> str:
    """What the command prints. It has to succeed."""
    words = command.replace("python", sys.executable, 1).split()
    environment = {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(words, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_guide_has_the_files_and_commands_that_are_run_here(project: Path) -> None:
    parts = ("bad_line", "bench", "cable", "conformance", "served")
    expected = {"simulated_thermostat.py", "thermostat.py", *(f"test_{part}.py" for part in parts)}
    assert {path.name for path in project.iterdir()} == expected
    assert len(COMMANDS) == 4
    assert len(SHOWN) == 2


def test_the_thermostat_conforms_and_works_on_a_bad_line_and_through_a_gateway(project: Path) -> None:
    with ThreadPoolExecutor() as side_by_side:
        conformance = side_by_side.submit(run, project, COMMANDS[0])
        others = side_by_side.submit(run, project, "python -m pytest -q test_bad_line.py test_served.py")
        assert "1 passed" in conformance.result()
        assert "3 passed" in others.result()


def test_the_cables_suite_runs_over_a_pty_and_over_two_ports(project: Path, cable: PtyWire) -> None:
    printed = run(project, COMMANDS[1])
    assert "2 passed, 1 skipped" in printed
    real = COMMANDS[2].replace("/dev/ttyUSB0", cable.port(End.A)).replace("/dev/ttyUSB1", cable.port(End.B))
    assert real != COMMANDS[2]
    printed += run(project, real)
    assert "1 passed, 2 skipped" in printed
    for shown in SHOWN:
        pattern = shown.replace("[1]", "[[]1[]]").replace("...", "*")
        assert fnmatch.filter(printed.splitlines(), pattern), f"{shown}\n{printed}"


def test_the_benchs_suite_runs_on_a_bench(project: Path) -> None:
    with Simulator(SimulatedPowerSupply()) as simulator:
        (project / "bench.toml").write_text(
            '[gateway]\nlisten = "tcp://127.0.0.1:0"\nadvertise = false\n'
            f'[devices.psu7]\ndriver = "scpi-power-supply"\nport = "{simulator.path}"\n'
        )
        printed = run(project, COMMANDS[3])
        assert re.search(r"test_it_says_who_it_is\[psu7\] PASSED", printed)


def test_every_fault_that_the_guide_names_is_there_and_none_is_left_out() -> None:
    import hil.faults

    named = set(re.findall(r"`(\w+)\(where", GUIDE))
    assert named == {kind.__name__ for kind in hil.faults.Fault.__args__} | {"HangUp"}
