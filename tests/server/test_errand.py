"""Errands: the gateway's own work in a device's lane takes its turn, or goes first, and can be given up."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from gateway.errors import Busy, CallTimeout, LeaseLost
from gateway.server.errand import Errand
from gateway.server.fair_lane import FairLane
from gateway.service import permit
from gateway.sync.lane import Lane
from tests.server.kept import PATIENCE_S, until


@pytest.fixture
def lane() -> Lane[Any]:
    return Lane("psu1", 2)


def test_an_errand_gives_what_its_work_gives(lane: Lane[Any]) -> None:
    errand = Errand(lane, lambda: 5)
    errand.start()
    assert errand.result(PATIENCE_S) == 5
    assert errand.done
    assert lane.owner is None


def test_an_errand_raises_what_its_work_raises(lane: Lane[Any]) -> None:
    def work() -> None:
        raise LeaseLost("no")

    errand = Errand(lane, work)
    errand.start()
    with pytest.raises(LeaseLost, match="no"):
        errand.result(PATIENCE_S)
    assert lane.owner is None


def test_an_errand_needs_no_permit(lane: Lane[Any]) -> None:
    seen: list[object] = []
    errand = Errand(lane, lambda: seen.append(permit.current()))
    errand.start()
    errand.result(PATIENCE_S)
    assert seen == [None]


@pytest.mark.parametrize("kind", [Lane, FairLane])
def test_what_goes_first_overtakes_all_that_wait_and_has_room_in_a_full_lane(kind: Any) -> None:
    lane = kind("psu1", 2)
    gate, order = Event(), []
    running = Errand(lane, lambda: gate.wait(PATIENCE_S))
    running.start()
    waiting = [Errand(lane, lambda number=number: order.append(number)) for number in range(2)]
    for errand in waiting:
        errand.start()
    with pytest.raises(Busy, match="nothing was done"):
        Errand(lane, lambda: order.append("too many")).start()
    first = Errand(lane, lambda: order.append("first"))
    first.start_first()
    gate.set()
    for errand in waiting:
        errand.result(PATIENCE_S)
    assert order == ["first", 0, 1]


def test_who_waits_too_long_is_told_whether_it_has_begun(lane: Lane[Any]) -> None:
    gate = Event()
    running, waiting = Errand(lane, lambda: gate.wait(PATIENCE_S)), Errand(lane, lambda: None)
    running.start()
    waiting.start()
    until(lambda: running.begun)
    with pytest.raises(Busy, match=r"takes long, for more than 0\.01 s"):
        running.result(0.01)
    with pytest.raises(Busy, match="waits for its turn"):
        waiting.result(0.01)
    gate.set()
    waiting.result(PATIENCE_S)


@pytest.mark.parametrize("kind", [Lane, FairLane])
def test_an_errand_that_is_not_wanted_any_more_makes_room(kind: Any) -> None:
    lane = kind("psu1", 1)
    gate, done = Event(), []
    running, cancelled = Errand(lane, lambda: gate.wait(PATIENCE_S)), Errand(lane, lambda: done.append("cancelled"))
    running.start()
    cancelled.start()
    cancelled.cancel()
    assert lane.waiting == 0
    with pytest.raises(Busy, match="not wanted any more"):
        cancelled.result(0)
    last = Errand(lane, lambda: done.append("last"))
    last.start()
    gate.set()
    last.result(PATIENCE_S)
    assert done == ["last"]


def test_cancelling_what_runs_changes_nothing(lane: Lane[Any]) -> None:
    gate = Event()
    running = Errand(lane, lambda: gate.wait(PATIENCE_S))
    running.start()
    running.cancel()
    gate.set()
    assert running.result(PATIENCE_S)


def test_an_errand_that_hangs_is_given_up_and_its_lane_goes_on(lane: Lane[Any]) -> None:
    gate = Event()
    hanging, next_one = Errand(lane, lambda: gate.wait(PATIENCE_S)), Errand(lane, lambda: 7)
    hanging.start()
    next_one.start()
    until(lambda: hanging.begun)
    assert hanging.abandon(CallTimeout("given up"))
    assert next_one.result(PATIENCE_S) == 7
    gate.set()
    with pytest.raises(CallTimeout, match="given up"):
        hanging.result(PATIENCE_S)
    assert not hanging.abandon(CallTimeout("twice"))
