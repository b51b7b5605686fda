"""What is due comes in order, once, and only at the time that was said last."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.observing.timetable import Timetable, next_on_grid


def test_the_last_word_about_a_key_counts() -> None:
    table: Timetable[str] = Timetable()
    table.set("a", 5.0)
    table.set("b", 3.0)
    table.set("a", 1.0)
    table.set("b", inf)
    assert table.next_deadline() == 1.0
    assert table.take_due(10.0) == [("a", 1.0)]
    assert table.next_deadline() == inf
    assert table.at("a") == inf


def test_what_is_due_comes_first_things_first() -> None:
    table: Timetable[str] = Timetable()
    for key, at in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 4.0)):
        table.set(key, at)
    assert table.take_due(3.0) == [("a", 1.0), ("b", 2.0), ("c", 3.0)]
    assert table.next_deadline() == 4.0


def test_changing_ones_mind_for_ever_takes_no_more_room() -> None:
    table: Timetable[str] = Timetable()
    for turn in range(10_000):
        table.set("a", float(turn))
    assert len(table._heap) < 100


@given(start=st.floats(-1e6, 1e6), step=st.floats(0.005, 1e4), late=st.floats(0, 1e5))
def test_the_grid_goes_on_from_where_it_was(start: float, step: float, late: float) -> None:
    now = start + late
    following = next_on_grid(start, step, now)
    assert now < following <= max(now, start) + step * 1.001 + 1e-6
    points = (following - start) / step
    assert points == pytest.approx(round(points), abs=1e-3)
