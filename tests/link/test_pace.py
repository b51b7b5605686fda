"""Pace: when the line takes the next frame."""

from __future__ import annotations

import pytest

from gateway.link import Cause, Down, LinkConfig
from gateway.link.pace import AHEAD_FRAMES, AHEAD_S, IDLE_S, Pace
from tests.link.impostor import Impostor


def test_a_line_of_no_known_speed_takes_everything_at_once() -> None:
    pace = Pace(None, 512)
    for now in (0.0, 0.0, 5.0):
        assert pace.send(10**6, now) == now
        assert pace.ready_at <= now
    assert pace.frame_s == 0.0


def test_what_was_handed_over_leaves_at_the_lines_speed() -> None:
    pace = Pace(1000.0, 100)
    assert pace.send(100, 10.0) == pytest.approx(10.1)
    assert pace.send(200, 10.0) == pytest.approx(10.3), "behind the first"
    assert pace.send(100, 20.0) == pytest.approx(20.1), "the line was free"


def test_a_slow_line_is_handed_two_frames_ahead() -> None:
    pace = Pace(1000.0, 100)
    pace.send(300, 0.0)
    assert pace.ready_at == pytest.approx(0.3 - AHEAD_FRAMES * 0.1)


def test_a_fast_line_is_handed_some_milliseconds_ahead() -> None:
    pace = Pace(1e6, 100)
    pace.send(100_000, 0.0)
    assert pace.ready_at == pytest.approx(0.1 - AHEAD_S)


def test_a_line_is_idle_when_nothing_left_it_for_a_while() -> None:
    pace = Pace(1000.0, 100)
    assert pace.is_idle(-1e9)
    pace.send(100, 0.0)
    assert not pace.is_idle(0.1 + IDLE_S / 2)
    assert pace.is_idle(0.1 + IDLE_S)
    pace.send(100, 5.0)
    pace.reset()
    assert pace.is_idle(5.0)


@pytest.mark.parametrize(("rate", "dead_s"), [(None, 4.0), (11520.0, 4.0), (30.0, 8 * 512 / 30)])
def test_a_peer_on_a_slow_line_is_not_silent_while_a_frame_is_on_its_way(rate: float | None, dead_s: float) -> None:
    peer = Impostor(LinkConfig(initiator=False, line_rate=rate))
    peer.open()
    peer.hear(after_s=dead_s * 0.99)
    assert peer.say() == []
    peer.hear(after_s=dead_s * 0.02)
    (down,) = peer.say()
    assert isinstance(down, Down)
    assert down.cause is Cause.SILENT
