"""Leases as a script sees them: `with conn.lease(...) as bench`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.errors import LeaseConflict, LeaseLost, LinkDown, NotFound
from gateway.sync.leasing import identity
from tests.server.kept import PATIENCE_S, Bench, until


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


def test_the_devices_of_a_lease_are_its_attributes_and_its_items(bench: Bench) -> None:
    conn = bench.connect()
    with conn.lease("box1") as lease:
        lease.box1.set_level(1.0)
        lease["box1"].set_level(2.0)
        with pytest.raises(AttributeError, match="'box2' is not among the devices of this lease: box1"):
            _ = lease.box2
        with pytest.raises(KeyError):
            _ = lease["box2"]
        assert repr(lease) == f"<Lease {lease.number} of box1 (held)>"
    assert repr(lease) == f"<Lease {lease.number} of box1 (released)>"
    assert lease.lost is None


def test_numbers_grow(bench: Bench) -> None:
    conn = bench.connect()
    numbers = []
    for _ in range(5):
        with conn.lease("box1") as lease:
            numbers.append(lease.number)
    assert numbers == sorted(set(numbers))


def test_others_see_who_has_it(bench: Bench) -> None:
    with bench.connect().lease("box1"):
        holder = bench.connect().root.describe("box1")["lease"]
        assert {name: holder[name] for name in ("program", "host", "pid")} == identity()
        assert holder["pid"] == os.getpid()
        assert 0 < holder["left_s"] <= 300


def test_who_waits_is_told_its_place_and_gets_it(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    places: list[int] = []
    lease = first.lease("box1")

    def on_wait(position: int, estimate_s: float | None) -> None:
        places.append(position)
        lease.release()

    with second.lease("box1", on_wait=on_wait) as mine:
        mine.box1.set_level(1.0)
    assert places[0] == 1


@pytest.mark.parametrize("wait", [False, 0, 0.3])
def test_who_does_not_wait_long_is_refused(bench: Bench, wait: Any) -> None:
    with bench.connect().lease("box1"):
        other = bench.connect()
        with pytest.raises(LeaseConflict):
            other.lease("box1", wait=wait)
        assert bench.service.lease_status("box1")["waiting"] == []


def test_an_unknown_device_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no device 'box3' here; there are: box1, box2"):
        bench.connect().lease("box3")


def test_a_lease_that_is_lost_says_so_by_itself(bench: Bench) -> None:
    lost: list[LeaseLost] = []
    told = threading.Event()

    def on_lost(error: LeaseLost) -> None:
        lost.append(error)
        told.set()

    lease = bench.connect().lease("box1", on_lost=on_lost)
    bench.connect().root.revoke_lease("box1", "fire drill")
    assert told.wait(PATIENCE_S)
    assert (lost[0].by, lost[0].why) == ("127.0.0.1", "fire drill")
    assert repr(lease).endswith("(lost)>")
    with pytest.raises(LeaseLost):
        lease.touch()
    lease.release()


def test_releasing_calls_nobody_back_and_is_idempotent(bench: Bench) -> None:
    lost: list[LeaseLost] = []
    with bench.connect().lease("box1", on_lost=lost.append) as lease:
        lease.release()
        lease.release()
    until(lambda: bench.service.lease_status("box1")["state"] == "free")
    assert lost == []


def test_a_lease_over_a_connection_that_is_gone_can_be_left(bench: Bench) -> None:
    conn = bench.connect()
    with conn.lease("box1") as lease:
        conn.close()
        with pytest.raises(LinkDown):
            lease.status()


def test_the_block_s_error_comes_out_and_the_device_is_made_safe(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.connect().lease("box1") as lease:
        lease.box1.set_level(5.0)
        raise ZeroDivisionError
    bench.until_safe("box1")
    assert bench.box1.what() == ["set 5", "safe"]


def test_an_interrupted_wait_leaves_no_place_in_line(bench: Bench) -> None:
    def on_wait(position: int, estimate_s: float | None) -> None:
        raise KeyboardInterrupt

    with bench.connect().lease("box1"):
        other = bench.connect()
        with pytest.raises(KeyboardInterrupt):
            other.lease("box1", on_wait=on_wait)
        until(lambda: not bench.service.lease_status("box1")["waiting"])
