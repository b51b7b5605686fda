"""Log records as journald takes them: `<4>gateway.app: psu1 is not available`.

The number is the priority of syslog(3); journald keeps it and takes it off the text. It adds the time by itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final

PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
"""The lowest level of `logging` -> syslog's priority, most urgent first."""


def stderr_is_journal(environ: Mapping[str, str] = os.environ, descriptor: int = 2) -> bool:
    """Whether what is written to `descriptor` goes to journald: $JOURNAL_STREAM is `DEVICE:INODE` of its socket.

    The variable alone does not say so: a child whose stderr was redirected inherits it too.
    """
    stream = environ.get("JOURNAL_STREAM", "")
    if not stream:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


class JournalFormatter(logging.Formatter):
    """`<PRIORITY>LOGGER: MESSAGE`; each line of a record with a traceback carries the priority."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in PRIORITIES if record.levelno >= level)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)
