"""The well-behaved client, in a process of its own: `python -m tests.hardening.bystander URL strict|seed`.

Calls again and again; for each line on standard input it prints the worst it met since the last one, as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import gateway

PAUSE_S = 0.01


@dataclass
class Record:
    """What calls cost since the last question. `worst_s`, and `machine_s`: what a plain sleep was late meanwhile."""

    calls: int = 0
    worst_s: float = 0.0
    machine_s: float = 0.0
    error: str = ""


class Bystander:
    """One client that reads its instrument without a break, in a thread."""

    def __init__(self, url: str, profile: str) -> None:
        self._conn = gateway.connect(url)
        self._read = self._strict if profile == "strict" else self._seed
        self._root: Any = self._conn.root
        self._lock = threading.Lock()
        self._record = Record()
        self._began = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _strict(self) -> None:
        assert self._root.psu2.voltage == 1.5
        assert self._root.psu2.echo(2) == 2

    def _seed(self) -> None:
        assert self._root.add(1, 2) == 3

    def _run(self) -> None:
        try:
            while True:
                began = self._began = time.monotonic()
                self._read()
                done = time.monotonic()
                time.sleep(PAUSE_S)
                late = time.monotonic() - done - PAUSE_S
                with self._lock:
                    self._record.calls += 1
                    self._record.worst_s = max(self._record.worst_s, done - began)
                    self._record.machine_s = max(self._record.machine_s, late)
        except Exception as error:
            self._record.error = f"{type(error).__name__}: {error}"

    def report(self) -> dict[str, Any]:
        with self._lock:
            record, self._record = self._record, Record(error=self._record.error)
        waiting_s = time.monotonic() - self._began - PAUSE_S
        return {**vars(record), "worst_s": max(record.worst_s, waiting_s)}


if __name__ == "__main__":
    bystander = Bystander(*sys.argv[1:])
    print(json.dumps("connected"), flush=True)
    for _ in sys.stdin:
        print(json.dumps(bystander.report()), flush=True)
