"""The crowd: many busy connections of a server, served by one thread.

Few busy connections have a worker each, which waits for the next request in the system call that brings it. Many would
have as many threads that fight for the interpreter, so from a handful on they share one: it polls, and runs each call
itself, which saves the handing over. A call that takes longer than a moment must not hold up the others. So a second
thread stands by and looks every moment whether the call is still the same one: if it is, it takes the polling over, and
the first one stays with its call. (Go's scheduler does the same with blocking system calls.)
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import monotonic, sleep
from typing import Final

from gateway.errors import LinkDown
from gateway.sync.connection import Connection
from gateway.sync.workers import WORKERS

MOMENT_S: Final = 0.002
"""A call that takes longer has its thread to itself."""
LOOK_S: Final = 0.1
"""How often it is looked whether the connections are still many and busy."""
FEW: Final = 3
"""No more than so many busy connections are no crowd."""


class Crowd:
    """`give_back(conn)` is called for each connection that is served here no more."""

    def __init__(self, give_back: Callable[[Connection], None]) -> None:
        self._give_back = give_back
        self._lock = Lock()
        self._poller: select.epoll | None = None
        self._members: dict[int, Connection] = {}
        self._leader: object = None
        """Stands for the thread that polls: another one that finds itself replaced does not go on."""
        self._serving: Connection | None = None
        self._calls = 0
        """How often a connection was turned to."""

    def join(self, conn: Connection) -> None:
        """Serve this connection here from now on."""
        try:
            fd = conn.fileno()
        except LinkDown:
            self._give_back(conn)
            return
        with self._lock:
            if self._poller is None:
                self._poller = select.epoll()
                self._begin()
            lost = self._members.get(fd)  # the system gives numbers out again at once
            self._members[fd] = conn
            with suppress(OSError):  # closed just now: it is found when it is looked
                self._poller.register(fd, select.EPOLLIN)
        if lost is not None:
            self._give_back(lost)

    def _begin(self) -> None:
        self._leader = leader = object()
        WORKERS.submit(self._lead, leader)
        WORKERS.submit(self._stand_by)

    # -- the thread that serves -------------------------------------------------------------------------------------

    def _lead(self, leader: object) -> None:
        poller = self._poller
        assert poller is not None
        look_at, busy = monotonic() + LOOK_S, set[int]()
        while True:
            for fd, _ in poller.poll(LOOK_S):
                conn = self._members.get(fd)
                if conn is None:
                    self._ignore(fd)
                    continue
                busy.add(fd)
                self._calls += 1
                self._serving = conn
                stays = conn.serve_ready()
                with self._lock:
                    replaced = self._leader is not leader
                    if not replaced:
                        self._serving = None
                if replaced:
                    return
                if not stays:
                    self._leave(fd, conn)
            now = monotonic()
            if now >= look_at:
                if len(busy) <= FEW:
                    self._disband(leader)
                    return
                for fd, conn in list(self._members.items()):
                    if conn.closed or fd not in busy:
                        self._leave(fd, conn)
                look_at, busy = now + LOOK_S, set()

    def _leave(self, fd: int, conn: Connection) -> None:
        with self._lock:
            if self._members.get(fd) is not conn:
                return
            del self._members[fd]
        self._ignore(fd)
        self._give_back(conn)

    def _ignore(self, fd: int) -> None:
        """Nobody here wants to hear of this descriptor, which may be another one's by now."""
        with self._lock, suppress(OSError, ValueError):
            if self._poller is not None and fd not in self._members:
                self._poller.unregister(fd)

    def _disband(self, leader: object) -> None:
        with self._lock:
            if self._leader is not leader or self._poller is None:
                return
            left, self._members = list(self._members.values()), {}
            self._poller.close()
            self._poller = self._leader = None
        for conn in left:
            self._give_back(conn)

    # -- the thread that stands by ----------------------------------------------------------------------------------

    def _stand_by(self) -> None:
        leader, before = self._leader, -1
        while self._leader is leader and leader is not None:
            if self._serving is not None and self._calls == before:
                self._take_over(leader)
                return
            before = self._calls
            sleep(MOMENT_S)

    def _take_over(self, leader: object) -> None:
        """Poll in place of a thread whose call goes on and on; that one stays with it."""
        with self._lock:
            conn = self._serving
            if self._leader is not leader or conn is None or self._poller is None:
                return
            self._leader = mine = object()
            self._serving = None
            for fd, member in list(self._members.items()):
                if member is conn:
                    del self._members[fd]
                    with suppress(OSError, ValueError):
                        self._poller.unregister(fd)
        WORKERS.submit(self._stand_by)
        self._give_back(conn)  # it may have more to say while its call runs
        self._lead(mine)
