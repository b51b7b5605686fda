"""StopFile: the emergency stop on the disk, so that a gateway that is started anew is still stopped.

A file that can't be read counts as a stop: whoever pressed it is not there to say that it was nothing.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final

from gateway.server.safety import Safety, Stop
from gateway.server.station import shown_time
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

MAX_FILE: Final = 4096
MAX_TEXT: Final = 400


class StopFile:
    """The file at `path`. It is there as long as the emergency stop is latched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()

    def keep(self, safety: Safety) -> None:
        """Latch the stop that the file holds, if any, and have each change of it written from now on."""
        stop = self.load()
        if stop is not None and safety.stopped is None:
            safety.latch(stop)
        safety.on_latched.append(lambda _: WORKERS.submit(self._write, safety))  # a disk may be slow, a stop may not

    def load(self) -> Stop | None:
        """The stop that was latched when the gateway ended; None if there was none."""
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as problem:
            return self._unreadable(problem.strerror or str(problem))
        try:
            known = json.loads(text)
            by, why, since = known["by"], known["why"], datetime.fromisoformat(known["since"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return self._unreadable("it is damaged")
        if not (_is_text(by) and _is_text(why) and since.tzinfo is not None):
            return self._unreadable("it is damaged")
        return Stop(by, why, since)

    def _unreadable(self, what: str) -> Stop:
        _log.error("%s can't be read (%s): stopped until somebody resets it", self.path, what)
        return Stop("the gateway", f"{self.path} can't be read: {what}", datetime.now(UTC))

    def _write(self, safety: Safety) -> None:
        with self._lock:  # the last one writes what holds then
            stop = safety.stopped
            try:
                if stop is None:
                    self.path.unlink(missing_ok=True)
                else:
                    self._replace(
                        {"by": stop.by[:MAX_TEXT], "why": stop.why[:MAX_TEXT], "since": shown_time(stop.since)}
                    )
            except OSError as problem:
                _log.error("%s can't be written: %s; a restart would forget the emergency stop", self.path, problem)

    def _replace(self, known: dict[str, Any]) -> None:
        """Whole or not at all, and on the disk when this returns. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump(known, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except BaseException:
            with suppress(OSError):
                fresh.unlink()
            raise


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT
