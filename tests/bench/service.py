"""How soon devices are safe, and what the questions that each call is asked cost. One function for each row.

    python tests/bench/service.py [--quick] [--json] [--runs 50] [--row NAME ...]

The instruments are simulated: a power supply on a serial line (a pty) where a row says so, otherwise devices without
hardware, which do at once what they are told. Everything runs on one machine; clients are processes of their own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))

import gateway  # noqa: E402
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply  # noqa: E402
from devices.simulators.line import Simulator  # noqa: E402
from devices.simulators.power_supply import SimulatedPowerSupply  # noqa: E402
from gateway.config.common import DeviceCommon  # noqa: E402
from gateway.limits import Limits  # noqa: E402
from gateway.server.reception import Reception  # noqa: E402
from gateway.server.registry import GatewayService  # noqa: E402
from gateway.server.safety import Outcome  # noqa: E402
from tests.server.kept import PATIENCE_S, Bench, Box, until  # noqa: E402

Figures = dict[str, Any]
QUICK: Final = 3
CALLS: Final = 200
HOW: Final = ("bare", "kept")
"""Calls in a burst of the cost's row."""


def spread(seconds: list[float]) -> Figures:
    """Median and worst, in milliseconds."""
    return {
        "median_ms": round(statistics.median(seconds) * 1e3, 2),
        "worst_ms": round(max(seconds) * 1e3, 2),
        "runs": len(seconds),
    }


class Recording(SimulatedPowerSupply):
    """A supply that knows when it was last told to switch its output off."""

    off_at = 0.0

    def receive(self, data: bytes) -> bytes:
        if b"OUTP OFF" in data:
            self.off_at = time.monotonic()
        return super().receive(data)


def client_killed(runs: int) -> Figures:
    """A client that holds a power supply is killed: until OUTP OFF is on the line, and until it was read back."""
    commanded, verified = [], []
    with ExitStack() as stack:
        supply = Recording()
        live = stack.enter_context(Simulator(supply))
        device = ScpiPowerSupply("psu1", PowerSupplyOptions(port=live.path, baudrate=115_200))
        device.open()
        stack.callback(device.let_go)
        bench = Bench(stack, device)
        station = bench.keeper.stations["psu1"]
        for _ in range(runs):
            client = bench.client("supply", "psu1")
            client.hear()
            before = station.report
            begin = time.monotonic()
            client.signal(signal.SIGKILL)
            report = until(lambda before=before: station.report if station.report is not before else None)
            verified.append(time.monotonic() - begin)
            commanded.append(supply.off_at - begin)
            assert report.outcome is Outcome.VERIFIED
            client.end()
    return {
        "commanded": spread(commanded) | {"target_ms": 200},
        "verified": spread(verified) | {"target_ms": 1000},
    }


def client_frozen(runs: int) -> Figures:
    """A client that holds a device is stopped (SIGSTOP), at any moment between two heartbeats: until it is safe."""
    at_once = min(runs, 8)
    seconds: list[float] = []
    with ExitStack() as stack:
        bench = Bench(stack, *(Box(f"box{number}") for number in range(at_once)))
        while len(seconds) < runs:
            clients = {name: bench.client("hold", name) for name in bench.boxes}
            stopped: dict[str, float] = {}
            for client in clients.values():
                client.hear()
            for name, client in clients.items():
                time.sleep(random.uniform(0.0, 2.0 / at_once))
                client.signal(signal.SIGSTOP)
                stopped[name] = time.monotonic()
            for name in clients:
                until(lambda name=name: bench.boxes[name].what()[-1:] == ["safe"])
                seconds.append(bench.boxes[name].done[-1][0] - stopped[name])
            for name, client in clients.items():
                client.end()
                bench.until_safe(name)
    return {"commanded": spread(seconds) | {"target_ms": 5000}}


def emergency_stop(runs: int) -> Figures:
    """The emergency stop, with ten devices whose queues are full and whose callers wait in a read of 10 s."""
    names = [f"box{number}" for number in range(10)]
    limits = Limits(pending_calls=64, connections_per_host=64)
    commanded, answered = [], []
    with ExitStack() as stack:
        bench = Bench(
            stack, *(Box(name) for name in names), limits=limits, **dict.fromkeys(names, DeviceCommon(lease=False))
        )
        readers = {name: bench.connect() for name in names}
        controllers = {name: bench.connect() for name in names}
        admin = bench.connect().root
        for _ in range(runs):
            waiting = []
            for name in names:
                box = bench.boxes[name]
                box.entered.clear()
                box.done.clear()
                waiting.append(gateway.async_(getattr(readers[name].root, name).listen)(10.0))
                assert box.entered.wait(PATIENCE_S)
                waiting += [
                    gateway.async_(getattr(controllers[name].root, name).set_level)(1.0)
                    for _ in range(limits.pending_calls)
                ]
                lane = bench.keeper.stations[name].lane
                until(lambda lane=lane: lane.waiting >= limits.pending_calls - 1)
            begin = time.monotonic()
            admin.estop("bench")
            answered.append(time.monotonic() - begin)
            commanded.append(max(_safe_at(bench.boxes[name]) for name in names) - begin)
            for result in waiting:
                result.wait()
            admin.estop_reset("bench")
    return {"commanded": spread(commanded) | {"target_ms": 100}, "reported": spread(answered)}


