"""Observing a gateway's readings from a client: `subscribe`, `observe`, `reading`.

All subscriptions of a connection share one inbox: the gateway sends what it has for any of them in one message. Each
has a bounded queue here too, and a callback that takes its time holds up no other one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from threading import Condition, Lock
from typing import Any, Final, Self

from gateway.errors import AccessDenied, BadRequest, LinkDown, NotFound
from gateway.service.reading import Reading
from gateway.sync.connection import _CLOSED_HERE, Connection
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

QUEUE: Final = 100
"""Readings that wait for a callback, where nothing else is said."""


def reading(conn: Connection, target: str, max_age: float = 0.0) -> Reading:
    """A reading of `target`, such as "psu1.voltage", that is no older than `max_age` seconds; 0: one that begins now.

    What the gateway knows already costs the instrument nothing. Raises what reading raises, NotFound, LinkDown.
    """
    return Reading.from_tuple(_inbox(conn).observers.read(target, max_age))


def subscribe(
    conn: Connection,
    target: str,
    callback: Callable[[Reading], Any],
    *,
    every: float = 1.0,
    on_change: bool = False,
    deadband: float = 0.0,
    max_queue: int = QUEUE,
) -> Subscription:
    """Have `callback(reading)` called every `every` seconds, in a thread of its own, until the subscription is
    cancelled.

    With `on_change` only where the value differs from the last one, for numbers by more than `deadband`. An error comes
    as a reading with an `error_code`, once. While the callback is behind, the newest `max_queue` readings wait for it.
    When the connection is lost, a last reading with the code `link-down` comes; not when this side closes it.
    Raises NotFound, AccessDenied, OutOfRange, Busy, LinkDown. The connection must be served in the background.
    """
    return _inbox(conn).subscribe(target, callback, every, on_change, deadband, max_queue)


def observe(
    conn: Connection,
    target: str,
    *,
    every: float = 1.0,
    on_change: bool = False,
    deadband: float = 0.0,
    max_queue: int = QUEUE,
) -> Subscription:
    """The same to iterate: `for reading in observe(conn, "psu1.voltage", every=0.1)`.

    Raises LinkDown, also while iterating. It is a context manager; whoever leaves the loop early should cancel it.
    """
    return _inbox(conn).subscribe(target, None, every, on_change, deadband, max_queue)


class Subscription:
    """One subscription: its readings go to `callback`, or are iterated where that is None."""

    def __init__(self, inbox: _Inbox, number: int, target: str, callback: Callable[[Reading], Any] | None, most: int):
        self.target = target
        self.ended: str | None = None
        """Why nothing more comes; None while something does."""
        self._inbox = inbox
        self._number = number
        self._callback = callback
        self._queue: deque[Reading] = deque()
        self._most = most
        self._dropped_here = 0
        self._dropped_there = 0
        self._running = False

    def __repr__(self) -> str:
        return f"<Subscription of {self.target} ({self.ended or 'open'})>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()

    def __iter__(self) -> Iterator[Reading]:
        return self

    def __next__(self) -> Reading:
        """The next reading; waits for it. Raises LinkDown once the connection is gone, StopIteration once cancelled."""
        if self._callback is not None:
            raise TypeError("the readings of this subscription go to its callback")
        return self._inbox.next_of(self)

    @property
    def dropped(self) -> int:
        """How many readings were dropped, here and at the gateway, because they were not taken in time."""
        return self._dropped_here + self._dropped_there

    def cancel(self) -> None:
        """Have no more readings; what waits is dropped. Idempotent. A callback that runs, runs on."""
        self._inbox.cancel(self)


class _Inbox:
    """The subscriptions of one connection."""

    def __init__(self, conn: Connection) -> None:
        try:
            self.observers = conn.root.observers
        except (AccessDenied, AttributeError) as error:
            raise NotFound("the other end has no observers: it is no gateway, or an older one") from error
        self._conn = conn
        self._remote: Any = None
        self._attaching = Lock()
        self._numbers = count(1)
        self._subscriptions: dict[int, Subscription] = {}
        self._changed = Condition(Lock())
        self._ready: deque[Subscription] = deque()
        """Subscriptions that have a reading for their callback, and nobody who runs it."""
        self._reserve = False
        """A worker is on its way that has no callback to run yet."""
        self._lost: str | None = None

    def subscribe(
        self,
        target: str,
        callback: Callable[[Reading], Any] | None,
        every: float,
        on_change: bool,
        deadband: float,
        max_queue: int,
    ) -> Subscription:
        with self._attaching:
            if self._remote is None:
                self._remote = self.observers.attach(self.deliver)
        number = next(self._numbers)
        subscription = Subscription(self, number, target, callback, max_queue)
        with self._changed:
            self._subscriptions[number] = subscription
        try:
            self._remote.subscribe(number, target, every, on_change, deadband, max_queue)
        except BaseException:
            with self._changed:
                self._subscriptions.pop(number, None)
            raise
        return subscription

    def cancel(self, subscription: Subscription) -> None:
        with self._changed:
            known = self._subscriptions.pop(subscription._number, None)
            subscription.ended = subscription.ended or "it was cancelled"
            subscription._queue.clear()
            self._changed.notify_all()
        if known is not None and not self._conn.closed:
            with suppress(LinkDown):  # then it has ended with it
                self._remote.cancel(known._number)

    # -- what comes -------------------------------------------------------------------------------------------------

    def deliver(self, items: Any) -> None:
        """The gateway's call: `((reading, ((number, dropped, last one), ...)), ...)`. Takes note and returns."""
        came = _checked(items)
        with self._changed:
            for each, whose in came:
                for number, dropped, last in whose:
                    subscription = self._subscriptions.get(number)
                    if subscription is not None:
                        subscription._dropped_there = dropped
                        if last:
                            subscription.ended = each.error or "the gateway ended it"
                            del self._subscriptions[number]
                        self._put(subscription, each)
            start = self._start_worker()
        if start:
            WORKERS.submit(self._run_callbacks)

    def lose(self, conn: Connection) -> None:
        """The connection is gone."""
        reason = _why(conn)
        with _lock:
            _inboxes.pop(conn, None)
        with self._changed:
            self._lost = reason
            subscriptions, self._subscriptions = self._subscriptions, {}
            for subscription in subscriptions.values():
                subscription.ended = reason
                if not _closed_here(conn):
                    device, _, name = subscription.target.rpartition(".")
                    code = LinkDown.code
                    last = Reading(None, None, time.time(), device, name, error_code=code, error=reason)
                    if subscription._callback is not None:
                        self._put(subscription, last)
            self._changed.notify_all()
            start = self._start_worker()
        if start:
            WORKERS.submit(self._run_callbacks)

    def next_of(self, subscription: Subscription) -> Reading:
        """The next reading of a subscription that is iterated."""
        with self._changed:
            while not subscription._queue:
                if self._lost is not None and subscription.ended == self._lost:
                    raise LinkDown(self._lost)
                if subscription.ended is not None:
                    raise StopIteration
                self._changed.wait()
            return subscription._queue.popleft()

    def _put(self, subscription: Subscription, each: Reading) -> None:
        """The caller holds the lock."""
        if len(subscription._queue) >= subscription._most:
            subscription._queue.popleft()
            subscription._dropped_here += 1
        subscription._queue.append(each)
        if subscription._callback is None:
            self._changed.notify_all()
        elif not subscription._running:
            subscription._running = True
            self._ready.append(subscription)

    # -- callbacks --------------------------------------------------------------------------------------------------

    def _start_worker(self) -> bool:
        """Whether a worker is to be submitted: there is work, and none in reserve. The caller holds the lock."""
        if not self._ready or self._reserve:
            return False
        self._reserve = True
        return True

    def _run_callbacks(self) -> None:
        """Run callbacks while there are any. One more worker is sent for first: this one may be held up by its own."""
        with self._changed:
            self._reserve = False
        while True:
            with self._changed:
                if not self._ready:
                    return
                subscription = self._ready.popleft()
                start = self._start_worker()
            if start:
                WORKERS.submit(self._run_callbacks)
            with self._changed:
                each = subscription._queue.popleft() if subscription._queue else None
            if each is not None:
                self._run(subscription, each)
            with self._changed:
                if subscription._queue:
                    self._ready.append(subscription)
                else:
                    subscription._running = False

    def _run(self, subscription: Subscription, each: Reading) -> None:
        assert subscription._callback is not None
        try:
            subscription._callback(each)
        except Exception:
            _log.exception("the callback for %s failed", subscription.target)


