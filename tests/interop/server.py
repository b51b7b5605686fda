"""The server's process: `python -m tests.interop.server PEER URL`. Reports its events as JSON lines on stdout."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from typing import Any

from tests.interop.bench import ALLOW, Bench

lock = threading.Lock()


def tell(event: str, **facts: Any) -> None:
    """One line for whoever started this process."""
    with lock:
        os.write(1, (json.dumps({"event": event, **facts}) + "\n").encode())


def main(peer_name: str, url: str) -> None:
    peer = importlib.import_module(f"tests.interop.{peer_name}")
    Bench.peer, Bench.tell = peer, staticmethod(tell)  # type: ignore[method-assign]
    peer.serve(url, ALLOW, lambda where: tell("listening", url=where, version=peer.VERSION))


if __name__ == "__main__":
    main(*sys.argv[1:])