def _safe_at(box: Box) -> float:
    return next(at for at, what, _ in box.done if what == "safe")


def policy_cost(runs: int) -> Figures:
    """What a client waits for a call over TCP: with all of the gateway's questions, and with none.

    The device does nothing, so that no share is hidden; `cpu_percent` is the share in the CPU time of both ends, which
    is most of such a call. With a power supply on a serial line the same questions are asked of a call that takes far
    longer. Both servers are in one process, for two processes of the same program differ by as much as is looked for
    here; it has one CPU, and the client another one, if there are two.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        return {what: row for kind in ("box", "supply") for what, row in _cost_of(kind, runs, max(before)).items()}
    finally:
        os.sched_setaffinity(0, before)


def _cost_of(kind: str, runs: int, cpu: int) -> dict[str, Figures]:
    with ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, str(HERE), "--serve", kind, str(cpu)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, process)
        assert process.stdout is not None
        clock = (~process.pid << 3) | 2  # the process's CPU time
        calls: dict[str, dict[str, Callable[[], Any]]] = {}
        for how in HOW:
            conn = gateway.connect(process.stdout.readline().strip())
            stack.callback(conn.close)
            device = conn.root.device("device1")
            if how == "kept":
                stack.enter_context(conn.lease("device1"))
            if kind == "box":
                calls[how] = {"read": device.count, "control": lambda device=device: device.set_level(1.0)}
            else:
                calls[how] = {"control": lambda device=device: device.set_voltage(1.0)}
        count = CALLS if kind == "box" else CALLS // 10
        waited: dict[tuple[str, str], list[float]] = {}
        worked: dict[tuple[str, str], list[float]] = {}
        gc.collect()
        gc.disable()
        stack.callback(gc.enable)
        for turn in range(runs * 8 if kind == "box" else runs):
            for how in HOW if turn % 2 else reversed(HOW):
                for what, call in calls[how].items():
                    begin, began = _clock(clock), time.perf_counter()
                    for _ in range(count):
                        call()
                    waited.setdefault((what, how), []).append((time.perf_counter() - began) / count)
                    worked.setdefault((what, how), []).append((_clock(clock) - begin) / count)
        return {
            f"{kind}: {what}": {
                "bare_us": round(statistics.median(waited[what, "bare"]) * 1e6, 1),
                "kept_us": round(statistics.median(waited[what, "kept"]) * 1e6, 1),
                "share_percent": _share(waited, what),
                "target_percent": 5,
                "cpu_percent": _share(worked, what),
            }
            for what in calls["bare"]
        }


def _share(spent: dict[tuple[str, str], list[float]], what: str) -> float:
    """What the questions add, in percent: the median over the turns."""
    pairs = zip(spent[what, "kept"], spent[what, "bare"], strict=True)
    return round((statistics.median(kept / bare for kept, bare in pairs) - 1) * 100, 1)


def _clock(server: int) -> float:
    return time.process_time() + time.clock_gettime(server)


def serve(kind: str, cpu: str) -> None:
    """The gateways of `policy_cost`, in a process of their own."""
    os.sched_setaffinity(0, {int(cpu)})
    with ExitStack() as stack:
        for how in HOW:
            device: Any
            if kind == "box":
                device = Box("device1")
                device.done = _Nothing()
            else:
                live = stack.enter_context(Simulator(SimulatedPowerSupply()))
                device = ScpiPowerSupply("device1", PowerSupplyOptions(port=live.path, baudrate=115_200))
                device.open()
            service = GatewayService({"device1": device})
            introduce = Reception(service.keeper).introduce if how == "kept" else None
            server = stack.enter_context(gateway.Server(service, "tcp://127.0.0.1:0", strict=True, introduce=introduce))
            if how == "kept":
                service.keeper.start()
                stack.callback(service.keeper.close)
            print(server.url, flush=True)
        sys.stdin.read()


class _Nothing(list[Any]):
    """Remembers nothing."""

    def append(self, item: Any) -> None:
        pass


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait()


ROWS: Final[dict[str, Callable[[int], Figures]]] = {
    "client-killed": client_killed,
    "client-frozen": client_frozen,
    "emergency-stop": emergency_stop,
    "policy-cost": policy_cost,
}


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} runs a row")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    for name in options.row or ROWS:
        found[name] = ROWS[name](QUICK if options.quick else options.runs)
        if not options.json:
            for part, figures in found[name].items():
                shown = "  ".join(f"{key} {value}" for key, value in figures.items())
                print(f"{name:16} {part:18} {shown}", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
