"""The round-trip estimate and the timeout that follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.link.rtt import MAX_TIMEOUT_S, MIN_TIMEOUT_S, RoundTrip

times = st.floats(0, 100, allow_nan=False)


def after(*samples: float, first_timeout_s: float = 0.3) -> RoundTrip:
    rtt = RoundTrip(first_timeout_s)
    for seconds in samples:
        rtt.sample(seconds)
    return rtt


def test_before_the_first_sample_the_timeout_is_the_one_given() -> None:
    assert after().timeout_s == 0.3
    assert after().smoothed_s == 0.0


def test_the_first_sample_is_taken_as_it_is() -> None:
    rtt = after(0.2)
    assert rtt.smoothed_s == 0.2
    assert rtt.timeout_s == pytest.approx(0.2 + 4 * 0.1)


def test_later_samples_move_the_estimate_by_an_eighth_and_the_variation_by_a_quarter() -> None:
    rtt = after(0.2, 0.28)
    assert rtt.smoothed_s == pytest.approx(0.21)
    assert rtt.timeout_s == pytest.approx(0.21 + 4 * (0.1 + (0.08 - 0.1) / 4))


def test_a_steady_line_is_not_timed_more_tightly_than_a_usb_adapter_is() -> None:
    assert after(*[0.0001] * 50).timeout_s == MIN_TIMEOUT_S
    assert after(*[1.0] * 100).timeout_s == pytest.approx(1.0 + MIN_TIMEOUT_S / 2)


def test_each_timeout_doubles_the_next_up_to_a_bound() -> None:
    rtt = after(*[0.001] * 50)
    seen = []
    for _ in range(10):
        seen.append(rtt.timeout_s)
        rtt.back_off()
    assert seen[:6] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    assert set(seen[6:]) == {MAX_TIMEOUT_S}


def test_a_line_slower_than_the_bound_is_waited_for_all_the_same() -> None:
    rtt = after(10.0)
    rtt.back_off()
    assert rtt.timeout_s == pytest.approx(10.0 + 4 * 5.0)
    assert RoundTrip(70.0).timeout_s == 70.0


def test_a_sample_ends_the_back_off() -> None:
    rtt = after(0.001)
    rtt.back_off()
    rtt.sample(0.001)
    assert rtt.timeout_s == MIN_TIMEOUT_S


def test_an_answer_before_the_frame_is_thought_to_have_left_counts_as_at_once() -> None:
    assert after(-5.0).timeout_s == MIN_TIMEOUT_S
    assert 0 < after(-5.0).smoothed_s <= 1e-6


@settings(deadline=None)
@given(samples=st.lists(times, max_size=30), backs=st.integers(0, 20))
def test_the_timeout_is_never_below_the_least_nor_without_bound(samples: list[float], backs: int) -> None:
    rtt = after(*samples)
    for _ in range(backs):
        rtt.back_off()
    assert MIN_TIMEOUT_S <= rtt.timeout_s <= max(MAX_TIMEOUT_S, 5 * max([0.1, *samples]))
