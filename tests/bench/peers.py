"""The processes that are measured: one server and one client for each implementation.

    python peers.py serve gateway|rpyc CPU DIRECTORY
    python peers.py drive gateway|rpyc CPU DIRECTORY

Both speak JSON lines on stdin and stdout and end when stdin does. Each says `{"version"}` when it is ready, a server
its `{"endpoints"}` too. A client answers each `{"row", "endpoints", "seconds"}` with `{"value"}` or `{"error"}`.
DIRECTORY takes the Unix sockets. A process pins itself to CPU before it imports what is measured.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import rows
import wire
from implementations import IMPLEMENTATIONS, Implementation, random_bytes
from measure import Site
from workloads import BULK


def _serve(implementation: Implementation, directory: str) -> None:
    endpoints = implementation.serve(directory) | {
        "floor": wire.serve_floor(),
        "bulk": wire.serve_bulk(os.path.join(directory, "bulk.sock"), random_bytes(BULK)),
        "pid": str(os.getpid()),
    }
    _say({"endpoints": endpoints, "version": implementation.version})
    sys.stdin.read()


def _drive(implementation: Implementation, directory: str) -> None:
    _say({"version": implementation.version})
    for line in sys.stdin:
        order = json.loads(line)
        site = Site(implementation, order["endpoints"], order["seconds"], directory)
        try:
            _say({"value": rows.ROWS[order["row"]].measure(site)})
        except Exception as error:
            # Whatever went wrong, this row failed and the next one may still be measured.
            _say({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else '(no text)'}"})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(mode: str, name: str, cpu: str, directory: str) -> None:
    os.sched_setaffinity(0, {int(cpu)})
    implementation = IMPLEMENTATIONS[name]()
    (_serve if mode == "serve" else _drive)(implementation, directory)
    # Nothing is torn down: a process that was measured is thrown away.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
