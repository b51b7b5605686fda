"""Which readings a subscriber wants, and what becomes of those it does not take."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from gateway.server.observing.bounds import Bounds
from gateway.server.observing.subscriber import Subscriber
from gateway.service.reading import Reading

BOUNDS = Bounds(overflow_s=5.0, queue_bytes=1000)


def reading(value: Any) -> Reading:
    return Reading(value, "V", 0.0, "psu1", "voltage")


BROKEN = replace(reading(None), error_code="device-unavailable", error="psu1 is away")


def subscriber(every_s: float = 1.0, **how: Any) -> Subscriber:
    return Subscriber(("psu1", "voltage"), every_s, None, BOUNDS, **how)


def offer(to: Subscriber, value: Any, at: float, *, slack_s: float = 0.0, weight: int = 10) -> bool:
    what = value if isinstance(value, Reading) else reading(value)
    return to.offer(what, at, weight, slack_s, at)


def waiting(of: Subscriber) -> list[Any]:
    taken = []
    while (item := of.take()) is not None:
        taken.append(item[0].value)
    return taken


def test_each_has_its_own_period_whatever_the_polling_is() -> None:
    slow = subscriber(1.0)
    took = [tick for tick in range(41) if offer(slow, tick, 100 + tick / 10, slack_s=0.05)]
    assert took == [0, 10, 20, 30, 40]


def test_a_period_that_polling_does_not_divide_does_not_drift() -> None:
    odd = subscriber(0.25)
    took = [tick / 10 for tick in range(101) if offer(odd, tick, 100 + tick / 10, slack_s=0.05)]
    assert len(took) == pytest.approx(41, abs=1)
    assert all(abs(at - 0.25 * index) <= 0.11 for index, at in enumerate(took[:41]))


def test_jitter_of_the_polling_loses_no_reading() -> None:
    each = subscriber(0.01)
    jitter = [0.0, 0.004, 0.001, 0.0, 0.004, 0.0]
    assert all(offer(each, index, 50 + index * 0.01 + late, slack_s=0.005) for index, late in enumerate(jitter))


def test_on_change_wants_changes_only() -> None:
    each = subscriber(1.0, on_change=True)
    values = [1.0, 1.0, 2.0, 2, 2.0, nan, nan, 1.0]
    assert [offer(each, value, 10.0 + at) for at, value in enumerate(values)] == [
        True, False, True, False, False, True, False, True,
    ]  # fmt: skip


def test_a_change_within_the_deadband_is_none_and_small_ones_add_up() -> None:
    each = subscriber(1.0, on_change=True, deadband=0.5)
    values = [1.0, 1.4, 1.5, 1.6, 1.2, inf, inf, -inf]
    assert [offer(each, value, 10.0 + at) for at, value in enumerate(values)] == [
        True, False, False, True, False, True, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "differs"), [
    ([1, 2], [1, 2], False), ([1, 2], [1, 3], True), ("on", "off", True), (True, 1, True), (None, None, False),
])  # fmt: skip
def test_changes_of_other_things_than_numbers_are_seen(first: Any, second: Any, differs: bool) -> None:
    each = subscriber(1.0, on_change=True, deadband=5.0)
    assert offer(each, first, 1.0)
    assert offer(each, second, 2.0) is differs


def test_changes_of_arrays_are_seen() -> None:
    numpy = pytest.importorskip("numpy")
    each = subscriber(1.0, on_change=True)
    arrays = [numpy.arange(3), numpy.arange(3), numpy.arange(4), numpy.zeros(4, dtype=int)]
    assert [offer(each, array, 1.0 + at) for at, array in enumerate(arrays)] == [True, False, True, True]


def test_an_error_comes_once_at_once_and_so_does_the_reading_after_it() -> None:
    each = subscriber(10.0)
    other = replace(BROKEN, error="psu1 is away, since noon")
    offers = [(1.0, 100.0), (BROKEN, 101.0), (BROKEN, 112.0), (other, 113.0), (2.0, 114.0), (3.0, 115.0), (4.0, 130.0)]
    assert [offer(each, what, at) for what, at in offers] == [True, True, False, True, True, False, True]


def test_the_end_of_an_error_is_told_though_the_value_is_the_old_one() -> None:
    each = subscriber(1.0, on_change=True)
    assert [offer(each, what, 1.0 + at) for at, what in enumerate([5.0, BROKEN, 5.0, 5.0])] == [True, True, True, False]


def test_the_oldest_readings_are_dropped_and_counted() -> None:
    each = subscriber(1.0, max_queue=3)
    for at in range(5):
        offer(each, at, 1.0 + at)
    assert each.dropped == 2
    assert waiting(each) == [2, 3, 4]


def test_heavy_readings_are_dropped_before_there_are_many() -> None:
    each = subscriber(1.0)
    for at in range(5):
        offer(each, at, 1.0 + at, weight=400)
    assert waiting(each) == [3, 4]
    each.progressed()
    offer(each, 9, 20.0, weight=5000)
    assert waiting(each) == [9], "one reading always fits"


def test_who_takes_nothing_for_long_is_ended_with_a_last_word() -> None:
    each = subscriber(1.0, max_queue=2)
    for at in range(8):
        assert offer(each, at, 100.0 + at)
    assert each.ended
    assert not offer(each, 9, 120.0)
    item = each.take()
    assert item is not None
    assert item[0].error_code == "busy"
    assert "took nothing for 5 s" in str(item[0].error)
    assert each.take() is None


def test_who_takes_something_now_and_then_is_not_ended() -> None:
    each = subscriber(1.0, max_queue=2)
    for at in range(100):
        offer(each, at, 100.0 + at)
        if at % 4 == 0:
            each.take()
            each.progressed()
    assert not each.ended
    assert each.dropped > 50
