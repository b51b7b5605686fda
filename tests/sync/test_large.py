"""Large values through a real connection: whole, the receiver's own, and not touched by what comes after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gateway
from gateway.errors import LimitExceeded
from gateway.service.exposure import Exposable, exposed

Serve = Callable[..., gateway.Server]
Connect = Callable[..., Any]
COUNT = 400_000


class Scope(Exposable):
    """Waveforms and blocks of several sizes."""

    @exposed(access="read")
    def waveform(self, first: int, count: int = COUNT) -> Any:
        """Samples."""
        return np.arange(first, first + count) / 3

    @exposed(access="read")
    def every_other(self) -> Any:
        """Samples that are not in one piece of memory."""
        return np.arange(2 * COUNT)[::2]

    @exposed(access="read")
    def block(self, byte: int, size: int) -> bytes:
        """So many of the same byte."""
        return bytes([byte]) * size

    @exposed(access="read")
    def length(self, data: Any) -> int:
        """How much came."""
        return len(data)

    @exposed(access="read")
    def total(self, *values: float) -> float:
        """The sum of what it is called with."""
        return sum(values)


class Bench(gateway.Service):
    exposed_scope = Scope()


@pytest.fixture
def scope(serve: Serve, connect: Connect) -> Any:
    return connect(serve(Bench, strict=True)).root.scope


def test_an_array_is_the_receivers_own_and_stays_as_it_came(scope: Any) -> None:
    first = scope.waveform(0)
    second = scope.waveform(7)
    assert np.array_equal(first, np.arange(COUNT) / 3), "what came later has not overwritten it"
    first[:] = -1.0
    assert np.array_equal(second, np.arange(7, 7 + COUNT) / 3)
    assert np.array_equal(scope.every_other(), np.arange(2 * COUNT)[::2])


def test_bytes_of_any_size_come_as_bytes_and_stay_as_they_came(scope: Any) -> None:
    kept = {size: scope.block(65 + number, size) for number, size in enumerate((10, 70_000, 300_000, 2_000_000, 5))}
    for number, (size, block) in enumerate(kept.items()):
        assert type(block) is bytes
        assert block == bytes([65 + number]) * size
    for size in (70_000, 300_000, 2_000_000):
        assert scope.length(bytes(size)) == size


def test_many_numbers_come_back_in_the_container_they_left_in(scope: Any) -> None:
    assert scope.length([0.5] * 100_000) == 100_000
    assert scope.length(tuple(range(100_000))) == 100_000
    assert scope.total(*range(100)) == 4950, "many arguments are no tuple of numbers"


def test_a_message_that_is_too_large_is_its_calls_error_and_the_connection_goes_on(scope: Any) -> None:
    with pytest.raises(LimitExceeded, match="frame"):
        scope.block(0, gateway.Limits().frame)
    with pytest.raises(LimitExceeded, match="frame"):
        scope.length(bytes(gateway.Limits().frame))
    assert scope.block(66, 3) == b"BBB"
