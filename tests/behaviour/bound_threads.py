"""A program of its own: under bind_threads, where does a callback run? `python -m tests.behaviour.bound_threads stock`.

Prints "own" when each callback ran in the thread whose call led to it although another thread was serving the
connection, else "other". A process of its own, ended without ceremony, because stock's bound connections keep a thread
pool that can hold up the interpreter's exit.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any


class Caller:
    def exposed_call(self, function: Callable[[], Any]) -> Any:
        return function()


def main(implementation: str) -> None:
    rpc = importlib.import_module(f"tests.behaviour.{implementation}")
    service = type("CallerService", (Caller, rpc.Service), {})
    bound = {"bind_threads": True}
    conn, _ = rpc.served_pair(rpc.VoidService, service, bound, bound)
    root = conn.root
    threading.Thread(target=conn.serve_all, daemon=True).start()
    ran_in: dict[int, set[int]] = {}

    def caller() -> None:
        me = threading.get_ident()
        ran_in[me] = {root.call(threading.get_ident) for _ in range(5)}

    for _ in range(2):
        thread = threading.Thread(target=caller, daemon=True)
        thread.start()
        thread.join(10)
    own = len(ran_in) > 0 and all(threads == {caller} for caller, threads in ran_in.items())
    print("own" if own else "other", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
