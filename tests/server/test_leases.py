"""Leases, rule by rule: who gets a device, who waits, what ends a lease, and what its old holder is told."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pytest

from gateway.errors import Busy, LeaseConflict, LeaseLost, NotFound, NotLeased, OutOfRange
from gateway.server.leasing import (
    TRANSITIONS,
    Cause,
    Dropped,
    Ended,
    Granted,
    HandOverAsked,
    HandOverOff,
    Holder,
    Lease,
    LeaseLimits,
    LeaseTable,
    Moved,
    Queued,
    State,
    Waiting,
)

E = TypeVar("E")
LIMITS = LeaseLimits(soft_s=10, hard_s=100, grace_s=5, ask_again_s=20, waiting_per_device=3, waiting_per_key=2, keys=3)


def holder(name: str) -> Holder:
    return Holder(key=f"key of {name}", principal=name, program="sweep.py", host="lab-pc", pid=41)


ALICE, BOB, CAROL, DAVE = map(holder, ("alice", "bob", "carol", "dave"))


@pytest.fixture
def table() -> LeaseTable:
    return LeaseTable(LIMITS)


def lease(table: LeaseTable, who: Holder, *devices: str, now: float = 0, **options: Any) -> Lease:
    got = table.request(who, devices, now, token=f"token of {who.principal}", **options)
    assert isinstance(got, Lease)
    return got


def wait(table: LeaseTable, who: Holder, *devices: str, now: float = 0, **options: Any) -> Waiting:
    got = table.request(who, devices, now, token=f"token of {who.principal}", **options)
    assert isinstance(got, Waiting)
    return got


def events(table: LeaseTable, kind: type[E]) -> list[E]:
    return [event for event in table.take_events() if isinstance(event, kind)]


def holders(table: LeaseTable, *devices: str) -> list[str | None]:
    found = [table.lease_of(device) for device in devices]
    return [each.holder.principal if each else None for each in found]


# -- getting one --------------------------------------------------------------------------------------------------


def test_free_devices_are_leased_at_once_and_together(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1", "dmm1")
    assert got.devices == ("psu1", "dmm1")
    assert table.lease_of("psu1") is table.lease_of("dmm1") is got
    assert table.take_events() == [Granted(got, None, ())]


def test_a_device_named_twice_is_leased_once(table: LeaseTable) -> None:
    assert lease(table, ALICE, "psu1", "psu1").devices == ("psu1",)


def test_several_devices_are_granted_all_or_none(table: LeaseTable) -> None:
    lease(table, ALICE, "dmm1")
    wait(table, BOB, "psu1", "dmm1")
    assert holders(table, "psu1", "dmm1") == [None, "alice"]


def test_fencing_numbers_grow_over_all_devices_and_over_a_restart(table: LeaseTable) -> None:
    first, second = lease(table, ALICE, "psu1"), lease(table, BOB, "dmm1")
    table.release(first.number, ALICE.key, now=1)
    third = lease(table, ALICE, "psu1", now=1)
    assert first.number < second.number < third.number == table.last_number
    assert lease(LeaseTable(LIMITS, last_number=table.last_number), ALICE, "psu1").number > third.number


def test_who_does_not_wait_is_told_who_has_it_and_for_how_long(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    with pytest.raises(LeaseConflict, match=r"psu1 is leased by alice \(sweep.py, pid 41 on lab-pc\)") as caught:
        lease(table, BOB, "psu1", now=3, wait_s=0)
    assert (caught.value.device, caught.value.until_s) == ("psu1", 7)
    assert "key of" not in str(caught.value)


def test_who_does_not_wait_does_not_pass_somebody_who_does(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    wait(table, BOB, "psu1", "dmm1")
    with pytest.raises(LeaseConflict, match="bob .* waits for it and comes first"):
        lease(table, CAROL, "dmm1", wait_s=0)


def test_who_has_a_device_can_not_wait_for_it(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    with pytest.raises(LeaseConflict, match="this connection already"):
        lease(table, ALICE, "dmm1", "psu1")


@pytest.mark.parametrize(
    ("devices", "options"),
    [
        ((), {}),
        (("psu1", ""), {}),
        ((7,), {}),
        (("x" * 201,), {}),
        (tuple(f"d{n}" for n in range(33)), {}),
        (("psu1",), {"soft_s": 0}),
        (("psu1",), {"soft_s": math.nan}),
        (("psu1",), {"soft_s": "10"}),
        (("psu1",), {"hard_s": math.inf}),
        (("psu1",), {"hard_s": True}),
        (("psu1",), {"wait_s": -1}),
        (("psu1",), {"wait_s": math.nan}),
    ],
)
def test_a_wrong_argument_is_refused_and_leaves_nothing_behind(
    table: LeaseTable, devices: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(OutOfRange):
        lease(table, ALICE, *devices, **options)
    assert (table.leases(), table.take_events(), table.next_deadline()) == ([], [], math.inf)


def test_a_holders_words_are_bounded() -> None:
    with pytest.raises(OutOfRange, match="program"):
        Holder(key=1, principal="alice", program="x" * 201, host="lab-pc", pid=1)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "3"])
def test_no_limit_can_be_left_out(value: Any) -> None:
    with pytest.raises(ValueError, match=r"LeaseLimits\.grace_s"):
        LeaseLimits(grace_s=value)


# -- waiting ------------------------------------------------------------------------------------------------------


def test_first_come_first_served(table: LeaseTable) -> None:
    first = lease(table, ALICE, "psu1")
    second, third = wait(table, BOB, "psu1"), wait(table, CAROL, "psu1")
    assert (second.position, third.position) == (1, 2)
    assert events(table, Queued) == [Queued(second, 1), Queued(third, 2)]
    table.release(first.number, ALICE.key, now=1)
    assert holders(table, "psu1") == ["bob"]
    granted, moved = table.take_events()[-2:]
    assert isinstance(granted, Granted)
    assert granted.waiting is second
    assert moved == Moved(third, 1)


def test_many_small_requests_do_not_starve_a_large_one(table: LeaseTable) -> None:
    """An earlier request reserves its devices, the free ones too."""
    first = lease(table, ALICE, "psu1")
    wait(table, BOB, "psu1", "dmm1")
    wait(table, CAROL, "dmm1")
    assert holders(table, "psu1", "dmm1") == ["alice", None]
    table.release(first.number, ALICE.key, now=1)
    assert holders(table, "psu1", "dmm1") == ["bob", "bob"]


def test_a_reserved_device_is_not_granted_when_something_else_ends(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    other = lease(table, DAVE, "console1")
    wait(table, BOB, "psu1", "dmm1")
    wait(table, CAROL, "dmm1")
    table.release(other.number, DAVE.key, now=1)
    assert holders(table, "dmm1") == [None]


def test_what_nobody_before_it_wants_is_granted_at_once(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    wait(table, BOB, "psu1", "dmm1")
    assert lease(table, CAROL, "console1").devices == ("console1",)


def test_one_end_serves_several(table: LeaseTable) -> None:
    first = lease(table, ALICE, "psu1", "dmm1")
    wait(table, BOB, "psu1")
    wait(table, CAROL, "dmm1")
    table.release(first.number, ALICE.key, now=1)
    assert holders(table, "psu1", "dmm1") == ["bob", "carol"]


def test_cancelling_frees_what_was_reserved(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    large = wait(table, BOB, "psu1", "dmm1")
    wait(table, CAROL, "dmm1")
    table.cancel(large.ticket, BOB.key, now=1)
    assert holders(table, "dmm1") == ["carol"]
    assert large.state is State.ENDED
    assert events(table, Dropped) == [Dropped(large, Cause.CANCELLED, "bob", "cancelled")]


def test_nobody_cancels_for_somebody_else(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    waiting = wait(table, BOB, "psu1")
    with pytest.raises(NotFound):
        table.cancel(waiting.ticket, CAROL.key, now=1)
    assert waiting.state is State.WAITING


def test_a_request_waits_no_longer_than_it_said(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    waiting = wait(table, BOB, "psu1", now=1, wait_s=3)
    assert table.next_deadline() == 4
    table.handle_timeout(3.9)
    assert waiting.state is State.WAITING
    table.handle_timeout(4)
    assert [event.cause for event in events(table, Dropped)] == [Cause.WAITED_TOO_LONG]


def test_who_waits_until_the_very_moment_gets_it(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    wait(table, BOB, "psu1", wait_s=10)
    table.handle_timeout(10)
    assert holders(table, "psu1") == ["bob"]


def test_the_line_of_a_device_is_bounded(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    for number in range(3):
        wait(table, holder(f"waiter {number}"), "psu1")
    with pytest.raises(Busy, match="3 requests wait for psu1 already"):
        wait(table, BOB, "psu1")


def test_the_requests_of_a_key_are_bounded(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1", "dmm1", "console1")
    wait(table, BOB, "psu1")
    wait(table, BOB, "dmm1")
    with pytest.raises(Busy, match="waits for 2 leases already"):
        wait(table, BOB, "console1")


def test_two_who_would_wait_for_each_other_are_told(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    lease(table, BOB, "dmm1")
    wait(table, ALICE, "dmm1")
    with pytest.raises(LeaseConflict, match="would be for ever: alice .* lease all devices at once"):
        wait(table, BOB, "psu1")


def test_a_circle_is_found_through_others_and_through_those_who_joined(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    table.join("token of alice", DAVE.key, now=0)
    lease(table, BOB, "dmm1")
    lease(table, CAROL, "console1")
    wait(table, BOB, "psu1")
    wait(table, CAROL, "dmm1")
    with pytest.raises(LeaseConflict, match="would be for ever"):
        wait(table, DAVE, "console1")


def test_place_estimates_from_the_soft_limits_and_bounds_by_the_hard_ones(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    lease(table, BOB, "dmm1", soft_s=30, hard_s=40)
    first = wait(table, CAROL, "psu1", now=2, soft_s=4, hard_s=50)
    second = wait(table, DAVE, "psu1", "dmm1", now=2)
    one, two = table.place(first.ticket, now=2), table.place(second.ticket, now=2)
    assert (one.position, one.estimate_s, one.at_most_s) == (1, 8, 98)
    assert (two.position, two.estimate_s, two.at_most_s) == (2, 28, 148)
    with pytest.raises(NotFound):
        table.place(99, now=2)


# -- limits -------------------------------------------------------------------------------------------------------


def test_a_lease_that_nobody_uses_ends_at_its_soft_limit(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1")
    assert table.next_deadline() == 10
    table.handle_timeout(10)
    (ended,) = events(table, Ended)
    assert (ended.lease, ended.cause, ended.by, ended.safe) == (got, Cause.IDLE, "the gateway", ("psu1",))


def test_using_it_extends_the_soft_limit_and_not_the_hard_one(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1")
    for second in range(9, 100, 9):
        table.touch(got.number, now=second)
        table.handle_timeout(second)
    assert got.end == 100
    table.handle_timeout(99.9)
    assert holders(table, "psu1") == ["alice"]
    table.handle_timeout(100)
    assert [event.cause for event in events(table, Ended)] == [Cause.TIME_OVER]


def test_a_call_that_runs_keeps_it_from_being_idle(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1")
    table.use(got.number, running=1, until=-math.inf)
    table.handle_timeout(table.next_deadline())
    assert table.next_deadline() == 20
    table.handle_timeout(50)
    table.check("psu1", got.number, now=75)
    table.use(got.number, running=0, until=80)
    assert table.next_deadline() == 90
    table.handle_timeout(90)
    assert [event.cause for event in events(table, Ended)] == [Cause.IDLE]


def test_a_call_that_hangs_does_not_keep_it_for_ever(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1")
    table.use(got.number, running=1, until=-math.inf)
    table.handle_timeout(100)
    assert [event.cause for event in events(table, Ended)] == [Cause.TIME_OVER]
    table.use(got.number, running=0, until=101)


@pytest.mark.parametrize("late", [10, 11, 1000])
def test_no_command_leaves_after_the_end_though_the_timer_is_late(table: LeaseTable, late: float) -> None:
    got = lease(table, ALICE, "psu1")
    for attempt in (
        lambda: table.check("psu1", got.number, late),
        lambda: table.touch(got.number, late),
        lambda: table.admit("psu1", ALICE.key, late),
    ):
        with pytest.raises(LeaseLost, match="nothing was done with it for 10 s"):
            attempt()
    assert table.take_events() == [Granted(got, None, ())]


def test_what_is_due_happens_before_anything_else(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    assert lease(table, BOB, "psu1", now=1000).since == 1000


def test_a_clock_that_goes_back_stands_still(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1", now=1000)
    assert lease(table, BOB, "dmm1", now=5).since == 1000


# -- using and sharing one ----------------------------------------------------------------------------------------


def test_a_number_is_checked_for_each_device(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1", "dmm1")
    other = lease(table, BOB, "console1")
    for device in got.devices:
        assert table.admit(device, ALICE.key, now=1) == got.number
        table.check(device, got.number, now=1)
    with pytest.raises(LeaseConflict, match="alice"):
        table.check("psu1", other.number, now=1)
    with pytest.raises(NotLeased) as caught:
        table.check("dac1", got.number, now=1)
    assert type(caught.value) is NotLeased


@pytest.mark.parametrize("number", [0, -1, 99, None, "1", 1.0])
def test_a_number_that_nobody_ever_had_is_nobodys(table: LeaseTable, number: Any) -> None:
    first = lease(table, ALICE, "psu1", now=0)
    table.release(first.number, ALICE.key, now=1)
    with pytest.raises(NotLeased) as caught:
        table.check("psu1", number, now=2)
    assert type(caught.value) is NotLeased


def test_a_number_of_before_the_restart_is_lost() -> None:
    table = LeaseTable(LIMITS, last_number=7)
    with pytest.raises(LeaseLost, match="the gateway was restarted"):
        table.check("psu1", 7, now=0)


def test_who_has_no_lease_is_told_whether_somebody_else_has(table: LeaseTable) -> None:
    with pytest.raises(NotLeased, match="psu1 takes a lease") as caught:
        table.admit("psu1", BOB.key, now=0)
    assert type(caught.value) is NotLeased
    lease(table, ALICE, "psu1")
    with pytest.raises(LeaseConflict):
        table.admit("psu1", BOB.key, now=0)


def test_who_knows_the_token_joins_and_is_no_holder(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1")
    assert table.join("token of alice", "child", now=1) is got
    assert table.admit("psu1", "child", now=1) == got.number
    with pytest.raises(NotLeased, match="alice .* has it"):
        table.release(got.number, "child", now=1)
    table.holder_lost("child", "the gateway", "its connection ended", now=2)
    assert holders(table, "psu1") == ["alice"]
    with pytest.raises(LeaseConflict):
        table.admit("psu1", "child", now=2)


@pytest.mark.parametrize("token", ["token of bob", "TOKEN OF ALICE", "\udcff"])
def test_nobody_joins_without_the_token(table: LeaseTable, token: str) -> None:
    lease(table, ALICE, "psu1")
    with pytest.raises(NotLeased):
        table.join(token, "child", now=1)


def test_the_connections_of_a_lease_are_bounded(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    for child in ("one", "two", "two"):
        table.join("token of alice", child, now=1)
    with pytest.raises(Busy):
        table.join("token of alice", "three", now=1)


# -- losing one ---------------------------------------------------------------------------------------------------


def test_releasing_asks_for_the_safe_state_and_is_no_loss(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1", "dmm1")
    table.release(got.number, ALICE.key, now=1)
    assert events(table, Ended) == [Ended(got, Cause.RELEASED, "alice", "released", ("psu1", "dmm1"))]
    with pytest.raises(NotLeased) as caught:
        table.admit("psu1", ALICE.key, now=2)
    assert type(caught.value) is NotLeased
    with pytest.raises(LeaseLost, match="released"):
        table.release(got.number, ALICE.key, now=2)


def test_an_administrator_ends_a_lease_with_a_reason_and_the_next_one_gets_it(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1")
    wait(table, BOB, "psu1")
    assert table.revoke("psu1", by="carol", why="fire drill", now=1) is got
    assert holders(table, "psu1") == ["bob"]
    for attempt in (lambda: table.check("psu1", got.number, 1), lambda: table.admit("psu1", ALICE.key, 1)):
        with pytest.raises(LeaseLost, match=r"lease 1 of psu1 has ended: fire drill \(by carol\)") as caught:
            attempt()
        assert (caught.value.by, caught.value.why, caught.value.device) == ("carol", "fire drill", "psu1")


@pytest.mark.parametrize("why", ["", "x" * 201, None])
def test_force_needs_a_reason(table: LeaseTable, why: Any) -> None:
    lease(table, ALICE, "psu1")
    with pytest.raises(OutOfRange, match="the reason"):
        table.revoke("psu1", by="carol", why=why, now=1)
    with pytest.raises(OutOfRange, match="the reason"):
        table.seize(CAROL, ["psu1"], why, 1, token="t")
    assert holders(table, "psu1") == ["alice"]


@pytest.mark.parametrize("what", ["psu1", 1, 0, None])
def test_there_must_be_a_lease_to_revoke(table: LeaseTable, what: Any) -> None:
    with pytest.raises(NotFound):
        table.revoke(what, by="carol", why="fire drill", now=1)


def test_an_administrator_seizes_devices_before_those_who_wait(table: LeaseTable) -> None:
    first = lease(table, ALICE, "psu1", "console1")
    waiting = wait(table, BOB, "psu1", "dmm1")
    table.take_events()
    got = table.seize(CAROL, ["psu1", "dmm1"], "fire drill", 1, token="t")
    assert got.holder is CAROL
    assert holders(table, "psu1", "dmm1", "console1") == ["carol", "carol", None]
    assert waiting.state is State.WAITING
    ended, granted = table.take_events()
    assert ended == Ended(first, Cause.REVOKED, "carol", "fire drill", ("psu1", "console1"))
    assert granted == Granted(got, None, ())
    table.release(got.number, CAROL.key, now=2)
    assert holders(table, "psu1", "dmm1") == ["bob", "bob"]


def test_a_lost_holder_loses_its_leases_and_its_places(table: LeaseTable) -> None:
    lease(table, BOB, "dmm1")
    lease(table, ALICE, "psu1")
    waiting = wait(table, ALICE, "dmm1")
    table.take_events()
    table.holder_lost(ALICE.key, "the gateway", "no heartbeat for 5 s", now=1)
    dropped, ended = table.take_events()
    assert dropped == Dropped(waiting, Cause.HOLDER_LOST, "the gateway", "no heartbeat for 5 s")
    assert isinstance(ended, Ended)
    assert (ended.cause, ended.safe) == (Cause.HOLDER_LOST, ("psu1",))
    with pytest.raises(LeaseLost, match="no heartbeat"):
        table.admit("psu1", ALICE.key, now=1)


def test_a_loss_is_remembered_until_the_key_asks_again(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    table.revoke("psu1", by="carol", why="fire drill", now=1)
    lease(table, BOB, "psu1", now=1)
    with pytest.raises(LeaseLost):
        table.admit("psu1", ALICE.key, now=2)
    wait(table, ALICE, "psu1", now=2)
    with pytest.raises(LeaseConflict, match="bob"):
        table.admit("psu1", ALICE.key, now=2)


def test_what_is_remembered_is_bounded_and_an_old_number_stays_lost() -> None:
    table = LeaseTable(LeaseLimits(remembered=3))
    for _ in range(4):
        lease(table, ALICE, "psu1")
        table.revoke("psu1", by="carol", why="fire drill", now=0)
    with pytest.raises(LeaseLost, match="it ended long ago"):
        table.check("psu1", 1, now=0)
    with pytest.raises(LeaseLost, match="fire drill"):
        table.check("psu1", 2, now=0)


def test_one_key_does_not_push_out_what_others_have_to_be_told() -> None:
    table = LeaseTable(LeaseLimits(remembered=3))
    lease(table, BOB, "dmm1")
    table.revoke("dmm1", by="carol", why="fire drill", now=0)
    for number in range(20):
        lease(table, ALICE, f"psu{number}")
        table.revoke(f"psu{number}", by="carol", why="again", now=0)
    with pytest.raises(LeaseLost, match="fire drill"):
        table.admit("dmm1", BOB.key, now=0)


# -- handing over -------------------------------------------------------------------------------------------------


def test_the_holder_agrees_and_the_devices_stay_as_they_are(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1")
    asker = wait(table, BOB, "psu1")
    assert table.ask(asker.ticket, BOB.key, now=1) is old
    assert events(table, HandOverAsked) == [HandOverAsked(old, asker, 5)]
    table.check("psu1", old.number, now=2)
    new = table.agree(old.number, ALICE.key, now=2)
    ended, granted = table.take_events()
    assert isinstance(ended, Ended)
    assert (ended.cause, ended.by, ended.safe) == (Cause.AGREED, "alice", ())
    assert granted == Granted(new, asker, ("psu1",))
    assert new.number > old.number
    with pytest.raises(LeaseLost, match="handed over to bob"):
        table.check("psu1", old.number, now=2)


def test_what_the_asker_does_not_want_is_made_safe(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1", "dmm1")
    asker = wait(table, BOB, "console1", "psu1")
    table.ask(asker.ticket, BOB.key, now=1)
    new = table.agree(old.number, ALICE.key, now=2)
    ended, granted = table.take_events()[-2:]
    assert isinstance(ended, Ended)
    assert ended.safe == ("dmm1",)
    assert granted == Granted(new, asker, ("psu1",))
    assert holders(table, "psu1", "console1", "dmm1") == ["bob", "bob", None]


def test_the_holder_refuses_and_is_left_in_peace_for_a_while(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1", soft_s=100)
    asker = wait(table, BOB, "psu1")
    table.ask(asker.ticket, BOB.key, now=1)
    table.refuse(old.number, ALICE.key, now=2)
    assert events(table, HandOverOff) == [HandOverOff(old, asker, Cause.REFUSED)]
    assert (old.state, asker.state) == (State.HELD, State.WAITING)
    with pytest.raises(Busy, match="has refused; they can be asked again in 19 s"):
        table.ask(asker.ticket, BOB.key, now=3)
    assert table.ask(asker.ticket, BOB.key, now=22) is old


def test_no_answer_within_the_grace_hands_over(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1")
    asker = wait(table, BOB, "psu1")
    table.ask(asker.ticket, BOB.key, now=1)
    assert table.next_deadline() == 6
    table.touch(old.number, now=5)
    table.handle_timeout(6)
    assert holders(table, "psu1") == ["bob"]
    assert [(event.cause, event.safe) for event in events(table, Ended)] == [(Cause.UNANSWERED, ())]


def test_a_limit_that_comes_before_the_answer_goes_through_the_safe_state(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1")
    asker = wait(table, BOB, "psu1")
    table.ask(asker.ticket, BOB.key, now=8)
    table.handle_timeout(1000)
    ended, off, granted = table.take_events()[-3:]
    assert isinstance(ended, Ended)
    assert (ended.cause, ended.safe) == (Cause.IDLE, ("psu1",))
    assert off == HandOverOff(old, asker, Cause.IDLE)
    assert isinstance(granted, Granted)
    assert granted.inherited == ()


def test_only_who_is_next_in_line_may_ask(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1")
    wait(table, BOB, "psu1")
    last = wait(table, CAROL, "psu1")
    with pytest.raises(LeaseConflict, match="bob .* comes first"):
        table.ask(last.ticket, CAROL.key, now=1)


def test_one_holder_is_asked_at_a_time_and_by_one(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1", "console1")
    lease(table, BOB, "dmm1")
    both = wait(table, CAROL, "psu1", "dmm1")
    with pytest.raises(LeaseConflict, match="waits for 2 leases, of alice .* and bob"):
        table.ask(both.ticket, CAROL.key, now=1)
    table.cancel(both.ticket, CAROL.key, now=1)
    first, second = wait(table, CAROL, "psu1"), wait(table, DAVE, "console1")
    table.ask(first.ticket, CAROL.key, now=1)
    assert table.ask(first.ticket, CAROL.key, now=2).grace_end == 6
    with pytest.raises(Busy, match="is being asked by carol"):
        table.ask(second.ticket, DAVE.key, now=2)


@pytest.mark.parametrize("leave", ["cancel", "lost"])
def test_an_asker_that_leaves_withdraws_its_question(table: LeaseTable, leave: str) -> None:
    old = lease(table, ALICE, "psu1")
    asker = wait(table, BOB, "psu1")
    table.ask(asker.ticket, BOB.key, now=1)
    if leave == "cancel":
        table.cancel(asker.ticket, BOB.key, now=2)
    else:
        table.holder_lost(BOB.key, "the gateway", "gone", now=2)
    assert events(table, HandOverOff) == [HandOverOff(old, asker, Cause.WITHDRAWN)]
    with pytest.raises(NotFound, match="nobody asks"):
        table.agree(old.number, ALICE.key, now=2)
    table.handle_timeout(7)
    assert holders(table, "psu1") == ["alice"]


def test_a_question_is_withdrawn_when_what_was_free_is_seized(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1")
    asker = wait(table, BOB, "psu1", "dmm1")
    table.ask(asker.ticket, BOB.key, now=1)
    table.seize(CAROL, ["dmm1"], "fire drill", 2, token="t")
    assert events(table, HandOverOff) == [HandOverOff(old, asker, Cause.WITHDRAWN)]
    table.handle_timeout(7)
    assert holders(table, "psu1", "dmm1") == ["alice", "carol"]


def test_nobody_answers_for_the_holder(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1")
    asker = wait(table, BOB, "psu1")
    table.ask(asker.ticket, BOB.key, now=1)
    for answer in (table.agree, table.refuse):
        with pytest.raises(NotLeased, match="alice .* has it"):
            answer(old.number, BOB.key, now=2)


def test_an_answer_that_comes_too_late_is_told_so(table: LeaseTable) -> None:
    old = lease(table, ALICE, "psu1")
    asker = wait(table, BOB, "psu1")
    table.ask(asker.ticket, BOB.key, now=1)
    with pytest.raises(LeaseLost, match="there was no answer within 5 s"):
        table.refuse(old.number, ALICE.key, now=6)


# -- looking ------------------------------------------------------------------------------------------------------


def test_status_tells_everybody_who_has_it_and_who_waits_and_no_secret(table: LeaseTable) -> None:
    lease(table, ALICE, "psu1", "dmm1")
    asker = wait(table, BOB, "psu1", now=1)
    table.ask(asker.ticket, BOB.key, now=2)
    alice, bob = ({"principal": name, "program": "sweep.py", "host": "lab-pc", "pid": 41} for name in ("alice", "bob"))
    status = table.status("psu1", now=4)
    assert status == {
        "device": "psu1",
        "state": "asked",
        "holder": alice,
        "number": 1,
        "devices": ["psu1", "dmm1"],
        "held_s": 4,
        "idle_end_s": 6,
        "hard_end_s": 96,
        "left_s": 6,
        "asked_by": bob,
        "grace_s": 3,
        "waiting": [
            {**bob, "ticket": 2, "devices": ["psu1"], "position": 1, "waited_s": 3, "estimate_s": 6, "at_most_s": 96}
        ],
    }
    assert "token" not in str(status)
    assert "key" not in str(status)
    assert set(table.status("console1", now=4)) == set(status)
    assert "key" not in repr(table.lease_of("psu1"))
    assert "token" not in repr(table.lease_of("psu1"))


def test_status_of_a_lease_that_is_in_use_has_no_soft_end(table: LeaseTable) -> None:
    got = lease(table, ALICE, "psu1")
    table.use(got.number, running=1, until=-math.inf)
    status = table.status("psu1", now=2)
    assert (status["idle_end_s"], status["left_s"]) == (None, 98)


# -- the table of transitions -------------------------------------------------------------------------------------


def test_every_state_and_every_cause_is_in_the_table_of_transitions() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {cause for row in TRANSITIONS.values() for cause in row} == set(Cause)
    assert {state for row in TRANSITIONS.values() for state in row.values()} | {State.WAITING} == set(State)
