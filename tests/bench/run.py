"""Ours against rpyc, measured in alternation in one run.

    python tests/bench/run.py [--rounds N] [--seconds S] [--quick] [--only NAME] [--self-check] [--json]

Every round starts fresh processes: a server and a client for each side, all pinned to one CPU (so a figure is the CPU
time both ends spend together, not the machine's wake-up time), with a fixed hash seed and, where `setarch -R` works,
without address randomisation: both are worth up to 1.8x by luck. Each row is measured for one side, then at once for
the other; who goes first changes from row to row and from round to round (ABBA). The result is the median of the
rounds' ratios. Exit code: 0, 1 when a row failed, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, TextIO

import picture
import report
import rows
from report import BASELINE, BOTH_OURS, MIXED, OURS, STOCK, Pairing
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

HERE: Final = Path(__file__).resolve().parent
START_S: Final = 20.0
ROW_S: Final = 30.0
"""A row may take this long, and ten times its own seconds, before its processes are ended."""
LOG_LINES: Final = 20
"""How much of what the measured processes wrote on stderr is shown when a row failed."""


class RowFailed(Exception):
    """A row gave no figure; the text says why."""


class Peer:
    """One process of `peers.py`."""

    def __init__(self, mode: str, implementation: str, cpu: int, directory: str, log: TextIO) -> None:
        self._name = f"{implementation} {'server' if mode == 'serve' else 'client'}"
        self._process = subprocess.Popen(
            [*steady_addresses(), sys.executable, str(HERE / "peers.py"), mode, implementation, str(cpu), directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=steady_environment(),
        )
        self.greeting = self._answer(START_S)

    def ask(self, order: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send an order and return its answer. Raises RowFailed when none comes in time."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RowFailed(f"the {self._name} has ended") from None
        return self._answer(timeout)

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        if not ready:
            raise RowFailed(f"no answer from the {self._name} in {timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise RowFailed(f"the {self._name} has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Round:
    """The processes of one round, started when first needed, and again after a failure or for a row `alone`."""

    implementations: dict[str, str]
    """Role (`ours`, `stock`) -> name in `IMPLEMENTATIONS`."""
    cpu: int
    other_cpu: int
    """Of the server in rows that measure it `apart`."""
    directory: str
    log: TextIO
    versions: dict[str, str] = field(default_factory=dict)
    _peers: dict[tuple[str, str, int], Peer] = field(default_factory=dict)

    def measure(self, name: str, pairing: Pairing, seconds: float) -> float:
        """The figure of one row. Raises RowFailed."""
        apart = rows.ROWS[name].apart
        if rows.ROWS[name].alone:
            self._end_pair(pairing)
        try:
            server = self._peer("serve", pairing.server, self.other_cpu if apart else self.cpu)
            client = self._peer("drive", pairing.client, self.cpu)
            order = {"row": name, "endpoints": server.greeting["endpoints"], "seconds": seconds}
            answer = client.ask(order, ROW_S + 10 * seconds)
            if "error" in answer:
                raise RowFailed(answer["error"])
        except RowFailed:
            self._end_pair(pairing)
            raise
        value: float = answer["value"]
        return value

    def _peer(self, mode: str, role: str, cpu: int) -> Peer:
        peer = self._peers.get((mode, role, cpu))
        if peer is None:
            # A directory of its own: a server that is started again finds no stale socket.
            directory = tempfile.mkdtemp(dir=self.directory)
            peer = Peer(mode, self.implementations[role], cpu, directory, self.log)
            self._peers[mode, role, cpu] = peer
            self.versions[role] = f"{self.implementations[role]} {peer.greeting['version']}"
        return peer

    def _end_pair(self, pairing: Pairing) -> None:
        for key in list(self._peers):
            if key[:2] in (("serve", pairing.server), ("drive", pairing.client)):
                self._end(key)

    def _end(self, key: tuple[str, str, int]) -> None:
        peer = self._peers.pop(key, None)
        if peer is not None:
            peer.end()

    def close(self) -> None:
        for key in list(self._peers):
            self._end(key)


@cache
def steady_addresses() -> list[str]:
    """The command prefix that switches address randomisation off; empty where that isn't possible."""
    command = shutil.which("setarch")
    if command is None:
        return []
    prefix = [command, platform.machine(), "-R"]
    works = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return prefix if works else []


