"""A gateway with observers, and a client of it in a process of its own.

    python -m tests.server.observed ours|simple URL TARGET EVERY [SUBSCRIBERS]

The client prints a JSON line for each reading it gets, until its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import Any

import gateway
from gateway.errors import AccessDenied, DeviceUnavailable, NotFound
from gateway.server.observing import Bounds, Observers
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from gateway.service.reading import Reading
from gateway.sync.observing import subscribe

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


class Meter(Exposable):
    """A multimeter that counts."""

    state = "open"

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()
        self.broken = ""
        self.wave: Any = [1, 2, 3]
        self.free = Event()
        self.free.set()
        self._lock = Lock()

    def _read(self, name: str) -> int:
        assert self.free.wait(PATIENCE_S)
        with self._lock:
            self.reads[name] += 1
            return self.reads[name]

    @property
    @exposed(unit="V")
    def voltage(self) -> float:
        """What it measures."""
        if self.broken:
            raise DeviceUnavailable(self.broken)
        return float(self._read("voltage"))

    @property
    @exposed(unit="A")
    def current(self) -> float:
        return float(self._read("current"))

    @property
    @exposed
    def waveform(self) -> Any:
        """Something that is no plain value."""
        self._read("waveform")
        return self.wave

    @exposed
    def reset(self) -> None: ...


class Root(GatewayService):
    """The root of a gateway, as far as observers go."""

    def __init__(self, bounds: Bounds | None = None, **devices: Any) -> None:
        super().__init__(devices)
        self.all_observers = Observers(self._read, bounds=bounds)
        self.observe_by(self.all_observers, self._admit)

    def _admit(self, device: str, name: str) -> None:
        found = self.device(device)
        row = found.exposures().get(name)
        if row is None or row.kind != "property":
            raise NotFound(f"{device} has no property {name!r:.80}")
        if name == "current":
            raise AccessDenied(f"{device}.{name} is not for you", rule="test")

    def _read(self, device: str, name: str) -> Reading:
        found = self.device(device)
        unit = found.exposures()[name].unit
        return Reading(getattr(found, name), unit, time.time(), device, name, "ACME,34401A,42", 7)


class Client:
    """A client in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def reading(self) -> dict[str, Any]:
        """The next one it says it has got."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client ended"
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def client(*words: str) -> Iterator[Client]:
    """`client("ours", url, "dmm1.voltage", "0.01")`; killed at the end."""
    command = [sys.executable, "-m", "tests.server.observed", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Client(process)
        finally:
            process.kill()


def main(kind: str, url: str, target: str, every: str, subscribers: str = "1") -> None:
    """Be the client."""
    lock = Lock()

    def took(number: int, reading: Reading) -> None:
        with lock:
            print(
                json.dumps({"number": number, "value": reading.value, "late_s": time.time() - reading.time_s}),
                flush=True,
            )

    with gateway.connect(url) as conn:
        held: list[Any] = []
        for number in range(int(subscribers)):
            if kind == "ours":
                held.append(subscribe(conn, target, lambda each, n=number: took(n, each), every=float(every)))
            else:
                observers = conn.root.observers
                held.append(observers.subscribe(target, lambda each, n=number: took(n, Reading(*each)), float(every)))
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
