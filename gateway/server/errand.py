"""Errands: what the gateway itself does with a device, in the device's lane like everybody's calls."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from time import monotonic
from typing import Any, Generic, TypeVar

from gateway.errors import Busy
from gateway.service import permit
from gateway.sync.lane import Lane
from gateway.sync.workers import WORKERS

T = TypeVar("T")


class Errand(Generic[T]):
    """`work` in the lane; `result` waits for what it gives. Runs in a worker, whose own calls need no permit.

    The lane's station, if it has one, looks after it as after a call: one that takes too long is given up.
    """

    # What a lane's other tasks have, and an errand has not: a client, arguments, a place in somebody's wait.
    calls = None
    waits_for_peer = False
    charged = 0

    def __init__(self, lane: Lane[Any], work: Callable[[], T], what: str = "") -> None:
        self.in_lane = False
        self.begun = False
        self.began = 0.0
        """When it got its turn."""
        self.over = False
        """It has come back. Only the station changes it."""
        self._what = what or lane.name
        self._lane = lane
        self._work = work
        self._done = Event()
        self._settling = Lock()
        self._value: T | None = None
        self._error: BaseException | None = None

    @property
    def what(self) -> str:
        """What it does, for people."""
        return self._what

    def start(self) -> None:
        """Take a place behind those that wait. Raises Busy where too many do."""
        self._start(self._lane.enter(self))

    def start_first(self) -> None:
        """Take the place in front of all that wait."""
        self._start(self._lane.enter_first(self))

    def _start(self, is_free: bool) -> None:
        if is_free:
            WORKERS.submit(self)

    def __call__(self) -> None:
        station = self._lane.station
        self.began = monotonic()
        self.begun = True
        value: T | None = None
        problem: BaseException | None = None
        if station is not None:
            station.visit = self
        try:
            with permit.visiting(None):
                value = self._work()
        except BaseException as error:
            problem = error
        finally:
            if station is not None:
                station.came_back(self)
            self._leave()
            self._settle(value, problem)

    def abandon(self, error: Exception) -> bool:
        """End with `error` though it still runs, and let the next one into the lane; whether it did run still."""
        if not self._leave():
            return False
        self._settle(None, error)
        return True

    def cancel(self) -> None:
        """Don't do it, if it waits behind others still."""
        if self._lane.withdraw(self):
            self._settle(None, Busy(f"{self._lane.name}: this is not wanted any more; nothing was done"))

    def _leave(self) -> bool:
        was_owner, following = self._lane.leave(self)
        if following is not None:
            following.in_lane = True
            WORKERS.submit(following)
        return was_owner

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        with self._settling:
            if not self._done.is_set():
                self._value, self._error = value, error
                self._done.set()

    @property
    def done(self) -> bool:
        """Whether it is known how it went."""
        return self._done.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done within `timeout_s`."""
        return self._done.wait(timeout_s)

    def result(self, timeout_s: float) -> T:
        """What `work` gave. Raises what it raised, Busy where it is not done in time; it goes on then."""
        if not self._done.wait(timeout_s):
            state = "takes long" if self.begun else "waits for its turn"
            raise Busy(f"{self._lane.name}: this {state}, for more than {timeout_s:g} s now")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]
