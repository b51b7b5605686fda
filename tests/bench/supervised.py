"""How soon all is well again when the gateway itself is killed, and how long its start takes.

    python tests/bench/supervised.py [--quick] [--json] [--runs 20] [--devices 10] [--row NAME ...]

`gateway serve` runs as users run it, with that many simulated power supplies, each on a serial line (a pty) of its own
that a thread of this process serves and that notes when it was told what. All of it runs on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))

import gateway  # noqa: E402
from devices.simulators.line import Simulator  # noqa: E402
from devices.simulators.power_supply import SimulatedPowerSupply  # noqa: E402
from gateway.errors import GatewayError  # noqa: E402

Figures = dict[str, Any]
QUICK: Final = 2
PATIENCE_S: Final = 60.0
DEVICES: Final = 10


class Recording(SimulatedPowerSupply):
    """A supply that knows since when it is off, and when that was read back last."""

    off_at = 0.0
    read_at = 0.0

    def receive(self, data: bytes) -> bytes:
        was_on = self.output
        answer = super().receive(data)
        if was_on and not self.output:
            self.off_at = time.monotonic()
        if not self.output and b"OUTP?" in data:
            self.read_at = time.monotonic()
        return answer


class Served:
    """`gateway serve` with its supplies."""

    def __init__(self, stack: ExitStack, devices: int) -> None:
        self.supplies = {f"psu{number}": Recording() for number in range(1, devices + 1)}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines = [f'[gateway]\nlisten = "unix://{folder}/socket"\nadvertise = false\nlog_level = "error"']
        for name, supply in self.supplies.items():
            port = stack.enter_context(Simulator(supply)).path
            lines.append(f'[devices.{name}]\ndriver = "scpi-power-supply"\nport = "{port}"')
        self._config = folder / "gateway.toml"
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.url = f"unix://{folder}/socket"
        own = {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "STATE_DIRECTORY", "XDG_RUNTIME_DIR")}
        # Modules are compiled, as those of an installed package are.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = {**kept, **own, "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
        with self.running(), self.first_call():
            pass

    @contextmanager
    def running(self, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command, not waited for."""
        command = [sys.executable, "-m", "gateway", "serve", str(self._config), "--json", *flags]
        process = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HERE.parents[2]
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    @contextmanager
    def first_call(self, *names: str) -> Iterator[Any]:
        """A connection through which these devices, or else `psu1`, were called, as soon as that goes."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with ExitStack() as attempt, suppress(GatewayError, OSError):
                conn = attempt.enter_context(gateway.connect(self.url))
                for name in names or ("psu1",):
                    _ = conn.root.device(name).voltage
                attempt.pop_all()
                break
            if time.monotonic() > deadline:
                raise SystemExit("error: the gateway does not serve; run it by hand to see why")
            time.sleep(0.005)
        with conn:
            yield conn


def gateway_killed(runs: int, devices: int = DEVICES) -> Figures:
    """The gateway's process is killed with -9, with all outputs on: until the last OUTP OFF, and the last read-back of
    it, is on the lines; and until a call of each device is answered again.
    """
    commanded, verified, serving = [], [], []
    with ExitStack() as stack:
        served = Served(stack, devices)
        names = list(served.supplies)
        process = stack.enter_context(served.running())
        for _ in range(runs):
            with served.first_call() as conn, conn.lease(*names) as bench:
                for name in names:
                    bench[name].set_voltage(5.0)
                    bench[name].set_output(True)
                    served.supplies[name].read_at = 0.0
                (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                begin = time.monotonic()
                os.kill(int(worker), signal.SIGKILL)
                _await_gone(int(worker))
                with served.first_call(*names):
                    serving.append(time.monotonic() - begin)
                commanded.append(max(supply.off_at for supply in served.supplies.values()) - begin)
                verified.append(max(supply.read_at for supply in served.supplies.values()) - begin)
                assert not any(supply.output for supply in served.supplies.values())
    return {
        "safe": spread(commanded) | {"target_ms": 1000},
        "verified by both": spread(verified),
        "serving again": spread(serving) | {"target_ms": 3000},
    }


def gateway_stopped(runs: int, devices: int = DEVICES) -> Figures:
    """As `gateway_killed`, but the process is stopped (SIGSTOP), so that somebody has to find out that it hangs."""
    commanded, serving = [], []
    with ExitStack() as stack:
        served = Served(stack, devices)
        names = list(served.supplies)
        process = stack.enter_context(served.running())
        for _ in range(runs):
            with served.first_call() as conn, conn.lease(*names) as bench:
                for name in names:
                    bench[name].set_output(True)
                (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                begin = time.monotonic()
                os.kill(int(worker), signal.SIGSTOP)
                _await_gone(int(worker))
                with served.first_call(*names):
                    serving.append(time.monotonic() - begin)
                commanded.append(max(supply.off_at for supply in served.supplies.values()) - begin)
    return {"safe": spread(commanded), "serving again": spread(serving)}


def start(runs: int, devices: int = DEVICES) -> Figures:
    """From the start of the command until a call is answered: supervised, and as one process."""
    ways: dict[str, tuple[str, ...]] = {"supervised": (), "as one process": ("--no-supervise",)}
    seconds: dict[str, list[float]] = {what: [] for what in ways}
    with ExitStack() as stack:
        served = Served(stack, devices)
        for _ in range(runs):
            for what, flags in ways.items():
                begin = time.monotonic()
                with served.running(*flags), served.first_call():
                    seconds[what].append(time.monotonic() - begin)
    return {what: spread(each) | {"target_ms": 1500} for what, each in seconds.items()}


def spread(seconds: list[float]) -> Figures:
    """Median and worst, in milliseconds."""
    return {
        "median_ms": round(statistics.median(seconds) * 1e3, 1),
        "worst_ms": round(max(seconds) * 1e3, 1),
        "runs": len(seconds),
    }


def _await_gone(pid: int) -> None:
    """Its socket may take a connection until all of its threads have ended."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.001)


ROWS: Final[dict[str, Callable[[int, int], Figures]]] = {
    "gateway-killed": gateway_killed,
    "gateway-stopped": gateway_stopped,
    "start": start,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} runs a row")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    for name in options.row or ROWS:
        found[name] = ROWS[name](QUICK if options.quick else options.runs, options.devices)
        if not options.json:
            for part, figures in found[name].items():
                shown = "  ".join(f"{key} {value}" for key, value in figures.items())
                print(f"{name:16} {part:18} {shown}", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
