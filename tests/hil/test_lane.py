"""One direction of the real-time wire, by a clock that is an argument: when each byte is there, and not before."""

from __future__ import annotations

import math

import pytest

from hil.damage import Damage
from hil.faults import Bytes, Delay, Drop, Duplicate, End, FaultPlan, Flip, Seconds, Unplug
from hil.lane import AHEAD, AHEAD_S, AHEAD_UNPACED, GRAIN_S, PACKET, Lane

BYTE_S = 1 / 64  # exact in binary


def lane_with(*script: object, latency_s: float = 0.0) -> Lane:
    lane = Lane(latency_s)
    lane.damage = Damage(FaultPlan(script=script), End.A) if script else None  # type: ignore[arg-type]
    return lane


def arrived(lane: Lane, now: float) -> bytes:
    lane.land(now)
    data = lane.due(now)
    lane.passed_on(len(data), now)
    return data


@pytest.mark.parametrize("script", [(), (Flip(where=Bytes(99), mask=1),)], ids=["clean", "damaged"])
def test_bytes_arrive_one_after_the_other(script: tuple[object, ...]) -> None:
    lane = lane_with(*script)
    lane.put(bytes(50), 10.0, BYTE_S, waiting=0)
    assert arrived(lane, 10.0) == b""
    assert len(arrived(lane, 10.0 + BYTE_S)) == 1
    assert len(arrived(lane, 10.0 + 1.5 * BYTE_S)) == 0
    assert len(arrived(lane, 10.0 + 20 * BYTE_S)) == 19
    assert len(arrived(lane, 10.0 + 50 * BYTE_S)) == 30
    assert (lane.sent, lane.delivered) == (50, 50)
    assert lane.next_s(11.0) == math.inf


def test_a_write_behind_another_follows_it_without_a_gap_and_an_idle_line_begins_anew() -> None:
    lane = lane_with()
    lane.put(bytes(64), 0.0, BYTE_S, waiting=0)
    lane.put(bytes(64), 0.5, BYTE_S, waiting=0)
    assert len(arrived(lane, 1.5)) == 96
    assert len(arrived(lane, 5.0)) == 32
    lane.put(bytes(64), 5.0, BYTE_S, waiting=0)
    assert len(arrived(lane, 5.5)) == 32


def test_what_had_been_waiting_is_not_late_because_it_is_taken_late() -> None:
    lane = lane_with()
    lane.put(bytes(64), 0.0, BYTE_S, waiting=64)
    lane.put(bytes(64), 1.25, BYTE_S, waiting=0)  # the line went on at 1.0
    assert len(arrived(lane, 1.5)) == 96
    lane.clear()
    lane.put(bytes(64), 10.0, BYTE_S, waiting=64)
    lane.stall()  # a reader who takes nothing stops the line
    lane.put(bytes(64), 12.0, BYTE_S, waiting=0)
    assert len(arrived(lane, 12.5)) == 96
    lane.put(bytes(64), 20.0, BYTE_S, waiting=63)
    lane.put(bytes(64), 22.0, BYTE_S, waiting=0)  # not all of it had been there
    assert len(arrived(lane, 22.5)) == 32 + 64 + 32


def test_the_line_takes_so_much_ahead_and_no_more() -> None:
    lane = lane_with()
    assert (lane.room(0.0), lane.room(BYTE_S), lane.room(AHEAD_S / 1000)) == (AHEAD_UNPACED, AHEAD, 1000)
    lane.put(bytes(40), 0.0, BYTE_S, waiting=0)
    assert lane.room(BYTE_S) == AHEAD - 40
    arrived(lane, 10 * BYTE_S)
    assert lane.room(BYTE_S) == AHEAD - 30


def test_the_next_moment_is_a_lump_later_or_the_end_of_the_transmission() -> None:
    fast = GRAIN_S / 8
    lane = lane_with()
    lane.put(bytes(20), 0.0, fast, waiting=0)
    assert lane.next_s(0.0) == pytest.approx(GRAIN_S)
    arrived(lane, GRAIN_S * 2)
    assert lane.next_s(GRAIN_S * 2) == pytest.approx(20 * fast)
    slow = lane_with()
    slow.put(bytes(2), 0.0, BYTE_S, waiting=0)
    assert slow.next_s(0.0) == BYTE_S


