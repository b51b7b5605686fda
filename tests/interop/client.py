"""The client's process: `python -m tests.interop.client PEER URL`. Reads case names, answers in JSON lines."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
import traceback
from typing import Any

from tests.interop import cases, endings
from tests.interop.session import CASES, Session

CASE_FILES = (cases.__file__, endings.__file__)


def answer(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def run(session: Session, name: str) -> None:
    """Run one case; after a failed one the next starts on a new connection, where the line allows that."""
    start = time.monotonic()
    try:
        CASES[name].run(session)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        step = next((frame for frame in frames if frame.filename in CASE_FILES), frames[-1])
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]} (at {step.name}: {step.line})"
        answer(event="result", case=name, ok=False, error=text, seconds=time.monotonic() - start)
        if not session.is_serial:
            with contextlib.suppress(Exception):
                session.peer.close(session.conn)
            session.forget()
    else:
        answer(event="result", case=name, ok=True, error="", seconds=time.monotonic() - start)


def main(peer_name: str, url: str) -> None:
    peer = importlib.import_module(f"tests.interop.{peer_name}")
    session = Session(peer, url)
    answer(event="ready", version=peer.VERSION)
    for line in sys.stdin:
        name = line.strip()
        if name == "hold":
            assert session.conn.root.add(1, 1) == 2
            answer(event="holding")
        else:
            run(session, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
