"""What a fault plan does to bytes: exactly what it says, repeatably, however the stream is cut."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.damage import Damage, Piece, Schedule
from hil.faults import (
    Bytes,
    Delay,
    Drop,
    Duplicate,
    End,
    FaultPlan,
    Flip,
    Garble,
    HangUp,
    Insert,
    Seconds,
    Unplug,
)

TEXT = b"0123456789abcdefghij"


def pieces(*script: object, data: bytes = TEXT, start_s: float = 0.0, byte_s: float = 0.0) -> list[Piece]:
    return Damage(FaultPlan(script=script), End.A).apply(data, start_s, byte_s)  # type: ignore[arg-type]


def out(*script: object, **how: float) -> bytes:
    return b"".join(piece.data for piece in pieces(*script, **how))  # type: ignore[arg-type]


def cut_up(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[low:high] for low, high in pairwise(places)]


# --------------------------------------------------------------------------------------------------------- the script


def test_a_clean_plan_changes_nothing() -> None:
    assert FaultPlan(seed=3).clean
    assert pieces() == [Piece(TEXT, 0, len(TEXT), 0.0, False, None)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Drop(where=Bytes(2, 3)), b"0156789abcdefghij"),
        (Flip(where=Bytes(1), mask=0x40), b"0q23456789abcdefghij"),
        (Duplicate(where=Bytes(0, 4)), b"0123" + TEXT),
        (Duplicate(where=Bytes(17, 3)), TEXT + b"hij"),
        (Insert(where=Bytes(5), data=b"<>"), b"01234<>56789abcdefghij"),
        (Insert(where=Bytes(0), data=b"<>"), b"<>" + TEXT),
        (Insert(where=Bytes(20), data=b"<>"), TEXT + b"<>"),
        (Drop(where=Bytes(20, 5)), TEXT),
        (Drop(where=Seconds(0.0)), b""),
    ],
)
def test_a_scripted_fault_hits_its_bytes_and_no_other(fault: object, expected: bytes) -> None:
    assert out(fault) == expected


def test_garble_turns_each_byte_of_its_span_into_another_one() -> None:
    garbled = out(Garble(where=Bytes(4, 10)))
    assert (garbled[:4], garbled[14:]) == (TEXT[:4], TEXT[14:])
    assert all(a != b for a, b in zip(garbled[4:14], TEXT[4:14], strict=True))


def test_a_fault_of_one_sender_leaves_the_other_alone() -> None:
    plan = FaultPlan(script=(Drop(where=Bytes(0, 5), sender=End.B),))
    assert [len(Damage(plan, end).apply(TEXT)[0].data) for end in End] == [20, 0]


def test_faults_on_one_byte_add_up() -> None:
    assert out(Flip(where=Bytes(0), mask=1), Duplicate(where=Bytes(0)))[:2] == b"11"


@given(st.lists(st.integers(0, 1000), max_size=8), st.integers(0, 2**32))
def test_damage_does_not_depend_on_how_the_stream_is_cut(cuts: list[int], seed: int) -> None:
    plan = FaultPlan(
        seed=seed,
        drop=0.05,
        flip=0.05,
        duplicate=0.05,
        burst=0.02,
        burst_bytes=5,
        script=(
            Duplicate(where=Bytes(10, 50)),
            Insert(where=Bytes(33), data=b"noise"),
            Drop(where=Bytes(100, 20)),
            Garble(where=Bytes(150, 30)),
        ),
    )
    data = random.Random(seed).randbytes(300)
    whole = b"".join(piece.data for piece in Damage(plan, End.A).apply(data))
    damage = Damage(plan, End.A)
    assert b"".join(piece.data for cut in cut_up(data, cuts) for piece in damage.apply(cut)) == whole


@given(st.lists(st.integers(0, 1000), max_size=8))
def test_every_byte_that_went_in_is_accounted_for(cuts: list[int]) -> None:
    damage = Damage(FaultPlan(seed=1, drop=0.1, flip=0.1, delay=0.05, duplicate=0.1), End.A)
    for cut in cut_up(bytes(200), cuts):
        covered = 0
        for piece in damage.apply(cut):
            assert piece.begin == covered
            covered = piece.end
        assert covered == len(cut)
    assert damage.passed == 200


# --------------------------------------------------------------------------------------------------------- the chances


@pytest.mark.parametrize("chance", [0.001, 0.01, 0.2])
def test_faults_come_as_often_as_they_should(chance: float) -> None:
    size = int(2_000 / chance) if chance > 0.01 else 200_000
    dropped = size - sum(len(piece.data) for piece in Damage(FaultPlan(drop=chance), End.A).apply(bytes(size)))
    assert dropped == pytest.approx(size * chance, rel=0.3)
    flipped = b"".join(piece.data for piece in Damage(FaultPlan(flip=chance), End.A).apply(bytes(size)))
    assert len(flipped) == size
    assert {byte.bit_count() for byte in flipped} == {0, 1}
    assert sum(map(bool, flipped)) == pytest.approx(size * chance, rel=0.3)
    assert len(set(flipped)) == 9 or chance == 0.001
    twice = Damage(FaultPlan(duplicate=chance), End.A).apply(bytes(size))
    assert sum(len(piece.data) for piece in twice) - size == pytest.approx(size * chance, rel=0.3)


def test_a_chance_of_one_hits_every_byte() -> None:
    assert b"".join(piece.data for piece in Damage(FaultPlan(drop=1.0), End.A).apply(TEXT)) == b""


def test_a_burst_is_as_long_as_it_says() -> None:
    noisy = b"".join(p.data for p in Damage(FaultPlan(seed=2, burst=0.001, burst_bytes=7), End.A).apply(bytes(3000)))
    assert len(noisy) == 3000
    runs = [len(run) for run in noisy.split(b"\0") if run]
    assert runs
    assert set(runs) == {7}


def test_the_seed_and_the_end_decide() -> None:
    def flips(seed: int, end: End) -> bytes:
        return b"".join(piece.data for piece in Damage(FaultPlan(seed=seed, flip=0.05), end).apply(bytes(1000)))

    assert flips(1, End.A) == flips(1, End.A)
    assert len({flips(1, End.A), flips(2, End.A), flips(1, End.B)}) == 3


# ------------------------------------------------------------------------------------------------------------ the time


def test_a_span_of_time_hits_what_begins_to_leave_in_it() -> None:
    mute = Drop(where=Seconds(2.0, 3.0))
    assert out(mute, start_s=0.0, byte_s=1.0) == b"0156789abcdefghij"
    assert out(mute, start_s=4.5, byte_s=1.0) == TEXT[1:]
    assert out(mute, start_s=5.0, byte_s=1.0) == TEXT
    assert out(mute, start_s=1.875, byte_s=1 / 64) == TEXT[:8]
    assert out(mute, start_s=2.0) == b""
    assert out(mute, start_s=1.99) == TEXT


def test_a_time_that_is_over_is_over_for_the_next_bytes_too() -> None:
    damage = Damage(FaultPlan(script=(Drop(where=Seconds(1.0, 1.0)),)), End.A)
    seen = [len(b"".join(piece.data for piece in damage.apply(b"x", now))) for now in (0.5, 1.0, 1.5, 2.0, 2.5)]
    assert seen == [1, 0, 0, 1, 1]


def test_a_span_of_time_goes_on_over_many_writes() -> None:
    damage = Damage(FaultPlan(script=(Drop(where=Seconds(1.0, 1.0)),)), End.A)
    writes = [damage.apply(TEXT, 0.25 * number, 0.01) for number in range(10)]
    heard = [sum(len(piece.data) for piece in write) for write in writes]
    assert heard == [20, 20, 20, 20, 0, 0, 0, 0, 20, 20]


def test_a_delay_makes_its_bytes_late() -> None:
    late = pieces(Delay(where=Bytes(5, 5), by_s=0.25))
    assert [(piece.data, piece.late_s, piece.overtaken) for piece in late] == [
        (b"01234", 0.0, False),
        (b"56789", 0.25, False),
        (b"abcdefghij", 0.0, False),
    ]


def test_random_delays_stay_within_their_bound_and_an_overtaken_one_takes_the_whole_write() -> None:
    late = Damage(FaultPlan(delay=0.1, delay_s=0.5), End.A).apply(bytes(2000))
    delays = [piece.late_s for piece in late if piece.late_s]
    assert 100 < len(delays) < 300
    assert 0 < min(delays) < 0.1
    assert 0.4 < max(delays) <= 0.5
    damage = Damage(FaultPlan(delay=0.01, overtaken=True), End.A)
    writes = [damage.apply(bytes(50)) for _ in range(40)]
    assert {len(write) for write in writes} == {1}
    assert 5 < sum(write[0].overtaken for write in writes) < 35


def test_unplugging_at_a_byte_comes_right_behind_the_one_before_it() -> None:
    pull = Unplug(where=Bytes(7), sender=End.A)
    before, event, after = pieces(pull)
    assert (before.data, before.then) == (b"0123456", None)
    assert (event.data, event.end, event.then) == (b"", 7, pull)
    assert (after.data, after.end) == (b"", 20)  # what is behind goes nowhere
    damage = Damage(FaultPlan(script=(pull,)), End.A)
    assert [piece.then for piece in damage.apply(TEXT[:7])] == [None, pull]
    assert [piece.then for piece in damage.apply(TEXT[7:])] == [None]


def test_the_schedule_gives_what_is_due_in_order() -> None:
    pull, noise, later = Unplug(where=Seconds(2.0)), Insert(where=Seconds(1.0), data=b"~"), HangUp(where=Seconds(2.0))
    schedule = Schedule(FaultPlan(script=(pull, noise, later, Drop(where=Seconds(0.0)))), origin_s=10.0)
    due = []
    while schedule.next_s < math.inf:
        due.append(schedule.pop())
    assert due == [(11.0, noise), (12.0, pull), (12.0, later)]


# -------------------------------------------------------------------------------------------------------- wrong plans


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (FaultPlan, {"drop": 1.5}),
        (FaultPlan, {"flip": -0.1}),
        (FaultPlan, {"burst": math.nan}),
        (FaultPlan, {"burst_bytes": 0}),
        (FaultPlan, {"delay_s": math.inf}),
        (Bytes, {"start": -1}),
        (Bytes, {"start": 0, "count": 0}),
        (Seconds, {"start": -1.0}),
        (Seconds, {"start": 0.0, "length": 0.0}),
        (Seconds, {"start": math.nan}),
        (Flip, {"where": Bytes(0), "mask": 256}),
        (Delay, {"where": Bytes(0), "by_s": 0.0}),
        (Unplug, {"where": Bytes(3)}),
        (Unplug, {"where": Seconds(0.0), "away_s": -1.0}),
    ],
    ids=repr,
)
def test_a_plan_that_makes_no_sense_is_refused(kind: type, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        kind(**wrong)


def test_a_plan_shows_what_makes_it_again() -> None:
    plan = FaultPlan(seed=5, drop=0.25, script=(Drop(where=Bytes(1), sender=End.B),))
    assert repr(FaultPlan(seed=5, drop=0.25)) == "FaultPlan(seed=5, drop=0.25)"
    assert "Drop" in repr(plan)
    assert hash(plan) == hash(FaultPlan(seed=5, drop=0.25, script=(Drop(where=Bytes(1), sender=End.B),)))
