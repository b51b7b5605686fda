"""Lanes: one at a time, in order, and no more than so many wait."""

from __future__ import annotations

import threading

import pytest

from gateway.errors import Busy
from gateway.sync.lane import Lane


class Name:
    """A task that is called something. A lane knows tasks by what they are, not by what they equal."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


A, B, C, D, E, X, Y, Z = map(Name, "abcdexyz")


def test_a_free_lane_is_its_callers_and_the_others_follow_in_order() -> None:
    lane = Lane[Name]("psu1", 8)
    assert lane.enter(A) is True
    assert [lane.enter(task) for task in (B, C, D)] == [False] * 3
    assert (lane.owner, lane.waiting) == (A, 3)
    assert [lane.leave(task)[1] for task in (A, B, C, D)] == [B, C, D, None]
    assert (lane.owner, lane.waiting) == (None, 0)
    assert lane.enter(E) is True


def test_one_too_many_is_busy_and_changes_nothing() -> None:
    lane = Lane[Name]("psu1", 2)
    for task in (A, B, C):
        lane.enter(task)
    with pytest.raises(Busy, match="psu1: 2 calls wait already; nothing was done") as busy:
        lane.enter(D)
    assert busy.value.waiting == 2
    assert busy.value.retryable
    assert [lane.leave(task)[1] for task in (A, B, C)] == [B, C, None]


def test_a_task_that_was_taken_out_of_the_lane_is_told_so_and_changes_nothing() -> None:
    lane = Lane[Name]("psu1", 8)
    for task in (A, B, C):
        lane.enter(task)
    assert lane.leave(A) == (True, B)
    assert lane.leave(A) == (False, None), "somebody else had it leave before"
    assert (lane.owner, lane.waiting) == (B, 1)
    assert lane.leave(B) == (True, C)
    assert lane.leave(C) == (True, None)
    assert lane.leave(C) == (False, None)


def test_what_the_gateway_does_itself_comes_before_all_that_wait_and_always_has_room() -> None:
    lane = Lane[Name]("psu1", 1)
    assert lane.enter_first(X) is True
    assert lane.enter(A) is False
    assert [lane.enter_first(task) for task in (Y, Z)] == [False, False]
    assert [lane.leave(task)[1] for task in (X, Y, Z, A)] == [Y, Z, A, None]


def test_threads_that_enter_and_leave_never_share_it() -> None:
    lane, inside, most, done = Lane[Name]("psu1", 1000), [0], [0], [0]

    def run(task: Name | None) -> None:
        while task is not None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            done[0] += 1
            task = lane.leave(task)[1]

    def work(base: int) -> None:
        for number in range(200):
            task = Name(f"{base + number}")
            if lane.enter(task):
                run(task)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (done[0], most[0], lane.owner) == (1200, 1, None)
