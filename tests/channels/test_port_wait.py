"""PortWait: a thread waits for its port or for a nudge, and lets a busy line alone for a moment."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from gateway.channels.port_wait import BUSY, MOST_REST_S, PortWait

SLOW = 960.0
"""Bytes per second: a rest on this line has its greatest length."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.fixture
def wait() -> Iterator[PortWait]:
    wait = PortWait(SLOW)
    yield wait
    wait.close()


def lasted(wait: PortWait, fd: int, timeout: float | None) -> float:
    before = monotonic()
    wait.wait(fd, timeout, to_write=False)
    return monotonic() - before


def test_it_tells_what_the_port_is_ready_for(wait: PortWait, pipe: tuple[int, int]) -> None:
    read, write = pipe
    assert wait.wait(read, 0.0, to_write=False) == 0
    assert wait.wait(write, 5.0, to_write=True) == select.POLLOUT
    os.write(write, b"x")
    assert wait.wait(read, 5.0, to_write=True) == select.POLLIN


def test_it_ends_after_its_time_and_not_before(wait: PortWait, pipe: tuple[int, int]) -> None:
    assert lasted(wait, pipe[0], 0.0123) >= 0.0123


def test_a_nudge_ends_the_wait_that_is_under_way(wait: PortWait, pipe: tuple[int, int]) -> None:
    nudge = threading.Timer(0.02, wait.nudge)
    nudge.start()
    assert lasted(wait, pipe[0], 10.0) < 5
    nudge.join()


def test_a_nudge_before_the_wait_is_not_lost_and_counts_once(wait: PortWait, pipe: tuple[int, int]) -> None:
    wait.nudge()
    wait.nudge()
    assert lasted(wait, pipe[0], 10.0) < 5
    assert lasted(wait, pipe[0], 0.02) >= 0.02


def test_a_busy_line_is_left_alone_for_a_moment(wait: PortWait, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    wait.came(BUSY + 1)
    assert lasted(wait, pipe[0], None) >= MOST_REST_S
    assert lasted(wait, pipe[0], None) >= MOST_REST_S  # and goes on being busy


def test_a_line_on_which_little_came_is_read_at_once(wait: PortWait, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    wait.came(BUSY)
    assert min(lasted(wait, pipe[0], None) for _ in range(5)) < MOST_REST_S


def test_a_pause_ends_the_rests(wait: PortWait, pipe: tuple[int, int]) -> None:
    wait.came(BUSY + 1)
    wait.wait(pipe[0], 0.02, to_write=False)  # nothing comes
    os.write(pipe[1], b"x")
    assert min(lasted(wait, pipe[0], None) for _ in range(5)) < MOST_REST_S


def test_a_nudge_ends_a_rest_and_the_wait_behind_it(wait: PortWait, pipe: tuple[int, int]) -> None:
    wait.came(BUSY + 1)
    wait.nudge()
    assert lasted(wait, pipe[0], 10.0) < 5


def test_what_has_to_be_done_soon_is_not_put_off_by_a_rest(wait: PortWait, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    wait.came(BUSY + 1)
    assert min(lasted(wait, pipe[0], MOST_REST_S / 2) for _ in range(5)) < MOST_REST_S


def test_a_line_of_unknown_speed_is_never_left_alone(pipe: tuple[int, int]) -> None:
    wait = PortWait(None)
    os.write(pipe[1], b"x")
    wait.came(10**6)
    assert min(lasted(wait, pipe[0], None) for _ in range(5)) < 0.001
    wait.close()


def test_a_nudge_after_the_end_is_harmless(pipe: tuple[int, int]) -> None:
    wait = PortWait(SLOW)
    wait.close()
    wait.nudge()