def steady_environment() -> dict[str, str]:
    """With a fixed hash seed, and with compiled modules: else each import would compile ours and not stock's."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(HERE.parents[1])}


def schedule(names: list[str], number: int) -> Iterator[tuple[str, Pairing]]:
    """What to measure in round `number`, in order: every row's pairings next to each other, turned round in turn."""
    for index, name in enumerate(names):
        pairings = [BASELINE, BOTH_OURS, *(MIXED if rows.ROWS[name].mixed else ())]
        if (index + number) % 2:
            pairings.reverse()
        for pairing in pairings:
            yield name, pairing


@dataclass
class Bench:
    """A whole run: collects `samples` and `failures`."""

    names: list[str]
    rounds: int
    seconds: float
    implementations: dict[str, str]
    cpu: int
    other_cpu: int
    samples: dict[tuple[str, Pairing], list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, Pairing], str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def run(self, directory: str, log: TextIO, progress: Progress) -> None:
        plan = [list(schedule(self.names, number)) for number in range(self.rounds)]
        bar = progress.add_task("", total=sum(map(len, plan)))
        for number, steps in enumerate(plan):
            progress.update(bar, description=f"round {number + 1} of {self.rounds}")
            current = Round(self.implementations, self.cpu, self.other_cpu, directory, log, self.versions)
            try:
                for name, pairing in steps:
                    self._step(current, name, pairing)
                    progress.advance(bar)
            finally:
                current.close()

    def _step(self, current: Round, name: str, pairing: Pairing) -> None:
        once = rows.ROWS[name].once and (name, pairing) in self.samples
        if (name, pairing) in self.failures or once:
            return
        try:
            value = current.measure(name, pairing, self.seconds)
        except RowFailed as failure:
            self.failures[name, pairing] = str(failure)
            self.samples.pop((name, pairing), None)
        else:
            self.samples.setdefault((name, pairing), []).append(value)


def machine(cpu: int, options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cpus": os.cpu_count(),
        "load at start": round(os.getloadavg()[0], 2),
        "placement": f"all processes on CPU {cpu}, address randomisation "
        f"{'off' if steady_addresses() else 'ON (setarch -R does not work here)'}, hash seed 0",
        "rounds": options.rounds,
        "seconds per figure": options.seconds,
    }


def processor() -> str:
    """The CPU's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or "unknown"


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Ours against rpyc, measured in alternation.")
    parser.add_argument("--rounds", type=int, help="fresh starts of all processes (default 7; 3 with --quick)")
    parser.add_argument("--seconds", type=float, help="seconds per figure (default 0.25; 0.08 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a rough table within a minute")
    parser.add_argument("--only", action="append", metavar="NAME", choices=list(rows.ROWS), help="may be repeated")
    parser.add_argument("--self-check", action="store_true", help="rpyc on both sides: every ratio should be near 1")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios into a PNG")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    options = parser.parse_args(argv)
    options.rounds = options.rounds if options.rounds is not None else (3 if options.quick else 7)
    options.seconds = options.seconds if options.seconds is not None else (0.08 if options.quick else 0.25)
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds must be at least 1 and --seconds above 0")
    return options


def keep_off(cpu: int) -> None:
    """Move this process, with its progress bar, away from the CPU that is measured on, if there is another one."""
    others = os.sched_getaffinity(0) - {cpu}
    if others:
        os.sched_setaffinity(0, others)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    cpu, other_cpu = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    keep_off(cpu)
    implementations = {OURS: "rpyc" if options.self_check else "gateway", STOCK: "rpyc"}
    names = [
        name
        for name in rows.ROWS
        if (name in options.only if options.only else not options.quick or rows.ROWS[name].quick)
    ]
    bench = Bench(names, options.rounds, options.seconds, implementations, cpu, other_cpu)
    facts = machine(cpu, options)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        bench.run(directory, log, progress)
        log.seek(0)
        said = log.readlines()[-LOG_LINES:]
    facts = {role: bench.versions.get(role, "not started") for role in (OURS, STOCK)} | facts
    if options.json:
        print(json.dumps(report.as_json(bench.samples, bench.failures, facts), indent=2))
    else:
        report.show(bench.samples, bench.failures, facts)
    if options.plot is not None:
        picture.draw(report.lines(bench.samples), facts, options.plot)
    if bench.failures:
        sys.stderr.writelines(["Last words of the measured processes:\n", *said])
    return 1 if bench.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
