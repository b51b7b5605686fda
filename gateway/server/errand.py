"""Errands: what the gateway itself does with a device, in the device's lane like everybody's calls."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any, Generic, TypeVar

from gateway.errors import Busy
from gateway.service import permit
from gateway.sync.lane import Lane
from gateway.sync.workers import WORKERS

T = TypeVar("T")


class Errand(Generic[T]):
    """`work` in the lane; `result` waits for what it gives. Runs in a worker, whose own calls need no permit."""

    # What a lane's other tasks have, and an errand has not: a client, arguments, a place in somebody's wait.
    calls = None
    waits_for_peer = False
    charged = 0

    def __init__(self, lane: Lane[Any], work: Callable[[], T]) -> None:
        self.in_lane = False
        self.begun = False
        self._lane = lane
        self._work = work
        self._done = Event()
        self._value: T | None = None
        self._error: BaseException | None = None

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
        self.begun = True
        try:
            with permit.visiting(None):
                self._value = self._work()
        except BaseException as error:
            self._error = error
        finally:
            _, following = self._lane.leave(self)
            if following is not None:
                following.in_lane = True
                WORKERS.submit(following)
            self._done.set()

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
