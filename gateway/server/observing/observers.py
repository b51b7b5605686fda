"""Observers: the front of observing. One thread says when, workers read and carry, nobody waits for a client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from math import inf
from threading import Condition, Event, Lock, Thread
from time import monotonic, time
from typing import Any, Final

from gateway.errors import CallTimeout, GatewayError
from gateway.server.observing.board import Board, Outcome
from gateway.server.observing.bounds import (
    Bounds,
    checked_age,
    checked_deadband,
    checked_every,
    checked_queue,
)
from gateway.server.observing.outlet import Outlet, Send, run_all, submit, to_callable
from gateway.server.observing.subscriber import Key, Subscriber
from gateway.service.reading import Reading, failed_reading

_log: Final = logging.getLogger(__name__)

Read = Callable[[str, str], Reading]
"""`read(device, property)`, taking its turn in the device's lane. Raises what reading raises."""
IDLE_S: Final = 5.0
"""The scheduler's thread ends when nothing is polled for so long."""


class Observers:
    """Answers reads from a cache, and polls for subscribers.

    `read(device, property)` reads the instrument. `cache` is what is polled whoever asks: `{(device, property):
    seconds}`.
    """

    def __init__(self, read: Read, cache: Mapping[Key, float] | None = None, bounds: Bounds | None = None) -> None:
        self._read = read
        self.bounds = bounds or Bounds()
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._board = Board(self.bounds)
        self._thread: Thread | None = None
        self._sleeps_until = -inf
        self._closed = False
        self.kept: Mapping[Key, float] = {}
        """What is polled whoever asks."""
        self.keep(cache or {})

    def keep(self, cache: Mapping[Key, float]) -> None:
        """Poll this whoever asks, and nothing else for that reason."""
        with self._lock:
            now = monotonic()
            for key in self.kept.keys() - cache.keys():
                self._board.keep(key, inf, now)
            for key, period_s in cache.items():
                self._board.keep(key, period_s, now)
            self.kept = dict(cache)
            self._hurry()

    @property
    def subscriptions(self) -> int:
        """How many there are."""
        return self._board.subscriptions

    def close(self) -> None:
        """Poll no more. Idempotent; reads are still answered."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, device: str, name: str, max_age_s: float = 0.0, timeout_s: float = 30.0) -> Reading:
        """A reading of `device.name` that is no older than `max_age_s`; 0: one that begins now.

        Whoever asks meanwhile gets the same one, or the same error. Raises what the read raises, Busy where too many
        properties are watched, CallTimeout where it takes longer than `timeout_s`.
        """
        key = device, name
        waiter = _Waiter()
        with self._lock:
            known = self._board.ask(key, checked_age(max_age_s), monotonic(), waiter)
            mine = known is None and self._board.claim(device)
            self._hurry()
        if mine:
            self._poll(device)  # in this thread: a lone reader waits for no other
            with self._lock:
                more = self._board.leave(device)
            if more:
                submit(self._work, device)
        if known is None:
            known = waiter.wait(timeout_s)
            if known is None:
                with self._lock:
                    self._board.forget_waiter(key, waiter)
                raise CallTimeout(f"{device}.{name}: no reading within {timeout_s:g} s")
        if known.error is not None:
            raise known.error.with_traceback(None)
        return known.reading

    # -- subscribing ------------------------------------------------------------------------------------------------

    def outlet(self, send: Send, *, at_once: int = 1, route: object = None) -> Outlet:
        """A way to a callback, for `subscribe`: see Outlet."""
        return Outlet(send, self._lock, self.bounds.window, at_once=at_once, route=route)

    def subscribe(
        self,
        device: str,
        name: str,
        to: Outlet | Callable[[Reading], Any],
        every_s: float = 1.0,
        *,
        on_change: bool = False,
        deadband: float = 0.0,
        max_queue: int = 100,
        number: int = 0,
    ) -> Subscriber:
        """Have readings of `device.name` carried to an outlet, or to a function of this process: see Subscriber.

        Raises OutOfRange, BadRequest, Busy.
        """
        outlet = to if isinstance(to, Outlet) else self.outlet(to_callable(to))
        subscriber = Subscriber(
            (device, name),
            checked_every(every_s, self.bounds),
            outlet,
            self.bounds,
            on_change=bool(on_change),
            deadband=checked_deadband(deadband),
            max_queue=checked_queue(max_queue),
            number=number,
        )
        with self._lock:
            run = self._board.add(subscriber, monotonic()) and outlet.add(subscriber)
            self._hurry()
        if run:
            submit(outlet.run)
        return subscriber

    def cancel(self, subscribers: Iterable[Subscriber]) -> None:
        """End these subscriptions; what waits for them is dropped. Idempotent."""
        with self._lock:
            now = monotonic()
            for subscriber in subscribers:
                self._board.remove(subscriber, now)
                subscriber.end()
                subscriber.outlet.forget(subscriber)

    def close_outlet(self, outlet: Outlet) -> None:
        """Whoever it led to is gone."""
        with self._lock:
            outlet.close()

    # -- polling ----------------------------------------------------------------------------------------------------

    def _hurry(self) -> None:
        """There may be something to poll earlier than the scheduler knows. The caller holds the lock."""
        deadline = self._board.next_deadline()
        if self._closed or deadline == inf:
            return
        if self._thread is None:
            self._thread = Thread(target=self._schedule, name="gateway-observers", daemon=True)
            self._thread.start()
        elif deadline < self._sleeps_until:
            self._changed.notify_all()

    def _schedule(self) -> None:
        idle_since = monotonic()
        while True:
            with self._lock:
                now = monotonic()
                devices = self._board.take_due(now)
                if not devices:
                    deadline = self._board.next_deadline()
                    if deadline < inf:
                        idle_since = now
                    if self._closed or now - idle_since >= IDLE_S:
                        self._thread = None
                        return
                    self._sleeps_until = min(deadline, now + IDLE_S)
                    self._changed.wait(self._sleeps_until - now)
                    self._sleeps_until = -inf
            for device in devices:
                submit(self._work, device)

    def _work(self, device: str) -> None:
        """Read what is due at `device`. It may take as long as it takes; other devices have workers of their own."""
        while self._poll(device):
            pass

    def _poll(self, device: str) -> bool:
        """Read the next property of `device`; whether there was one."""
        with self._lock:
            key = self._board.begin(device, monotonic())
        if key is None:
            return False
        reading, error = self._reading(*key)
        with self._lock:
            outcome, waiters, served = self._board.finish(key, reading, error, monotonic())
            routes: dict[object, list[Outlet]] = {}
            for each in served:
                if each.outlet.add(each):
                    routes.setdefault(each.outlet.route, []).append(each.outlet)
            self._hurry()
        for waiter in waiters:
            waiter.settle(outcome)
        if served and error is not None and not isinstance(error, GatewayError):
            _log.error("%s.%s could not be read", *key, exc_info=error)
        for outlets in routes.values():
            submit(run_all, outlets)
        return True

    def _reading(self, device: str, name: str) -> tuple[Reading, Exception | None]:
        try:
            return self._read(device, name), None
        except Exception as error:
            return failed_reading(device, name, time(), error), error


class _Waiter:
    """Somebody who waits for a read."""

    __slots__ = ("_event", "_outcome")

    def __init__(self) -> None:
        self._event = Event()
        self._outcome: Outcome | None = None

    def settle(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._event.set()

    def wait(self, timeout_s: float) -> Outcome | None:
        self._event.wait(timeout_s)
        return self._outcome
