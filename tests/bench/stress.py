"""Many threads on one connection, for long: `python tests/bench/stress.py [--threads N] [--seconds S] [--json]`.

Each thread calls as fast as it can, and checks each answer. A wake-up that is lost shows as a call that takes for ever:
what counts is the longest one. Beside it stands how late a thread was woken that only slept: the machine's own share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from pathlib import Path
from statistics import quantiles
from time import perf_counter, sleep
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import gateway  # noqa: E402

SERVER: Final = """
import sys
sys.path.insert(0, sys.argv[1])
import gateway
class Echo(gateway.Service):
    def exposed_echo(self, value): return value
with gateway.Server(Echo, "tcp://127.0.0.1:0") as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
STALL_S: Final = 0.05
NAP_S: Final = 0.01
KEPT: Final = 20_000
"""Times that each thread keeps, evenly over the run."""


def work(echo: Any, number: int, end: float, into: dict[str, Any]) -> None:
    count, worst, stalls, times = 0, 0.0, 0, []
    while (begin := perf_counter()) < end:
        if echo((number, count)) != (number, count):
            raise RuntimeError("another call's answer arrived")
        took = perf_counter() - begin
        worst = max(worst, took)
        stalls += took > STALL_S
        if count % 97 == 0 and len(times) < KEPT:
            times.append(took)
        count += 1
    into[str(number)] = (count, worst, stalls, times)


def lateness(end: float, into: list[float]) -> None:
    while (begin := perf_counter()) < end:
        sleep(NAP_S)
        into.append(perf_counter() - begin - NAP_S)


def run(threads: int, seconds: float) -> dict[str, Any]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(ROOT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    found: dict[str, Any] = {}
    late: list[float] = []
    try:
        with gateway.connect(server.stdout.readline().strip()) as conn:
            end = perf_counter() + seconds
            echo = conn.root.echo
            workers = [threading.Thread(target=work, args=(echo, number, end, found)) for number in range(threads)]
            workers.append(threading.Thread(target=lateness, args=(end, late)))
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
    finally:
        server.kill()
        server.communicate()
    if len(found) != threads:
        raise SystemExit(f"error: {threads - len(found)} of {threads} threads ended by an error")
    times = [took for _, _, _, each in found.values() for took in each]
    return {
        "threads": threads,
        "seconds": seconds,
        "calls": sum(count for count, _, _, _ in found.values()),
        "fewest_calls_of_a_thread": min(count for count, _, _, _ in found.values()),
        "median_ms": 1e3 * quantiles(times, n=100)[49],
        "p99_ms": 1e3 * quantiles(times, n=100)[98],
        "longest_ms": 1e3 * max(worst for _, worst, _, _ in found.values()),
        "longer_than_50_ms": sum(stalls for _, _, stalls, _ in found.values()),
        "longest_lateness_of_a_sleep_ms": 1e3 * max(late),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.threads, options.seconds)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name.replace('_', ' '):32} {value:,.6g}")


if __name__ == "__main__":
    main()
