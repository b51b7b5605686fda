"""Board: what is known of each property, who wants it, and when it is to be read again. Pure; the time is an argument.

    ask() ───────> fresh enough: answered ── else: queued at its device, once for all who wait
    add() ───────> polled as often as the fastest subscriber wants
    take_due() ──> devices that have something to read and nobody at it
    begin() ─────> what to read there next          (one property of a device at a time)
    finish() ────> whom the outcome is for

A read answers only those who asked before it began, or who permit its age: whoever sets a voltage and then asks for it
with an age of 0 must not get the answer to a question that was asked before.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from gateway.errors import Busy
from gateway.protocol.weight import weight
from gateway.server.observing.bounds import Bounds
from gateway.server.observing.subscriber import Key, Subscriber
from gateway.server.observing.timetable import Timetable, next_on_grid
from gateway.service.reading import Reading

_ASKS: Final = 16
"""Reads that are remembered of a property, to know how often it is asked for."""
_LIGHT: Final = frozenset({int, float, bool, type(None)})
_LIGHT_WEIGHT: Final = 400


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one read gave: `reading` stands for the error too, which is `error` then."""

    reading: Reading
    error: Exception | None
    began: float


class Watched:
    """One property."""

    __slots__ = ("asks", "began", "kept_s", "key", "later", "outcome", "planned", "queued", "subscribers", "waiters")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.outcome: Outcome | None = None
        self.began: float | None = None
        """When the read that runs now began."""
        self.planned = 0.0
        """When the last poll was to begin."""
        self.queued = False
        """It waits at its device to be read."""
        self.waiters: list[Any] = []
        """Who waits for the read that runs."""
        self.later: list[Any] = []
        """Who waits for the next one."""
        self.asks: deque[tuple[float, float]] = deque(maxlen=_ASKS)
        """(permitted age, when) of the last reads."""
        self.kept_s = inf
        """How often the config wants it read."""
        self.subscribers: dict[Subscriber, None] = {}

    def period_s(self, now: float, bounds: Bounds) -> float:
        """How often it is to be polled; infinity: not at all.

        Reads are a reason to poll while they come about as often as a poll would: then they find their answer there.
        """
        wanted = [self.kept_s, *(subscriber.every_s for subscriber in self.subscribers)]
        asked = [age for age, at in self.asks if age >= bounds.asked_min_s and now - at <= 2 * age]
        if len(asked) > 1:
            wanted.append(min(asked))
        return min(wanted)

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it."""
        return not (self.subscribers or self.waiters or self.later or self.queued) and (
            self.began is None and self.kept_s == inf
        )


class Board:
    """All watched properties. Not thread-safe: see Observers."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._watched: OrderedDict[Key, Watched] = OrderedDict()
        self._timetable: Timetable[Key] = Timetable()
        self._queues: dict[str, deque[Watched]] = {}
        self._busy: set[str] = set()
        """Devices that somebody is at."""
        self.subscriptions = 0

    def __len__(self) -> int:
        return len(self._watched)

    # -- wanting ----------------------------------------------------------------------------------------------------

    def keep(self, key: Key, period_s: float, now: float) -> None:
        """Poll `key` every `period_s` seconds, whoever asks."""
        watched = self._watch(key)
        watched.kept_s = max(period_s, self._bounds.every_min_s)
        self._plan(watched, now)

    def ask(self, key: Key, max_age_s: float, now: float, waiter: Any) -> Outcome | None:
        """What is known of `key`, if it is no older than `max_age_s`. Else None: `finish` will name `waiter`.

        Raises Busy where too many properties are watched.
        """
        watched = self._watch(key)
        self._watched.move_to_end(key)
        if max_age_s > 0:
            watched.asks.append((max_age_s, now))
        known = watched.outcome
        if known is not None:
            permitted = max_age_s if known.error is None else min(max_age_s, self._bounds.error_s)
            if known.began >= now - permitted and permitted > 0:
                self._plan(watched, now)
                return known
        if watched.began is not None and max_age_s > 0 and watched.began >= now - max_age_s:
            watched.waiters.append(waiter)
        else:
            watched.later.append(waiter)
            if watched.began is None:
                self._enqueue(watched)
        return None

    def forget_waiter(self, key: Key, waiter: Any) -> None:
        """`waiter` does not wait any more."""
        watched = self._watched.get(key)
        for waiting in (watched.waiters, watched.later) if watched is not None else ():
            if waiter in waiting:
                waiting.remove(waiter)

    def add(self, subscriber: Subscriber, now: float) -> bool:
        """Poll for `subscriber` from now on; whether a reading that was there is queued for it already.

        Raises Busy where too many are there.
        """
        if self.subscriptions >= self._bounds.subscriptions:
            raise Busy(f"{self.subscriptions} subscriptions are there already; nothing was done")
        watched = self._watch(subscriber.key)
        watched.subscribers[subscriber] = None
        self.subscriptions += 1
        known = watched.outcome
        if known is not None and known.error is None and known.began >= now - subscriber.every_s:
            self._plan(watched, now)
            return subscriber.offer(known.reading, known.began, _weight(known.reading), 0.0, now)
        self._timetable.set(watched.key, min(now, self._timetable.at(watched.key)))
        return False

    def remove(self, subscriber: Subscriber, now: float) -> None:
        """Poll no more for `subscriber`. Idempotent."""
        watched = self._watched.get(subscriber.key)
        if watched is not None and subscriber in watched.subscribers:
            del watched.subscribers[subscriber]
            self.subscriptions -= 1
            if watched.began is None and not watched.queued:
                period_s = watched.period_s(now, self._bounds)
                self._timetable.set(
                    watched.key, next_on_grid(watched.planned, period_s, now) if period_s < inf else inf
                )

    # -- reading ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `take_due` is to be called next; infinity: nothing is polled."""
        return self._timetable.next_deadline()

    def take_due(self, now: float) -> list[str]:
        """Devices to which somebody is to go now: of each, `begin` says what to read until it says None."""
        devices = []
        for key, at in self._timetable.take_due(now):
            watched = self._watched[key]
            watched.planned = at
            if watched.began is None:  # else what runs already will do
                self._enqueue(watched)
                if self.claim(key[0]):
                    devices.append(key[0])
        return devices

    def claim(self, device: str) -> bool:
        """Whether nobody was at `device`; then the caller is, until `begin` or `leave` says otherwise."""
        if device in self._busy:
            return False
        self._busy.add(device)
        return True

    def begin(self, device: str, now: float) -> Key | None:
        """The property of `device` to be read next; None: there is none, and the caller is not at it any more."""
        if not self.leave(device):
            return None
        watched = self._queues[device].popleft()
        if not self._queues[device]:
            del self._queues[device]
        watched.queued = False
        watched.began = now
        watched.waiters, watched.later = [*watched.waiters, *watched.later], []
        return watched.key

    def leave(self, device: str) -> bool:
        """Whether something waits to be read at `device`, so that the caller is still at it."""
        if device in self._queues:
            return True
        self._busy.discard(device)
        return False

    def finish(
        self, key: Key, reading: Reading, error: Exception | None, now: float
    ) -> tuple[Outcome, Sequence[Any], list[Subscriber]]:
        """The read of `key` gave `reading`, which stands for `error` too.

        Gives the outcome, who waited for it, and the subscribers for whom something is queued now.
        """
        watched = self._watched[key]
        began, watched.began = watched.began, None
        assert began is not None
        watched.outcome = outcome = Outcome(reading, error, began)
        waiters, watched.waiters = watched.waiters, []
        period_s = watched.period_s(now, self._bounds)
        served = []
        if watched.subscribers:
            weighs = _weight(reading)
            served = [each for each in watched.subscribers if each.offer(reading, began, weighs, period_s / 2, now)]
            for subscriber in served:
                if subscriber.ended:
                    self.remove(subscriber, now)
        if watched.later:
            self._enqueue(watched)
        at = inf
        if period_s < inf:
            # A read in between does not shift the grid.
            at = next_on_grid(watched.planned if began - watched.planned <= period_s else began, period_s, now)
        self._timetable.set(key, at)
        return outcome, waiters, served

    # -- the list ---------------------------------------------------------------------------------------------------

    def _watch(self, key: Key) -> Watched:
        watched = self._watched.get(key)
        if watched is None:
            if len(self._watched) >= self._bounds.properties:
                self._make_room()
            watched = self._watched[key] = Watched(key)
        return watched

    def _make_room(self) -> None:
        """Forget the property that nobody wants and that was asked for longest ago. Raises Busy."""
        for key, watched in self._watched.items():
            if watched.idle:
                self._timetable.set(key, inf)
                del self._watched[key]
                return
        raise Busy(f"{len(self._watched)} properties are watched already; nothing was done")

    def _plan(self, watched: Watched, now: float) -> None:
        """Have it polled, at the latest when its period has passed since it was read."""
        if watched.began is None and not watched.queued:
            period_s = watched.period_s(now, self._bounds)
            if period_s < inf:
                read_at = watched.outcome.began if watched.outcome is not None else -inf
                at = max(now, read_at + period_s)
                if at < self._timetable.at(watched.key):
                    self._timetable.set(watched.key, at)

    def _enqueue(self, watched: Watched) -> None:
        if not watched.queued:
            watched.queued = True
            self._queues.setdefault(watched.key[0], deque()).append(watched)


def _weight(reading: Reading) -> int:
    return _LIGHT_WEIGHT if type(reading.value) in _LIGHT else _LIGHT_WEIGHT + weight((reading.value,), 0)
