"""The in-memory wire: bytes come when they must, by a clock that is turned by hand."""

from __future__ import annotations

import errno
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.faults import Bytes, Delay, Drop, End, FaultPlan, HangUp, Insert, Seconds, Unplug
from hil.memory import MemoryWire, VirtualClock

A, B = End.A, End.B


def collect(wire: MemoryWire, end: End, until: float = math.inf) -> list[tuple[float, bytes]]:
    """What arrives at `end` and when, the clock being advanced to each arrival."""
    seen = []
    while (moment := wire.next_arrival()) is not None and moment <= until:
        wire.clock.advance_to(max(moment, wire.clock.now))
        data = wire.read(end)
        wire.read(end.other)
        if data:
            seen.append((wire.clock.now, data))
    return seen


def test_time_passes_when_told_and_never_back() -> None:
    clock = VirtualClock()
    clock.advance(1.5)
    clock.advance_to(1.5)
    assert clock.now == 1.5
    for moment in (1.4, math.inf, math.nan):
        with pytest.raises(ValueError, match="time"):
            clock.advance_to(moment)


def test_an_unpaced_wire_delivers_at_once_in_both_directions() -> None:
    wire = MemoryWire(VirtualClock())
    assert wire.next_arrival() is None
    wire.write(A, b"to b")
    wire.write(A, b"!")
    wire.write(B, b"to a")
    assert wire.next_arrival() == 0.0
    assert (wire.read(B), wire.read(A)) == (b"to b!", b"to a")
    assert (wire.read(B), wire.next_arrival()) == (b"", None)
    assert (wire.sent(A), wire.delivered(B), wire.sent(B), wire.delivered(A)) == (5, 5, 4, 4)


def test_a_delayed_wire_delivers_later_and_not_before() -> None:
    wire = MemoryWire(VirtualClock(5.0), delay_s=0.5)
    wire.write(A, b"x")
    assert wire.next_arrival() == 5.5
    wire.clock.advance_to(5.4999)
    assert wire.read(B) == b""
    wire.clock.advance_to(5.5)
    assert wire.read(B) == b"x"


def test_a_paced_wire_takes_the_time_of_its_bytes() -> None:
    wire = MemoryWire(VirtualClock(), byte_rate=100.0, delay_s=1.0, lump=10)
    wire.write(A, bytes(25))
    wire.write(B, bytes(5))  # the other direction is not in the way
    arrivals = collect(wire, B)
    assert [len(data) for _, data in arrivals] == [10, 10, 5]
    assert [moment for moment, _ in arrivals] == pytest.approx([1.1, 1.2, 1.25])


def test_a_second_write_waits_for_the_first() -> None:
    wire = MemoryWire(VirtualClock(), byte_rate=100.0)
    wire.write(A, bytes(50))
    wire.clock.advance_to(0.1)
    wire.write(A, bytes(50))
    assert [moment for moment, _ in collect(wire, B)] == pytest.approx([0.5, 1.0])


def test_a_line_that_was_idle_starts_anew() -> None:
    wire = MemoryWire(VirtualClock(), byte_rate=100.0)
    wire.write(A, bytes(10))
    collect(wire, B)
    wire.clock.advance_to(7.0)
    wire.write(A, bytes(10))
    assert [moment for moment, _ in collect(wire, B)] == pytest.approx([7.1])


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(1, 70), st.sampled_from([None, 50.0, 1e6]))
def test_every_byte_arrives_once_and_in_order(writes: list[bytes], lump: int, rate: float | None) -> None:
    wire = MemoryWire(VirtualClock(), byte_rate=rate, delay_s=0.3, lump=lump)
    arrived = b""
    for number, data in enumerate(writes):
        wire.write(A, data)
        wire.clock.advance(0.01 * (number % 3))
        arrived += wire.read(B)
    arrived += b"".join(data for _, data in collect(wire, B))
    assert arrived == b"".join(writes)


# -------------------------------------------------------------------------------------------------------------- faults


