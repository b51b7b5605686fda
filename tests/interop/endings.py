"""The cases that end a connection: closed or killed, from either end."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Final

from tests.interop.session import Session, case, raised

NOTICED_S: Final = 1.5
"""The end of a peer on TCP or a Unix socket is noticed within this time; a close on a serial line too."""
CLOSE_BY_THE_CLIENT: Final = "close_by_the_client"
CLOSE_BY_THE_SERVER: Final = "close_by_the_server"
KILL_THE_SERVER: Final = "kill_the_server"
KILL_THE_CLIENT: Final = "kill_the_client"
"""Run by `cells.py`: the killed client can't look at it."""
ALL: Final = (CLOSE_BY_THE_CLIENT, CLOSE_BY_THE_SERVER, KILL_THE_SERVER)


@case()
def close_by_the_client(session: Session) -> None:
    conn, root = session.conn, session.root
    start = time.monotonic()
    session.peer.close(conn)
    assert time.monotonic() - start < NOTICED_S
    assert conn.closed
    session.peer.close(conn)
    raised(EOFError, lambda: root.add(1, 1))
    session.forget()


@case()
def close_by_the_server(session: Session) -> None:
    conn, root = session.conn, session.root
    start = time.monotonic()
    session.peer.async_(root.hang_up)()
    raised(EOFError, serve_until_closed, conn)
    assert time.monotonic() - start < NOTICED_S
    raised(EOFError, lambda: root.add(1, 1))
    assert conn.closed
    session.forget()


def serve_until_closed(conn: Any) -> None:
    while not conn.closed:
        conn.serve(0.1)
    raise EOFError("closed while serving")


@case(serial=False)
def kill_the_server(session: Session) -> None:
    root = session.root
    pid = root.pid()
    pending = session.peer.async_(root.wait)(30)
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    raised(EOFError, lambda: pending.value)
    assert time.monotonic() - start < NOTICED_S
    raised(EOFError, lambda: root.add(1, 1))
    assert session.conn.closed
    session.forget()
