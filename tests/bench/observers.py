"""How late subscriptions are: the time from a reading until the callback begins, on one machine's clock.

    python tests/bench/observers.py [--quick] [--json] [--clients 2] [--subscribers 50] [--rate 100]

The gateway and each client are processes of their own. The subscribers share one property that is read `rate` times a
second, and each of them gets every reading. One of them is in a client of its own that is stopped (SIGSTOP) as soon as
it has had readings. The rows with one call for each delivery are what clients other than ours get: at a tenth of the
rate. The last two columns say how late a process that does nothing was woken meanwhile: what is of that size is the
machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Lock
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import gateway  # noqa: E402
from gateway.server.observing import Observers  # noqa: E402
from gateway.server.registry import GatewayService  # noqa: E402
from gateway.service.reading import Reading  # noqa: E402
from gateway.sync.observing import subscribe  # noqa: E402

TARGET: Final = "dmm1.voltage"
SETTLE_S: Final = 1.0
ANSWER_S: Final = 120.0
LIMIT_MS: Final = 10.0
"""What the 99th percentile must stay below."""


class Root(GatewayService):
    """A gateway whose one instrument answers at once."""

    def __init__(self) -> None:
        super().__init__({})
        self.reads = 0
        self.observe_by(Observers(self._read), lambda device, name: None)

    def _read(self, device: str, name: str) -> Reading:
        self.reads += 1
        return Reading(1.0 + self.reads / 1000, "V", time.time(), device, name, "ACME,34401A,0042,1.0", 17)


def serve() -> None:
    """The gateway's process: prints its URL, and at the end how often the instrument was read."""
    root = Root()
    with gateway.Server(root, "tcp://127.0.0.1:0", strict=True) as server:
        print(server.url, flush=True)
        before, since = root.reads, time.monotonic()
        for line in sys.stdin:
            if line == "begin\n":
                before, since = root.reads, time.monotonic()
        print(json.dumps({"reads": root.reads - before, "seconds": time.monotonic() - since}), flush=True)


def listen(url: str, subscribers: int, rate: float, simple: bool) -> None:
    """A client's process: subscribes, says so, and at the end prints all the delays it saw, in milliseconds."""
    delays: list[float] = []
    lock, came, recording = Lock(), Event(), Event()

    def took(reading: Reading) -> None:
        now = time.time()
        came.set()
        if recording.is_set():
            with lock:
                delays.append((now - reading.time_s) * 1e3)

    with gateway.connect(url) as conn:
        if simple:
            observers = conn.root.observers
            held = [
                observers.subscribe(TARGET, lambda each: took(Reading(*each)), 1 / rate) for _ in range(subscribers)
            ]
        else:
            held = [subscribe(conn, TARGET, took, every=1 / rate) for _ in range(subscribers)]
        came.wait(ANSWER_S)
        print("ready", flush=True)
        sys.stdin.readline()
        recording.set()
        sys.stdin.readline()
        recording.clear()
        print(json.dumps({"delays": delays, "dropped": sum(each.dropped for each in held)}), flush=True)


class Process:
    """One process of this file."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("error: a process of the benchmark ended early; what it said stands above")
        return line.strip()

    def end(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.wait()


def percentile(ordered: list[float], part: float) -> float:
    """The value below which `part` of the ordered values are."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def lateness(seconds: float) -> list[float]:
    """How late this process, which does nothing, is woken every 10 ms meanwhile: milliseconds, in order."""
    begin = time.monotonic()
    late = []
    for turn in range(1, max(2, int(seconds * 100))):
        time.sleep(max(0.0, begin + turn / 100 - time.monotonic()))
        late.append((time.monotonic() - begin - turn / 100) * 1e3)
    return sorted(late)


def measure(
    clients: int, subscribers: int, rate: float, seconds: float, *, stalled: bool, simple: bool
) -> dict[str, Any]:
    """One row of the table."""
    started: list[Process] = []
    try:
        server = Process("--serve")
        started.append(server)
        url = server.hear()
        active = subscribers - stalled
        shares = [active // clients + (index < active % clients) for index in range(clients)]
        listeners = [Process("--listen", url, str(share), str(rate), *["--simple"] * simple) for share in shares]
        started += listeners
        for each in listeners:
            each.hear()
        if stalled:
            frozen = Process("--listen", url, "1", str(rate), *["--simple"] * simple)
            started.append(frozen)
            frozen.hear()
            os.kill(frozen.process.pid, signal.SIGSTOP)
        time.sleep(min(SETTLE_S, seconds))
        server.say("begin")
        for each in listeners:
            each.say("begin")
        machine = lateness(seconds)
        for each in listeners:
            each.say("end")
        seen = [json.loads(each.hear()) for each in listeners]
        assert server.process.stdin is not None
        server.process.stdin.close()
        load = json.loads(server.hear())
    finally:
        for each in reversed(started):
            each.end()
    delays = sorted(delay for each in seen for delay in each["delays"])
    return {
        "subscribers": subscribers,
        "clients": clients,
        "stalled": int(stalled),
        "one_call_each": simple,
        "reads_per_s": round(load["reads"] / load["seconds"], 1),
        "deliveries_per_s": round(len(delays) / seconds),
        "dropped": sum(each["dropped"] for each in seen),
        "p50_ms": round(percentile(delays, 0.5), 2),
        "p99_ms": round(percentile(delays, 0.99), 2),
        "p999_ms": round(percentile(delays, 0.999), 2),
        "max_ms": round(delays[-1], 2),
        "machine_p99_ms": round(percentile(machine, 0.99), 2),
        "machine_max_ms": round(machine[-1], 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=0, help="client processes; default: a row with 1, one with 2")
    parser.add_argument("--subscribers", type=int, default=50)
    parser.add_argument("--rate", type=float, default=100.0, help="readings a second")
    parser.add_argument("--quick", action="store_true", help="two seconds a row instead of ten")
    parser.add_argument("--seconds", type=float, help="so many seconds a row")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--listen", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--simple", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    if given.listen:
        url, subscribers, rate = given.listen
        listen(url, int(subscribers), float(rate), given.simple)
        return
    seconds = given.seconds or (2.0 if given.quick else 10.0)
    rows = [
        measure(clients, given.subscribers, rate, seconds, stalled=stalled, simple=simple)
        for simple, rate in ((False, given.rate), (True, given.rate / 10))
        for clients in ([given.clients] if given.clients else [1, 2])
        for stalled in (False, True)
    ]
    facts = {"load at start": os.getloadavg()[0], "cpus": os.cpu_count(), "target": f"p99 <= {LIMIT_MS:g} ms"}
    if given.json:
        print(json.dumps({"facts": facts, "rows": rows}))
        return
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))
    print()
    columns = list(rows[0])
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in columns]
    for row in ({name: name for name in columns}, *rows):
        print("  ".join(str(row[name]).rjust(width) for name, width in zip(columns, widths, strict=True)))


if __name__ == "__main__":
    main()
