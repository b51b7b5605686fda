"""What calls, connections and the import cost beside time: bytes on the wire, CPU of the server, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import wire
from measure import WARM_UP, Site, run
from workloads import cached_method

TAPPED_CALLS: Final = 1000
"""Calls before, and again while bytes are counted; sequence numbers then have four digits on both sides."""
IDLE: Final = 200
"""Connections that are open at once, to see what one costs."""


def bytes_per_call(site: Site) -> float:
    """Bytes on the wire, both directions, per `root.method(1)` over a Unix socket."""
    path = os.path.join(site.directory, f"relay-{os.getpid()}-{threading.get_native_id()}-{perf_counter():.6f}.sock")
    with wire.TappingRelay(path, urlsplit(site.endpoints["unix"]).path) as relay:
        connection = site.implementation.connect("unix", f"unix://{path}")
        try:
            root = connection.root
            for _ in range(TAPPED_CALLS):
                root.method(1)
            before = relay.up + relay.down
            for _ in range(TAPPED_CALLS):
                root.method(1)
            return (relay.up + relay.down - before) / TAPPED_CALLS
        finally:
            connection.close()


def server_cpu(site: Site) -> float:
    """Microseconds of CPU that a cached call costs the server's process, kernel included."""
    connection = site.connect("tcp")
    try:
        burst = cached_method(site.implementation, connection)
        run(burst, site.seconds * WARM_UP)
        before = _cpu_of(site.endpoints["pid"])
        count, _ = run(burst, site.seconds)
        return (_cpu_of(site.endpoints["pid"]) - before) / count
    finally:
        connection.close()


def _cpu_of(pid: str) -> float:
    """Microseconds that the threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def idle_memory(site: Site) -> float:
    """KiB of the server's resident memory for each of many connections on which the root was asked for."""
    before = _resident(site.endpoints["pid"])
    connections = []
    try:
        for _ in range(IDLE):
            connections.append(site.connect("tcp"))
            connections[-1].root  # noqa: B018 - asking for it is the work
        return (_resident(site.endpoints["pid"]) - before) / IDLE / 1024
    finally:
        for connection in connections:
            connection.close()


def _resident(pid: str) -> int:
    """Bytes. The rollup is counted when it is read; `statm` lags behind by up to 64 pages for each thread."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Rss:"))


def import_time(site: Site) -> float:
    """Milliseconds until a program has `connect`."""
    return _in_new_process(site, "from time import perf_counter as now", "1e3 * (now() - before)")


def import_memory(site: Site) -> float:
    """MiB by which a program is larger when it has `connect`."""
    rollup = "def now(): return next(int(line.split()[1]) for line in open('/proc/self/smaps_rollup') if 'Rss' in line)"
    return _in_new_process(site, rollup, "(now() - before) / 1024")


def _in_new_process(site: Site, prepare: str, figure: str) -> float:
    module = site.implementation.module
    code = f"{prepare}\nbefore = now()\nimport {module}\n{module}.connect\nprint({figure})"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
