"""Limits: every one has a number, none can be switched off, and the documented defaults are the defaults."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from gateway.limits import DEFAULT_LIMITS, KIB, MIB, Limits

FIELDS = [field.name for field in dataclasses.fields(Limits)]

DOCUMENTED = {
    "frame": 16 * MIB,
    "in_flight_per_host": 64 * MIB,
    "in_flight": 256 * MIB,
    "progress_s": 10,
    "nesting": 64,
    "items": 300_000,
    "unordered_items": 1024,
    "int_digits": 4300,
    "name": 200,
    "references": 10_000,
    "buffiter_items": 10_000,
    "buffiter_bytes": MIB,
    "pending_calls": 64,
    "callback_depth": 32,
    "pending_callbacks": 64,
    "callback_s": 10,
    "connections_per_host": 16,
    "connections": 128,
    "exception_name": 256,
    "exception_text": 64 * KIB,
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_default_is_the_documented_one(name: str) -> None:
    assert getattr(DEFAULT_LIMITS, name) == DOCUMENTED[name]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [0, -1, None, True, False, "16", math.nan, -math.inf, b"1", [1]], ids=repr)
def test_no_limit_can_be_switched_off(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Limits.{name} must be a number above 0"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", FIELDS)
def test_every_limit_can_be_changed(name: str) -> None:
    assert getattr(Limits(**{name: 7}), name) == 7
    assert getattr(dataclasses.replace(DEFAULT_LIMITS, **{name: 7}), name) == 7


def test_limits_are_frozen_and_given_by_name_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().frame = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Limits(5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="frames"):
        Limits(frames=5)  # type: ignore[call-arg]
    assert Limits() == DEFAULT_LIMITS
