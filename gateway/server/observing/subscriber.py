"""Subscriber: which readings one subscription wants, and the bounded queue in which they wait. Pure."""

from __future__ import annotations

from collections import deque
from math import inf, isnan
from typing import Any, Final

from gateway.errors import Busy
from gateway.server.observing.bounds import Bounds
from gateway.service.reading import Reading

Key = tuple[str, str]
"""`(device, property)`."""
_NOTHING: Final = object()
_NUMBERS: Final = frozenset({int, float})


class Subscriber:
    """One subscription of `key`: a reading every `every_s` seconds, or its changes, looked at so often.

    With `on_change` a reading is wanted where it differs from the last one that was, by more than `deadband` if both
    are numbers. An error is wanted once, at once, and again when it is another one; so is the first reading after it.
    `outlet` is whatever carries its readings, `number` what that calls it.
    """

    __slots__ = (
        "_behind_since",
        "_bounds",
        "_deadband",
        "_due",
        "_last",
        "_last_error",
        "_max_queue",
        "_on_change",
        "_queue",
        "_weighs",
        "dropped",
        "ended",
        "every_s",
        "key",
        "number",
        "outlet",
    )

    def __init__(
        self,
        key: Key,
        every_s: float,
        outlet: Any,
        bounds: Bounds,
        *,
        on_change: bool = False,
        deadband: float = 0.0,
        max_queue: int = 100,
        number: int = 0,
    ) -> None:
        self.key = key
        self.every_s = every_s
        self.outlet = outlet
        self.number = number
        self.dropped = 0
        """Readings that were wanted and had to be dropped."""
        self.ended = False
        self._bounds = bounds
        self._on_change = on_change
        self._deadband = deadband
        self._max_queue = max_queue
        self._queue: deque[tuple[Reading, int]] = deque()
        self._weighs = 0
        self._due = -inf
        self._last: Any = _NOTHING
        self._last_error: tuple[str | None, str | None] = (None, None)
        self._behind_since: float | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, reading: Reading, taken_at: float, weight: int, slack_s: float, now: float) -> bool:
        """Queue `reading`, taken at `taken_at`, if it is wanted; whether it was queued.

        `slack_s`: how much earlier than due it may be. The oldest ones are dropped where the queue is full. Where that
        goes on for too long the subscription ends, with an error as its last reading.
        """
        if self.ended:
            return False
        error = reading.error_code, reading.error
        if error != self._last_error:
            self._last_error = error
        elif reading.error_code is not None or taken_at < self._due - slack_s:
            return False
        elif self._on_change and not self._differs(reading.value):
            self._advance(taken_at, slack_s)
            return False
        self._last = _NOTHING if reading.error_code is not None else reading.value
        self._advance(taken_at, slack_s)
        self._push(reading, weight, now)
        return True

    def take(self) -> tuple[Reading, int] | None:
        """The next reading and its weight; None if none waits."""
        if not self._queue:
            return None
        reading, weight = self._queue.popleft()
        self._weighs -= weight
        return reading, weight

    def put_back(self, reading: Reading, weight: int) -> None:
        """It could not go yet: it is the next one still."""
        self._queue.appendleft((reading, weight))
        self._weighs += weight

    def progressed(self) -> None:
        """Its callback has taken a reading."""
        self._behind_since = None

    def end(self, last: Reading | None = None) -> None:
        """Want nothing more; what waits is dropped, and `last` comes in its place."""
        self.ended = True
        self._queue.clear()
        self._weighs = 0
        if last is not None:
            self._queue.append((last, 0))

    def _push(self, reading: Reading, weight: int, now: float) -> None:
        self._queue.append((reading, weight))
        self._weighs += weight
        while len(self._queue) > self._max_queue or (self._weighs > self._bounds.queue_bytes and len(self._queue) > 1):
            self._weighs -= self._queue.popleft()[1]
            self.dropped += 1
            if self._behind_since is None:
                self._behind_since = now
        if self._behind_since is not None and now - self._behind_since >= self._bounds.overflow_s:
            behind = f"the subscription was ended: its callback took nothing for {self._bounds.overflow_s:g} s"
            device, name = self.key
            text = f"{behind}, and {self.dropped} readings were dropped"
            self.end(Reading(None, None, reading.time_s, device, name, error_code=Busy.code, error=text))

    def _advance(self, taken_at: float, slack_s: float) -> None:
        """The grid goes on from where it was, so that lateness does not add up."""
        if self._due == -inf:
            self._due = taken_at + self.every_s
        elif taken_at + slack_s >= self._due:  # else it was an error, or the end of one, between two points of the grid
            self._due += self.every_s * ((taken_at + slack_s - self._due) // self.every_s + 1)

    def _differs(self, value: Any) -> bool:
        last = self._last
        if type(value) in _NUMBERS and type(last) in _NUMBERS:
            if isnan(value) or isnan(last):
                return isnan(value) != isnan(last)
            # Not the difference alone: that of two equal infinities is nan.
            return bool(value != last and not abs(value - last) <= self._deadband)
        if last is _NOTHING or type(value) is not type(last):
            return True
        try:
            same = value == last
            return not (same if type(same) is bool else bool(same.all()))
        except Exception:  # arrays of different shapes, or whatever has no equality
            return True
