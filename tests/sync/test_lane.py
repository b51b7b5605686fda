"""Lanes: one at a time, in order, and no more than so many wait."""

from __future__ import annotations

import threading

import pytest

from gateway.errors import Busy
from gateway.sync.lane import Lane


def test_a_free_lane_is_its_callers_and_the_others_follow_in_order() -> None:
    lane = Lane[str]("psu1", 8)
    assert lane.enter("a") is True
    assert [lane.enter(task) for task in "bcd"] == [False] * 3
    assert (lane.owner, lane.waiting) == ("a", 3)
    assert [lane.leave(task)[1] for task in "abcd"] == ["b", "c", "d", None]
    assert (lane.owner, lane.waiting) == (None, 0)
    assert lane.enter("e") is True


def test_one_too_many_is_busy_and_changes_nothing() -> None:
    lane = Lane[str]("psu1", 2)
    for task in "abc":
        lane.enter(task)
    with pytest.raises(Busy, match="psu1: 2 calls wait already; nothing was done") as busy:
        lane.enter("d")
    assert busy.value.waiting == 2
    assert busy.value.retryable
    assert [lane.leave(task)[1] for task in "abc"] == ["b", "c", None]


def test_a_task_that_was_taken_out_of_the_lane_is_told_so_and_changes_nothing() -> None:
    lane = Lane[str]("psu1", 8)
    for task in "abc":
        lane.enter(task)
    assert lane.leave("a") == (True, "b")
    assert lane.leave("a") == (False, None), "somebody else had it leave before"
    assert (lane.owner, lane.waiting) == ("b", 1)
    assert lane.leave("b") == (True, "c")
    assert lane.leave("c") == (True, None)
    assert lane.leave("c") == (False, None)


def test_what_the_gateway_does_itself_comes_before_all_that_wait_and_always_has_room() -> None:
    lane = Lane[str]("psu1", 1)
    assert lane.enter_first("x") is True
    assert lane.enter("a") is False
    assert [lane.enter_first(task) for task in "yz"] == [False, False]
    assert [lane.leave(task)[1] for task in "xyza"] == ["y", "z", "a", None]


def test_threads_that_enter_and_leave_never_share_it() -> None:
    lane, inside, most, done = Lane[int]("psu1", 1000), [0], [0], [0]

    def run(task: int | None) -> None:
        while task is not None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            done[0] += 1
            task = lane.leave(task)[1]

    def work(base: int) -> None:
        for number in range(200):
            if lane.enter(base + number):
                run(base + number)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (done[0], most[0], lane.owner) == (1200, 1, None)
