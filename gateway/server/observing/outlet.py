"""Outlet: carries readings to one callback, and waits for nobody.

At most one worker sends for an outlet at a time, and at most `window` calls of its callback are unanswered: a client
that stands still is sent nothing more, and what it is owed waits in its subscribers' bounded queues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, Final

from gateway.errors import LimitExceeded, LinkDown
from gateway.protocol.netref import Netref
from gateway.server.observing.subscriber import Subscriber
from gateway.service.device_policy import plain
from gateway.service.reading import Reading
from gateway.sync.connection import Connection
from gateway.sync.result import AsyncResult
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

BATCH: Final = 500
BATCH_WEIGHT: Final = 256 * 1024
"""What a call carries weighs no more, unless it is a single reading."""


def submit(function: Callable[..., Any], *args: Any) -> None:
    """Have a worker run it. Where the system gives no further thread, one that there is will, as soon as it is free."""
    try:
        WORKERS.submit(function, *args)
    except RuntimeError as error:
        _log.warning("no further worker: %s", error)


Item = tuple[Subscriber, Reading, bool]
"""A subscriber, its reading, and whether that is its last one."""
Send = Callable[[Sequence[Item], Callable[[], None]], None]
"""`send(items, done)` begins a call of the callback; `done()` is called once when it has ended, however it did."""


class Outlet:
    """The way to one callback. `lock` guards it, its subscribers, and the board they stand on.

    `at_once` is how many readings one call may carry. Outlets of the same `route`, such as a connection, may be run by
    one worker: what holds up one of them holds up all.
    """

    def __init__(self, send: Send, lock: Lock, window: int, *, at_once: int = 1, route: object = None) -> None:
        self.route = self if route is None else route
        self._send = send
        self._lock = lock
        self._window = window
        self._at_once = at_once
        self._ready: dict[Subscriber, None] = {}
        self._unanswered = 0
        self._sending = False
        self._closed = False

    def add(self, subscriber: Subscriber) -> bool:
        """`subscriber` has something in its queue; whether `run` is to be submitted. The caller holds the lock."""
        if self._closed:
            return False
        self._ready[subscriber] = None
        return self._wants_worker()

    def close(self) -> None:
        """Carry nothing more. The caller holds the lock."""
        self._closed = True
        self._ready.clear()

    def forget(self, subscriber: Subscriber) -> None:
        """`subscriber` was cancelled. The caller holds the lock."""
        self._ready.pop(subscriber, None)

    def run(self) -> None:
        """Send what there is. In a worker of its own: the peer may hold up whoever sends to it."""
        while True:
            with self._lock:
                items = self._take()
                if not items:
                    self._sending = False
                    return
                self._unanswered += 1
            # On its way: as one frame that has left, it is the peer's turn.
            ended = _Once(self._answered, items)
            try:
                self._send(items, ended)
            except LinkDown:
                ended()  # its connection tells the rest
            except LimitExceeded as error:
                ended()
                self._replace(items, error)
            except Exception:
                _log.exception("a reading could not be sent")
                ended()

    def _wants_worker(self) -> bool:
        if not self._ready or self._sending or self._unanswered >= self._window:
            return False
        self._sending = True
        return True

    def _take(self) -> list[Item]:
        items: list[Item] = []
        if self._unanswered >= self._window:
            return items
        room = BATCH_WEIGHT
        while self._ready and len(items) < self._at_once:
            subscriber = next(iter(self._ready))
            del self._ready[subscriber]
            taken = subscriber.take()
            if taken is None:
                continue
            reading, weight = taken
            if items and weight > room:
                subscriber.put_back(reading, weight)
                self._ready[subscriber] = None
                break
            room -= weight
            items.append((subscriber, reading, subscriber.ended))
            if len(subscriber):
                self._ready[subscriber] = None  # behind the others
        return items

    def _answered(self, items: Sequence[Item]) -> None:
        with self._lock:
            self._unanswered -= 1
            for subscriber, _, _ in items:
                subscriber.progressed()
            wanted = self._wants_worker()
        if wanted:
            submit(self.run)

    def _replace(self, items: Sequence[Item], error: LimitExceeded) -> None:
        """Say that a reading was too large to be carried."""
        with self._lock:
            for subscriber, reading, _ in items:
                told = replace(reading, value=None, error_code=error.code, error=f"the reading is too large: {error}")
                if not subscriber.ended:
                    subscriber.put_back(told, 0)
                    self._ready[subscriber] = None


def run_all(outlets: Sequence[Outlet]) -> None:
    """Run outlets of one route, one after the other."""
    for outlet in outlets:
        outlet.run()


class _Once:
    """Calls a function the first time only."""

    def __init__(self, function: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> None:
        self._left = [(function, items)]

    def __call__(self, *_: Any) -> None:
        try:
            function, items = self._left.pop()
        except IndexError:
            return
        function(items)


def to_callable(callback: Callable[[Reading], Any]) -> Send:
    """Call a function of this process, in the worker that sends."""

    def send(items: Sequence[Item], done: Callable[[], None]) -> None:
        try:
            for _, reading, _ in items:
                callback(reading)
        finally:
            done()

    return send


def to_peer(callback: Netref) -> Send:
    """Call a peer's `callback(fields of a reading)`, for each reading; any RPyC client can have that."""
    conn: Connection = callback.____conn__

    def send(items: Sequence[Item], done: Callable[[], None]) -> None:
        for _, reading, _ in items:
            _call(conn, callback, tuple(map(plain, reading.as_tuple())), done)

    return send


def to_inbox(deliver: Netref) -> Send:
    """Call a peer's `deliver(((fields of a reading, ((number, dropped, last one), ...)), ...))`.

    What goes to several subscribers, one after the other, is there once. See gateway.sync.observing.
    """
    conn: Connection = deliver.____conn__

    def send(items: Sequence[Item], done: Callable[[], None]) -> None:
        batch: list[tuple[Reading, list[tuple[int, int, bool]]]] = []
        for subscriber, reading, last in items:
            if not batch or batch[-1][0] is not reading:
                batch.append((reading, []))
            batch[-1][1].append((subscriber.number, subscriber.dropped, last))
        _call(conn, deliver, tuple([(reading.as_tuple(), tuple(whose)) for reading, whose in batch]), done)

    return send


def _call(conn: Connection, target: Any, argument: Any, done: Callable[[], None]) -> None:
    def answered(result: AsyncResult) -> None:
        done()

    conn.call_async(target, None, (argument,), {}).add_callback(answered)