def test_dropped_bytes_take_time_and_doubled_ones_come_with_their_last() -> None:
    lane = lane_with(Drop(where=Bytes(0, 8)), Duplicate(where=Bytes(8, 8)))
    lane.put(bytes(range(32)), 0.0, BYTE_S, waiting=0)
    assert arrived(lane, 8 * BYTE_S) == b""
    assert arrived(lane, 15 * BYTE_S) == bytes(range(8, 15))
    assert arrived(lane, 16 * BYTE_S) == bytes([15, *range(8, 16)])
    assert arrived(lane, 32 * BYTE_S) == bytes(range(16, 32))


def test_bytes_behind_a_late_one_wait_and_keep_their_pace() -> None:
    lane = lane_with(Delay(where=Bytes(1), by_s=1.0))
    lane.put(b"abc", 0.0, BYTE_S, waiting=0)
    assert arrived(lane, 0.5) == b"a"
    assert arrived(lane, 1.0 + BYTE_S) == b""
    assert arrived(lane, 1.0 + 2 * BYTE_S) == b"bc"


def test_a_late_write_is_passed_when_it_may_be() -> None:
    lane = lane_with(Delay(where=Bytes(0, 3), by_s=1.0, overtaken=True))
    lane.put(b"abc", 0.0, 0.0, waiting=0)
    lane.put(b"de", 0.5, 0.0, waiting=0)
    assert arrived(lane, 0.5) == b"de"
    assert arrived(lane, 0.99) == b""
    assert arrived(lane, 1.0) == b"abc"


def test_what_happens_to_the_wire_is_told_with_its_time() -> None:
    pull = Unplug(where=Bytes(4), sender=End.A)
    lane = lane_with(pull)
    assert lane.put(bytes(16), 2.0, BYTE_S, waiting=0) == [(2.0 + 4 * BYTE_S, pull)]
    assert len(arrived(lane, 9.0)) == 4


def test_times_of_the_damage_count_from_its_origin() -> None:
    lane = lane_with(Drop(where=Seconds(1.0, 1.0)))
    lane.origin = 100.0
    heard = b""
    for now in (100.5, 101.0, 101.5, 102.0):
        lane.put(b"%d" % round(10 * (now - 100)), now, 0.0, waiting=0)
        heard += arrived(lane, now)
    assert heard == b"520"


def test_a_mute_lane_counts_what_it_loses() -> None:
    lane = lane_with()
    lane.mute = True
    assert lane.put(b"lost", 0.0, 0.0, waiting=0) == []
    assert (arrived(lane, 1.0), lane.sent, lane.delivered) == (b"", 4, 0)


def test_an_adapter_waits_for_a_packet_or_its_timer() -> None:
    lane = lane_with(latency_s=0.5)
    lane.put(bytes(PACKET - 1), 0.0, 0.0, waiting=0)
    assert arrived(lane, 0.25) == b""
    assert lane.next_s(0.25) == 0.75
    lane.put(bytes(3), 0.5, 0.0, waiting=0)
    assert len(arrived(lane, 0.5)) == PACKET
    assert lane.next_s(0.5) == 1.0
    assert arrived(lane, 0.99) == b""
    assert len(arrived(lane, 1.0)) == 2
    lane.insert(b"~", 2.0)
    assert arrived(lane, 2.4) == b""
    assert arrived(lane, 2.5) == b"~"


def test_what_a_reader_does_not_take_stays() -> None:
    lane = lane_with()
    lane.put(b"abcd", 0.0, 0.0, waiting=0)
    lane.land(0.0)
    lane.passed_on(1, 0.0)
    assert (bytes(lane.held), lane.due(0.0), lane.delivered) == (b"bcd", b"bcd", 1)
    lane.clear()
    assert (lane.due(9.0), lane.next_s(9.0)) == (b"", math.inf)
