"""Timetable: what is due when. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timetable(Generic[K]):
    """Each key is due at one time at most."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = count()

    def set(self, key: K, at: float) -> None:
        """`key` is due at `at`, and not at any time said before; infinity: never."""
        if at == inf:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heappush(self._heap, (at, next(self._order), key))
            if len(self._heap) > 2 * len(self._at) + 64:
                self._heap = [entry for entry in self._heap if self._at.get(entry[2]) == entry[0]]
                heapify(self._heap)

    def at(self, key: K) -> float:
        """When `key` is due; infinity: never."""
        return self._at.get(key, inf)

    def next_deadline(self) -> float:
        """When the next key is due; infinity: none is."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def take_due(self, now: float) -> list[tuple[K, float]]:
        """The keys that are due and when they were, first ones first; they are not due any more."""
        due = []
        while self.next_deadline() <= now:
            at, _, key = heappop(self._heap)
            del self._at[key]
            due.append((key, at))
        return due


def next_on_grid(start: float, step: float, now: float) -> float:
    """The first of `start + step`, `start + 2 * step` ... that is after `now`."""
    following = start + step
    if following > now:
        return following
    following = start + step * ((now - start) // step + 1)
    return following if following > now else following + step