def test_faults_of_a_plan_hit_the_bytes() -> None:
    wire = MemoryWire(VirtualClock(), faults=FaultPlan(script=(Drop(where=Bytes(1, 2), sender=A),)))
    wire.write(A, b"abcd")
    wire.write(B, b"abcd")
    assert (wire.read(B), wire.read(A)) == (b"ad", b"abcd")


def test_dropped_bytes_take_their_time_on_the_line() -> None:
    wire = MemoryWire(VirtualClock(), byte_rate=10.0, faults=FaultPlan(script=(Drop(where=Bytes(0, 5)),)))
    wire.write(A, bytes(10))
    assert [(moment, len(data)) for moment, data in collect(wire, B)] == [(1.0, 5)]


def test_bytes_behind_a_delayed_one_wait() -> None:
    wire = MemoryWire(VirtualClock(), byte_rate=10.0, faults=FaultPlan(script=(Delay(where=Bytes(1), by_s=5.0),)))
    wire.write(A, b"abc")
    wire.write(A, b"d")
    (first, a), (second, rest) = collect(wire, B)
    assert (a, rest) == (b"a", b"bcd")
    assert first == pytest.approx(0.1)
    assert second == pytest.approx(5.2)


def test_overtaken_bytes_come_out_of_order() -> None:
    plan = FaultPlan(script=(Delay(where=Bytes(0, 3), by_s=5.0, overtaken=True),))
    wire = MemoryWire(VirtualClock(), faults=plan)
    wire.write(A, b"abc")
    wire.write(A, b"de")
    wire.clock.advance(1.0)
    wire.write(A, b"f")
    assert collect(wire, B) == [(1.0, b"def"), (5.0, b"abc")]


def test_a_mute_direction_loses_all_and_the_other_none() -> None:
    wire = MemoryWire(VirtualClock())
    wire.mute(A)
    wire.write(A, b"lost")
    wire.write(B, b"heard")
    assert (wire.read(B), wire.read(A)) == (b"", b"heard")
    wire.mute(A, mute=False)
    wire.write(A, b"again")
    assert wire.read(B) == b"again"


def test_noise_comes_on_a_silent_line() -> None:
    wire = MemoryWire(VirtualClock(), faults=FaultPlan(script=(Insert(where=Seconds(2.0), data=b"~", sender=A),)))
    assert wire.next_arrival() == 2.0
    assert collect(wire, B) == [(2.0, b"~")]
    wire.insert(B, b"?")
    assert (wire.next_arrival(), wire.read(A), wire.read(B)) == (2.0, b"?", b"")


def test_an_unplugged_port_raises_as_a_port_does_and_comes_back_under_its_new_name() -> None:
    pull = Unplug(where=Seconds(1.0), away_s=2.0, end=A, name="ttyA1")
    wire = MemoryWire(VirtualClock(), delay_s=0.5, faults=FaultPlan(script=(pull,)))
    wire.clock.advance_to(0.8)
    wire.write(A, b"on the way")
    wire.write(B, b"on the way too")
    assert wire.next_arrival() == 1.0
    wire.clock.advance_to(1.0)
    for use in (lambda: wire.read(A), lambda: wire.write(A, b"x")):
        with pytest.raises(OSError, match="ttyA0 is unplugged") as caught:
            use()
        assert caught.value.errno == errno.EIO
    wire.write(B, b"to nobody")
    assert (wire.plugged(A), wire.plugged(B), wire.next_arrival()) == (False, True, 3.0)
    wire.clock.advance_to(3.0)
    assert (wire.plugged(A), wire.names) == (True, ["ttyA1", "ttyB0"])
    assert (wire.read(A), wire.read(B), wire.next_arrival()) == (b"", b"", None)
    wire.write(A, b"new")
    wire.clock.advance(0.5)
    assert wire.read(B) == b"new"


@pytest.mark.parametrize("rate", [None, 10.0])
def test_unplugging_in_the_middle_of_a_write_leaves_the_peer_with_its_first_bytes(rate: float | None) -> None:
    pull = Unplug(where=Bytes(3), away_s=1.0, end=A, sender=A)
    wire = MemoryWire(VirtualClock(), byte_rate=rate, faults=FaultPlan(script=(pull,)))
    wire.write(A, b"abcdef")
    wire.clock.advance_to(0.0 if rate is None else 0.31)
    assert (wire.plugged(A), wire.read(B)) == (False, b"abc")
    wire.clock.advance_to(2.0)
    assert (wire.plugged(A), wire.read(B), wire.read(A), wire.next_arrival()) == (True, b"", b"", None)


