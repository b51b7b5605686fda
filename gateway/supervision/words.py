"""What supervisor and worker say to each other: one JSON object in a datagram, its word first.

    worker      {"word": "ping"}                        its keeper has looked around
                {"word": "serving", "status": "...", "url": "tcp://127.0.0.1:18871"}
                {"word": "reached", "ports": {"psu1": "/dev/ttyUSB0"}}    devices that it had open
                {"word": "stopped", "stop": {"by": "alice", "why": "smoke", "since": "2024-08-17T12:00:00+00:00"}}
                {"word": "reloading"}, {"word": "reloaded", "good": true}
                {"word": "ending"}                      it was asked to end, and does
    supervisor  {"word": "stop", "number": 15}          end as by that signal
                {"word": "reload"}

The securer says {"word": "report", ...} for each device, as lines on a pipe.
"""

from __future__ import annotations

import json
from typing import Any, Final

MAX_WORD: Final = 32 * 1024
"""Bytes of one datagram."""


def encode(word: str, **facts: Any) -> bytes:
    """The bytes of a word, without a line break."""
    return json.dumps({"word": word, **facts}, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> dict[str, Any]:
    """What was said, `word` among it; empty where it is nothing that anybody says."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) and isinstance(said.get("word"), str) else {}
