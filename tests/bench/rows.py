"""The table's rows, in its order: what each is called, in which unit it is, and what measures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import busy
import footprint
import workloads
from measure import Site, once, over


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    unit: str
    measure: Callable[[Site], float]
    more_is_better: bool = True
    mixed: bool = False
    """Measured with our client and a stock server, and the other way round, too."""
    apart: bool = False
    """The server has a CPU of its own."""
    once: bool = False
    """Measured in the first round only: it takes long."""
    quick: bool = True
    """Part of the quick table, too."""
    alone: bool = False
    """Measured in new processes: after a free of 8 MiB malloc keeps its memory, which makes a later 1 MiB ten times
    faster."""


FLOOR: Final = "floor"
FLOOR_BULK: Final = "floor-bulk"
CACHED: Final = "cached"

ROWS: Final[dict[str, Row]] = {
    FLOOR: Row("raw TCP ping-pong 81/17 B (control)", "calls/s", workloads.floor),
    "root-method": Row("root.method(x)", "calls/s", over("tcp", workloads.root_method), mixed=True),
    CACHED: Row("cached method", "calls/s", over("tcp", workloads.cached_method), mixed=True),
    "cached-unix": Row("cached method, Unix socket", "calls/s", over("unix", workloads.cached_method)),
    "attribute": Row("attribute get", "gets/s", over("tcp", workloads.attribute)),
    "pipelined-unix": Row(f"pipelined x{workloads.DEPTH}, Unix socket", "calls/s", over("unix", workloads.pipelined)),
    "pipelined-tcp": Row(
        f"pipelined x{workloads.DEPTH}, TCP with NODELAY",
        "calls/s",
        over("tcp-nodelay", workloads.pipelined),
        mixed=True,
    ),
    "callback": Row("callback to the client, Unix socket", "calls/s", over("unix", workloads.callback), mixed=True),
    "callback-tcp": Row("callback to the client, TCP", "calls/s", over("tcp", workloads.callback), mixed=True),
    "custom-netref": Row(
        "custom object returned, dropped", "objects/s", over("tcp", workloads.custom_object), mixed=True
    ),
    "list-netref": Row("list netref returned, dropped", "objects/s", over("tcp", workloads.list_object)),
    "iteration": Row("iterate a remote list, Unix socket", "items/s", over("unix", workloads.iteration)),
    "buffiter": Row("buffiter, 10 000 ints, Unix socket", "items/s", over("unix", workloads.buffered_iteration)),
    "exception": Row("ValueError raised and caught", "errors/s", over("tcp", workloads.remote_error)),
    "p99": Row("cached method, 99 of 100 within", "us", workloads.slowest, more_is_better=False),
    "threads-4": Row("cached method, 4 threads share", "calls/s", workloads.shared_by(4)),
    "threads-16": Row("cached method, 16 threads share", "calls/s", workloads.shared_by(16)),
    "server-cpu": Row("CPU of the server for each call", "us", footprint.server_cpu, more_is_better=False, mixed=True),
    "device": Row("cached method, device profile, Unix", "calls/s", over("device", workloads.cached_method)),
    "numbers": Row("list of 10 000 ints of a device, Unix", "numbers/s", over("device", workloads.numbers("list"))),
    "numbers-tuple": Row("tuple of 10 000 floats, Unix", "numbers/s", over("device", workloads.numbers("tuple"))),
    "numbers-dict": Row("dict of 10 000 floats, Unix", "numbers/s", over("device", workloads.numbers("dict"))),
    FLOOR_BULK: Row("8 MB from a raw Unix socket (control)", "MiB/s", workloads.floor_bulk, alone=True),
    "array": Row("numpy array of 8 MB, no pickle, Unix", "MiB/s", over("device", workloads.array), alone=True),
    "busy": Row("50 busy clients, server alone on a CPU", "calls/s", busy.rate, apart=True),
    "busy-p99": Row("50 busy clients: 99 of 100 within", "us", busy.slowest, apart=True, more_is_better=False),
    "busy-blocked": Row("50 busy clients, 5 others block", "calls/s", busy.rate_beside_blocked, apart=True),
    "idle": Row("memory of an idle connection", "KiB", footprint.idle_memory, more_is_better=False, alone=True),
    "import-time": Row("import of the client", "ms", footprint.import_time, more_is_better=False),
    "import-memory": Row("memory of the import", "MiB", footprint.import_memory, more_is_better=False),
    "connect-root": Row("connect, root, close", "ms", workloads.opening(lambda root: root), more_is_better=False),
    "connect-call": Row("connect, root.method(1), close", "ms", workloads.opening(lambda root: root.method(1)), False),
    "wire-bytes": Row("wire bytes per root.method(1)", "B", footprint.bytes_per_call, more_is_better=False, mixed=True),
    "up-1": Row("1 MiB up, Unix, uncompressed", "MiB/s", over("unix", workloads.upload(1)), alone=True),
    "down-1": Row("1 MiB down, Unix, uncompressed", "MiB/s", over("unix", workloads.download(1)), alone=True),
    "up-8": Row("8 MiB up, Unix, uncompressed", "MiB/s", over("unix", workloads.upload(8)), alone=True),
    "down-8": Row("8 MiB down, Unix, uncompressed", "MiB/s", over("unix", workloads.download(8)), alone=True),
    "up-64": Row(
        "64 MiB up, Unix, uncompressed",
        "MiB/s",
        once("large", workloads.upload(64)),
        alone=True,
        once=True,
        quick=False,
    ),
    "down-64": Row(
        "64 MiB down, Unix", "MiB/s", once("large", workloads.download(64)), alone=True, once=True, quick=False
    ),
    "up-1-defaults": Row("1 MiB up, TCP, as shipped", "MiB/s", over("tcp", workloads.upload(1)), alone=True),
    "down-1-defaults": Row("1 MiB down, TCP, as shipped", "MiB/s", over("tcp", workloads.download(1)), alone=True),
}
"""Name -> row, in the table's order."""
