"""The demo's bench: three simulated instruments, each a process of its own at the far end of a serial line.

Published as `demo` in the entry point group `gateway.benches`.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.errors import DeviceUnavailable

START_S: Final = 15.0
"""A simulator must have printed its port by then."""
STOP_S: Final = 2.0
MAX_PATH: Final = 4096

BENCH: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "psu1": (
        "power-supply",
        {"driver": "scpi-power-supply", "baudrate": 115_200, "max_voltage": 12.0, "max_current": 2.0},
    ),
    "dmm1": ("multimeter", {"driver": "scpi-multimeter", "baudrate": 115_200}),
    "console1": ("console", {"driver": "serial-console", "baudrate": 115_200}),
}
"""Name of the device -> the kind of its simulator, and its config without the port."""


@contextmanager
def open_bench() -> Iterator[dict[str, dict[str, Any]]]:
    """Start the simulators; yield the config tables of their devices by name; stop the simulators.

    They end with this process too, however it ends. Raises DeviceUnavailable when one does not start.
    """
    with ExitStack() as processes:
        started = {name: processes.enter_context(_simulator(kind)) for name, (kind, _) in BENCH.items()}
        yield {name: {**BENCH[name][1], "port": _port(name, process)} for name, process in started.items()}


@contextmanager
def _simulator(kind: str) -> Iterator[subprocess.Popen[bytes]]:
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "devices.simulators", kind, "--until-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        # Ctrl-C is for the gateway: it still has to make its devices safe, and needs them for that.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _stop(process)


def _port(name: str, process: subprocess.Popen[bytes]) -> str:
    """The first line that a simulator prints."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    line = process.stdout.readline(MAX_PATH) if ready else b""
    if not line.endswith(b"\n"):
        raise DeviceUnavailable(f"the simulator of {name} did not start; see what it printed above", device=name)
    return os.fsdecode(line.rstrip(b"\n"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