def test_what_an_unplugged_port_had_not_read_is_lost_and_what_the_other_had_not_is_there() -> None:
    wire = MemoryWire(VirtualClock())
    wire.write(A, b"for b")
    wire.write(B, b"for a")
    wire.unplug(A)
    wire.replug(A)
    assert (wire.read(A), wire.read(B)) == (b"", b"for b")
    wire.unplug()
    assert not wire.plugged(A)
    assert not wire.plugged(B)
    wire.replug(name="ttyX")
    assert wire.names == ["ttyX", "ttyX"]


def test_a_hang_up_loses_what_is_on_the_way_and_nothing_more() -> None:
    wire = MemoryWire(VirtualClock(), delay_s=1.0, faults=FaultPlan(script=(HangUp(where=Seconds(0.5)),)))
    wire.write(A, b"lost")
    wire.clock.advance_to(0.6)
    assert wire.plugged(A)
    wire.write(A, b"kept")
    assert collect(wire, B) == [(1.6, b"kept")]


def test_a_new_plan_counts_from_the_moment_it_is_put_on_the_wire() -> None:
    wire = MemoryWire(VirtualClock(), faults=FaultPlan(drop=1.0, script=(Unplug(where=Seconds(50.0)),)))
    wire.write(A, b"lost")
    wire.clock.advance_to(10.0)
    wire.inflict(FaultPlan(script=(Drop(where=Bytes(0)), HangUp(where=Seconds(1.0)))))
    wire.write(A, b"xyz")
    assert wire.next_arrival() == 10.0
    assert wire.read(B) == b"yz"
    assert wire.next_arrival() == 11.0
    wire.clock.advance_to(60.0)
    assert wire.plugged(A)


def test_a_span_of_time_of_a_new_plan_counts_from_then_too() -> None:
    wire = MemoryWire(VirtualClock(10.0))
    wire.inflict(FaultPlan(script=(Drop(where=Seconds(1.0, 1.0)),)))
    heard = b""
    for moment in (10.5, 11.0, 11.9, 12.0):
        wire.clock.advance_to(moment)
        wire.write(A, b"%d" % round(moment * 10))
        heard += wire.read(B)
    assert heard == b"105120"


def test_what_is_due_happens_before_what_is_told_by_hand() -> None:
    def made(away_s: float) -> MemoryWire:
        wire = MemoryWire(
            VirtualClock(), faults=FaultPlan(script=(Unplug(where=Seconds(1.0), away_s=away_s, end=A, name="ttyA1"),))
        )
        wire.clock.advance_to(3.0)
        return wire

    wire = made(math.inf)
    wire.replug(A)
    assert (wire.plugged(A), wire.names[A]) == (True, "ttyA0")
    wire = made(1.0)
    wire.unplug(A)
    assert (wire.plugged(A), wire.names[A]) == (False, "ttyA1")
    wire = made(1.0)
    wire.insert(B, b"kept")
    assert wire.read(A) == b"kept"


def test_two_wires_with_the_same_seed_do_the_same() -> None:
    plan = FaultPlan(seed=9, drop=0.01, flip=0.02, duplicate=0.01, burst=0.001, delay=0.01, overtaken=True)
    messages = [random.Random(number).randbytes(40) for number in range(200)]

    def run() -> list[tuple[float, bytes]]:
        wire = MemoryWire(VirtualClock(), byte_rate=1e5, faults=plan)
        for message in messages:
            wire.write(A, message)
        return collect(wire, B)

    assert run() == run()
    assert b"".join(data for _, data in run()) != b"".join(messages)


@pytest.mark.parametrize("wrong", [{"byte_rate": 0.0}, {"byte_rate": -1.0}, {"delay_s": -0.1}, {"lump": 0}])
def test_numbers_that_no_wire_has_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wire"):
        MemoryWire(VirtualClock(), **wrong)  # type: ignore[arg-type]
