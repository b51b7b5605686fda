"""The line under a connection, broken on purpose."""

from __future__ import annotations

import os
import socket
from typing import Any


def cut(conn: Any) -> None:
    """Break the connection's line for both ends, without a word of the protocol: as when a process dies."""
    with socket.socket(fileno=os.dup(conn.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
