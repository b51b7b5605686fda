"""Python and the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.doctor import Verdict
from gateway.doctor.interpreter import package, python
from gateway.doctor.system import Interpreter

GOOD = Interpreter((3, 11, 2), "CPython", "aarch64", 64, "/opt/instrument-gateway/bin/python")


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, Verdict.OK, "CPython 3.11.2, 64 bits, on aarch64"),
        ({"version": (3, 9, 2)}, Verdict.PROBLEM, "Python 3.11 or newer is needed"),
        ({"bits": 32}, Verdict.WARNING, "a 32-bit system on a 64-bit machine"),
        ({"machine": "armv7l", "bits": 32}, Verdict.WARNING, "have to be compiled here"),
    ],
)
def test_the_python_and_the_machine_are_judged(
    machine: Any, changes: dict[str, Any], verdict: Verdict, said: str
) -> None:
    system = replace(machine.system, interpreter=replace(GOOD, **changes))
    (finding,) = python(system, machine.subject)
    assert finding.verdict is verdict
    assert said in finding.what
    assert bool(finding.fix) == (verdict is not Verdict.OK)


def test_the_python_that_runs_the_tests_is_good_enough(machine: Any) -> None:
    assert Verdict.PROBLEM not in {finding.verdict for finding in machine.check("python")}


def test_what_is_installed_here_is_complete(machine: Any) -> None:
    machine.is_well("package")


def distribution(folder: Path, name: str, *requires: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {each}" for each in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(machine: Any, tmp_path: Path) -> None:
    distribution(tmp_path, "instrument-gateway", "click>=8.1", "pyusb>=1.2.1", "numpy>=1.26; extra == 'numpy'")
    distribution(tmp_path, "click")
    system = replace(machine.system, interpreter=GOOD)
    (finding,) = package(system, machine.subject, path=[str(tmp_path)])
    assert finding.verdict is Verdict.PROBLEM
    assert finding.fix == ("/opt/instrument-gateway/bin/python -m pip install 'pyusb>=1.2.1'",)


def test_an_environment_without_the_gateway_is_a_problem(machine: Any, tmp_path: Path) -> None:
    (finding,) = package(machine.system, machine.subject, path=[str(tmp_path)])
    assert finding.verdict is Verdict.PROBLEM