def _checked(items: Any) -> list[tuple[Reading, tuple[Any, ...]]]:
    """What the gateway sent, its shape checked. Raises BadRequest."""
    shaped = type(items) is tuple and all(
        type(item) is tuple
        and len(item) == 2
        and type(item[1]) is tuple
        and all(type(one) is tuple and tuple(map(type, one)) == (int, int, bool) for one in item[1])
        for item in items
    )
    if not shaped:
        raise BadRequest("readings come as a tuple of (reading, ((number, dropped, last one), ...))")
    return [(Reading.from_tuple(fields), whose) for fields, whose in items]


_inboxes: Final[dict[Connection, _Inbox]] = {}
_lock: Final = Lock()


def _inbox(conn: Connection) -> _Inbox:
    """The inbox of `conn`, made when it is first needed. Raises NotFound, LinkDown."""
    found = _inboxes.get(conn)
    if found is not None:
        return found
    made = _Inbox(conn)  # asks the gateway: nothing is held
    with _lock:
        found = _inboxes.setdefault(conn, made)
    if found is made:
        conn.on_lost.append(made.lose)
        if conn.closed:  # before it could tell
            made.lose(conn)
    return found


def _why(conn: Connection) -> str:
    try:
        conn.serve(0)
    except LinkDown as error:
        return str(error)
    return "the connection is lost"


def _closed_here(conn: Connection) -> bool:
    return _why(conn) == _CLOSED_HERE
