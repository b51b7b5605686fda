"""The reactor: one thread that watches the connections nobody reads.

A connection is either *watched* (its descriptor is in the selector) or *active*: something came, a worker serves it,
and goes on serving it as long as more comes within a short while. So an idle connection costs no thread, and a busy one
no thread hop per call. Where many of a server's are active at once, one thread serves them all (see `crowd`). Every few
milliseconds the active ones are looked at: one that nobody reads any more is watched again. That is how a call that
takes long loses the reading to the next worker, and calls for other devices get through.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable
from threading import Lock, Thread
from time import monotonic
from typing import Final

from gateway.errors import LinkDown
from gateway.sync.connection import Connection
from gateway.sync.crowd import FEW, Crowd
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

TICK_S: Final = 0.005
TICK_MAX_S: Final = 0.02
LINGER_S: Final = 0.02
"""A worker waits this long for a server connection's next message before it leaves it to the reactor."""
HOUSEKEEPING_S: Final = 1.0


class Reactor:
    """Watches connections and listeners; its thread runs while there are any."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._changes: deque[Callable[[], None]] = deque()
        self._thread: Thread | None = None
        self._selector: selectors.BaseSelector | None = None
        self._waker: socket.socket | None = None
        self._watched: dict[Connection, int] = {}
        self._owners: dict[int, Connection] = {}
        """Whose descriptor a number is: it may have been another's before."""
        self._active: set[Connection] = set()
        self._listeners: dict[int, Callable[[], None]] = {}
        self._dispatched: set[Connection] = set()
        self._ticking = False
        """The thread looks at the changes within TICK_MAX_S anyway."""
        self._linger: dict[Connection, float] = {}
        self._busy: set[Connection] = set()
        """Connections with a time to linger that a worker or the crowd serves now."""
        self._crowd = Crowd(self._rest)
        self._seen: dict[Connection, int] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def add(self, conn: Connection, linger_s: float = 0.0, *, serve_now: bool = False) -> None:
        """Serve this connection until it is lost; with `serve_now`, first in this thread as long as messages come.

        `linger_s`: a worker stays with the connection as long as the next message comes within this time. For a
        server's connections, which mostly wait for requests; a client's own threads want the reading for themselves.
        """
        conn.looked_after = True
        conn.on_lost.append(self._forget)
        self._linger[conn] = linger_s
        if serve_now:
            self._dispatched.add(conn)
            self._change(lambda: self._active.add(conn), hurry=False)
            self._burst(conn)
        else:
            self._change(lambda: self._begin(conn), hurry=False)

    def add_listener(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` in the reactor's thread whenever `fd` is readable. It must not block."""
        self._change(lambda: self._listen(fd, ready))

    def remove_listener(self, fd: int) -> None:
        self._change(lambda: self._unlisten(fd))

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        """Call `function` in the reactor's thread after `delay_s` seconds. It must not block."""
        self._change(lambda: self._timers.append((monotonic() + delay_s, function)))

    def _forget(self, conn: Connection) -> None:
        # Nothing hurries: its descriptor is closed, and the thread wakes now and then.
        with self._lock:
            self._changes.append(lambda: self._drop(conn))

    # -- between threads --------------------------------------------------------------------------------------------

    def _change(self, change: Callable[[], None], *, hurry: bool = True) -> None:
        """Have the reactor's thread do `change`; it alone touches the selector and the sets.

        Without `hurry` a thread that ticks is not woken for it.
        """
        with self._lock:
            self._changes.append(change)
            if self._thread is None:
                self._start()
            elif self._waker is not None and (hurry or not self._ticking):
                with contextlib.suppress(OSError):
                    self._waker.send(b"!")

    def _start(self) -> None:
        self._waker, wakened = socket.socketpair()
        wakened.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._thread = Thread(target=self._run, args=(self._selector, wakened), name=self._name, daemon=True)
        self._thread.start()

    def _finished(self, wakened: socket.socket) -> bool:
        """End the thread where there is nothing left to watch."""
        with self._lock:
            if self._watched or self._active or self._listeners or self._timers or self._changes:
                return False
            for closable in (self._selector, self._waker, wakened):
                if closable is not None:
                    closable.close()
            self._thread = self._selector = self._waker = None
            return True

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self, selector: selectors.BaseSelector, wakened: socket.socket) -> None:
        selector.register(wakened, selectors.EVENT_READ)
        tick, next_housekeeping = TICK_S, monotonic() + HOUSEKEEPING_S
        while True:
            try:
                self._make_changes()
                if self._finished(wakened):
                    return
                tick = TICK_S if self._turn(selector, wakened, tick) else min(tick * 1.5, TICK_MAX_S)
                now = monotonic()
                self._run_timers(now)
                if now >= next_housekeeping:
                    self._housekeep(now)
                    next_housekeeping = now + HOUSEKEEPING_S
            except Exception:
                _log.exception("%s: unexpected error; going on", self._name)

    def _turn(self, selector: selectors.BaseSelector, wakened: socket.socket, tick: float) -> bool:
        """Wait once and do what is to be done then; whether anything came.

        What it looks at is forgotten when it returns: a thread that waits must not keep a lost connection alive.
        """
        timeout = self._timeout(tick)
        self._ticking = timeout is not None and timeout <= TICK_MAX_S
        events = selector.select(timeout)
        self._ticking = False
        for key, _ in events:
            if key.data is None:
                _drain(wakened)
            else:
                key.data()
        for conn in list(self._active):
            self._settle(conn)
        return bool(events)

    def _timeout(self, tick: float) -> float | None:
        waits = [when - monotonic() for when, _ in self._timers]
        if self._active:
            waits.append(tick)
        elif self._watched:
            waits.append(HOUSEKEEPING_S)
        return max(0.0, min(waits)) if waits else None

    def _run_timers(self, now: float) -> None:
        if self._timers:
            due = [function for when, function in self._timers if when <= now]
            self._timers = [timer for timer in self._timers if timer[0] > now]
            for function in due:
                function()

    def _make_changes(self) -> None:
        while self._changes:
            with self._lock:
                change = self._changes.popleft()
            change()

    def _begin(self, conn: Connection) -> None:
        self._active.add(conn)
        self._watch(conn)

    def _settle(self, conn: Connection) -> None:
        """Watch an active connection again if nobody reads it."""
        if conn.closed:  # possibly before we could be told
            self._drop(conn)
            return
        wanted = conn.wants_reading
        if conn in self._dispatched or wanted == "wait":
            return
        if wanted == "serve":
            self._dispatch(conn)
        elif self._seen.get(conn) != conn.received:
            # Somebody has been reading it since the last look and is likely to go on.
            self._seen[conn] = conn.received
        else:
            self._watch(conn)

    def _watch(self, conn: Connection) -> None:
        if conn.closed or conn not in self._active or self._selector is None:
            return
        try:
            fd = conn.fileno()
            self._register(fd, lambda: self._serve(conn))
        except (LinkDown, OSError, ValueError):
            return  # lost just now; the change that drops it is on its way
        self._active.discard(conn)
        self._watched[conn] = fd
        self._owners[fd] = conn

    def _register(self, fd: int, ready: Callable[[], None]) -> None:
        if self._selector is None:
            return
        if fd in self._selector.get_map():
            # It was of a connection that is lost and not dropped yet: the system gives numbers out again at once.
            self._selector.unregister(fd)
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def _serve(self, conn: Connection) -> None:
        if conn.take_heartbeat():
            return
        self._unwatch(conn)
        self._active.add(conn)
        if conn.wants_reading != "wait":
            self._dispatch(conn)

    def _dispatch(self, conn: Connection) -> None:
        """Have a worker serve the connection; until it begins, nothing more is done about it here."""
        self._dispatched.add(conn)
        WORKERS.submit(self._burst, conn)

    def _burst(self, conn: Connection) -> None:
        self._dispatched.discard(conn)
        linger_s = self._linger.get(conn, 0.0)
        if not linger_s:  # a client's: no crowd is made of these
            conn.serve_burst(0.0)
            self._rest(conn)
            return
        self._busy.add(conn)
        conn.serve_burst(linger_s, self._are_few)
        if not self._are_few() and conn.serve_ready():
            self._dispatched.add(conn)
            self._crowd.join(conn)
        else:
            self._rest(conn)

    def _are_few(self) -> bool:
        return len(self._busy) <= FEW

    def _rest(self, conn: Connection) -> None:
        """Nobody serves it for now."""
        self._busy.discard(conn)
        self._dispatched.discard(conn)
        if not conn.closed:  # watched at once: the next request may come before the next tick
            self._change(lambda: self._watch(conn))

    def _drop(self, conn: Connection) -> None:
        self._active.discard(conn)
        self._dispatched.discard(conn)
        self._busy.discard(conn)
        self._linger.pop(conn, None)
        self._seen.pop(conn, None)
        self._unwatch(conn)

    def _unwatch(self, conn: Connection) -> None:
        fd = self._watched.pop(conn, None)
        if fd is not None and self._owners.get(fd) is conn:
            del self._owners[fd]
            if self._selector is not None:
                with contextlib.suppress(KeyError, ValueError, OSError):
                    self._selector.unregister(fd)

    def _listen(self, fd: int, ready: Callable[[], None]) -> None:
        self._owners.pop(fd, None)
        with contextlib.suppress(OSError, ValueError):  # closed just now; the change that removes it is on its way
            self._register(fd, ready)
            self._listeners[fd] = ready

    def _unlisten(self, fd: int) -> None:
        if self._listeners.pop(fd, None) is not None and self._selector is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(fd)

    def _housekeep(self, now: float) -> None:
        for conn in [*self._watched, *self._active]:
            conn.housekeep(now)


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(4096):
            pass


REACTOR: Final = Reactor("gateway-reactor")
"""Shared by all connections of the process."""
