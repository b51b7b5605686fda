"""What a LinkConfig refuses."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gateway.link import LinkConfig

BOUNDS = {
    "frame": (16, 4096),
    "window": (1, 127),
    "streams": (1, 128),
    "message": (1, 2**32 - 1),
    "attempts": (1, 1000),
}


def test_a_config_needs_nothing_but_which_end_it_is() -> None:
    assert LinkConfig(initiator=False).frame == 512


def test_the_smallest_peer_is_a_valid_one() -> None:
    LinkConfig(initiator=False, frame=64, window=1, streams=1, deflate=0)


def test_a_config_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        LinkConfig(initiator=True).frame = 5  # type: ignore[misc]


@pytest.mark.parametrize("name", BOUNDS)
def test_a_size_may_be_anything_within_its_bounds(name: str) -> None:
    for value in BOUNDS[name]:
        assert getattr(LinkConfig(initiator=True, **{name: value}), name) == value


@pytest.mark.parametrize("name", BOUNDS)
def test_a_size_out_of_its_bounds_is_refused_by_name(name: str) -> None:
    low, high = BOUNDS[name]
    for value in (low - 1, high + 1, -1, True, 20.0, "20", None):
        with pytest.raises(ValueError, match=rf"LinkConfig\.{name} .* from {low} to {high}"):
            LinkConfig(initiator=True, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("deflate", [0, 9, 15])
def test_deflate_is_off_or_a_window_that_zlib_has(deflate: int) -> None:
    assert LinkConfig(initiator=True, deflate=deflate).deflate == deflate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("deflate", value) for value in (1, 8, 16, -9, 9.0, 12.5, True, False)),
        *(("line_rate", value) for value in (0, -1.0, math.nan)),
        *(("keepalive_s", value) for value in (0, 0.009, 601, math.nan)),
        *(("dead_s", value) for value in (0, 1.0, math.nan)),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"LinkConfig\.{name} must be"):
        LinkConfig(initiator=True, **{name: value})


def test_a_line_rate_that_is_unknown_or_without_bounds_is_fine() -> None:
    assert LinkConfig(initiator=True).line_rate is None
    assert LinkConfig(initiator=True, line_rate=math.inf).line_rate == math.inf
