"""A server, a client that must not notice anything, and the account that is settled when the attack is over."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

ROOT: Final = Path(__file__).parents[2]
MB: Final = 1024 * 1024

SERVED_WITHIN_S: Final = 0.5
PEAK: Final = 64 * MB
LEFT: Final = 16 * MB
LEFT_AFTER_S: Final = 5.0
PATIENCE_S: Final = 15.0
FAULTS: Final = re.compile(r"going on|a worker's task failed|Exception ignored|Exception in thread|no more peers")
"""What the server's log says when something went wrong that nobody provided for."""


class Partner:
    """A module of this folder in a process of its own, which answers lines."""

    def __init__(self, module: str, *args: str) -> None:
        self.log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.hardening.{module}", *args],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process ended: {self.said()}"
        return line.strip()

    def ask(self, question: str) -> Any:
        assert self.process.stdin is not None
        print(question, file=self.process.stdin, flush=True)
        return json.loads(self.line())

    def said(self) -> str:
        """What it wrote to its log."""
        self.log.seek(0)
        return self.log.read()

    def end(self) -> None:
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        finally:
            self.log.close()


@dataclass(frozen=True)
class Means:
    """What a process uses: bytes of memory, threads, descriptors."""

    memory: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Means:
        status = Path(f"/proc/{pid}/status").read_text()
        return cls(_kib(status, "VmRSS"), _number(status, "Threads"), len(os.listdir(f"/proc/{pid}/fd")))


class Siege:
    """`with Siege("strict") as siege:` - attack `siege.url` inside; leaving settles the account:

    the bystander was served within SERVED_WITHIN_S all the time, memory never rose by more than PEAK and is back within
    LEFT LEFT_AFTER_S later, threads and descriptors are back to the start, and the log knows of no unforeseen fault.
    """

    def __init__(self, profile: str, *, peak: int = PEAK, left: int = LEFT, **limits: float) -> None:
        self.profile = profile
        self._limits = limits
        self._peak, self._left = peak, left
        self.worst_s = 0.0

    def __enter__(self) -> Self:
        self.server = Partner("served", self.profile, json.dumps(self._limits))
        self.url = self.server.line()
        self.bystander = Partner("bystander", self.url, self.profile)
        assert self.bystander.line() == '"connected"'
        time.sleep(0.2)
        self.bystander.ask("")
        self._start = self._settled()
        self._forget_peak()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            if kind is None:
                self._settle()
        finally:
            self.bystander.end()
            self.server.end()

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def bystander_is_served(self) -> None:
        """The bystander was served in time since the last look."""
        record = self.bystander.ask("")
        deadline = time.monotonic() + PATIENCE_S
        while not record["calls"] and not record["error"] and time.monotonic() < deadline:
            time.sleep(0.05)  # looked at again right after the last look
            record = self.bystander.ask("")
        assert not record["error"], record
        # What the machine itself was late is no delay of ours.
        late_s = record["worst_s"] - record["machine_s"]
        self.worst_s = max(self.worst_s, record["worst_s"])
        assert late_s < SERVED_WITHIN_S, record
        assert record["calls"] > 0, record

    def memory_is_bounded(self) -> None:
        grown = self.peak() - self._start.memory
        assert grown < self._peak, f"memory rose by {grown / MB:.0f} MB at its peak"

    def peak(self) -> int:
        return _kib(Path(f"/proc/{self.pid}/status").read_text(), "VmHWM")

    def wait_for_connections(self, count: int) -> None:
        """Until the server has `count` peers besides the bystander."""
        wait_until(lambda: self.server.ask("connections") == count + 1, f"{count} connections")

    def _settle(self) -> None:
        over = time.monotonic()
        self.bystander_is_served()
        self.memory_is_bounded()
        self.wait_for_connections(0)
        means = self._settled(lambda now: now.memory - self._start.memory < self._left, over + LEFT_AFTER_S)
        assert means.memory - self._start.memory < self._left, (
            f"{(means.memory - self._start.memory) / MB:.0f} MB are left {LEFT_AFTER_S:g} s after the attack"
        )
        wait_until(lambda: self._is_back(), lambda: f"{self._start} again; it has {Means.of(self.pid)}")
        self.bystander_is_served()
        faults = [line for line in self.server.said().splitlines() if FAULTS.search(line)]
        assert not faults, self.server.said()

    def _is_back(self) -> bool:
        now = Means.of(self.pid)
        return now.threads <= self._start.threads and now.descriptors <= self._start.descriptors

    def _settled(self, enough: Callable[[Means], bool] = lambda means: False, deadline: float | None = None) -> Means:
        """What the server uses once that doesn't change any more (or is `enough`, or at the deadline)."""
        deadline = deadline or time.monotonic() + PATIENCE_S
        before = Means.of(self.pid)
        same = 0
        while time.monotonic() < deadline and same < 4 and not enough(before):
            time.sleep(0.1)
            now = Means.of(self.pid)
            same = same + 1 if now == before else 0
            before = now
        return before

    def _forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


def wait_until(true: Callable[[], bool], what: str | Callable[[], str], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def _kib(status: str, field: str) -> int:
    return _number(status, field) * 1024


def _number(status: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found[1])
