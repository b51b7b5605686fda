"""Leases once more, as naive as can be, and Hypothesis that plays both against each other.

The naive table keeps two lists and looks through all of them for everything. It knows no events, no line and no past.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import Busy, GatewayError, LeaseConflict, LeaseLost, NotFound, NotLeased
from gateway.server.leasing import (
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

HEAVY = os.environ.get("LEASE_MODEL", "")
"""How many examples of how many steps, as "5000x100", for a long search."""
_examples, _, _steps = (HEAVY or "120x40").partition("x")
PROFILE = settings(max_examples=int(_examples), stateful_step_count=int(_steps or "50"), deadline=None)

LIMITS = LeaseLimits(grace_s=4, ask_again_s=6, waiting_per_device=3, waiting_per_key=2, keys=2)
DEVICES = ("psu1", "dmm1", "dac1")
KEYS = ("alice", "bob", "carol", "dave", "erin")

keys = st.sampled_from(KEYS)
device_sets = st.lists(st.sampled_from(DEVICES), min_size=1, max_size=3, unique=True)
softs = st.sampled_from([10.0, 3.0, 50.0])
hards = st.sampled_from([8.0, 30.0, 90.0])
waits = st.sampled_from([math.inf, 15.0, 2.0, 0.0])
pauses = st.sampled_from([0.0, 0.5, 1.0, 2.5, 7.0])
places = st.integers(0, 100)


@dataclass(eq=False)
class Claim:
    """A request, from its first moment to its last."""

    ticket: int
    key: str
    devices: list[str]
    soft_s: float
    hard_s: float
    until: float
    number: int = 0
    soft_end: float = math.inf
    hard_end: float = math.inf
    running: int = 0
    asker: Claim | None = None
    grace_end: float = math.inf
    quiet_until: float = -math.inf
    joined: list[str] = field(default_factory=list)

    def needs(self, other: Claim) -> bool:
        """Whether both want one device."""
        return any(device in other.devices for device in self.devices)


class Naive:
    """What `LeaseTable` has to do, written down without a thought of speed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.leases: list[Claim] = []
        self.waiting: list[Claim] = []
        self.numbers = 0
        self.tickets = 0

    def in_the_way(self, claim: Claim) -> list[Claim]:
        earlier = [other for other in self.waiting if other.ticket < claim.ticket]
        return [other for other in [*self.leases, *earlier] if other.needs(claim)]

    def waits_for_itself(self, claim: Claim) -> bool:
        reached = self.in_the_way(claim)
        for other in reached:
            for waiting in self.waiting:
                if waiting.key in (other.key, *other.joined):
                    reached += [each for each in self.in_the_way(waiting) if each not in reached]
        return any(claim.key in (other.key, *other.joined) for other in reached)

    def grant(self, claim: Claim) -> None:
        if claim in self.waiting:
            self.waiting.remove(claim)
        self.numbers += 1
        claim.number = self.numbers
        claim.soft_end, claim.hard_end = self.now + claim.soft_s, self.now + claim.hard_s
        self.leases.append(claim)

    def settle(self) -> None:
        for claim in list(self.waiting):
            if not self.in_the_way(claim):
                self.grant(claim)
        for lease in self.leases:
            if lease.asker is not None and (lease.asker not in self.waiting or self.in_the_way(lease.asker) != [lease]):
                lease.asker, lease.grace_end = None, math.inf

    def hand_over(self, lease: Claim) -> None:
        assert lease.asker is not None
        self.leases.remove(lease)
        self.grant(lease.asker)
        self.settle()

    def go_on(self, now: float) -> None:
        """What is due by `now`, in the order of the times; at the same time limits first, then answers, then waits."""
        self.now = now
        while True:
            due: list[tuple[float, int, int, Claim]] = []
            for lease in self.leases:
                due.append((lease.hard_end, 0, lease.ticket, lease))
                if lease.soft_end < lease.hard_end:
                    due.append((lease.soft_end, 1, lease.ticket, lease))
                due.append((lease.grace_end, 2, lease.ticket, lease))
            due += [(claim.until, 3, claim.ticket, claim) for claim in self.waiting]
            due = sorted(each for each in due if each[0] <= now)
            if not due:
                return
            _, what, _, claim = due[0]
            if what == 1 and claim.running:
                claim.soft_end = now + claim.soft_s
            elif what == 2:
                self.hand_over(claim)
            elif what == 3:
                self.waiting.remove(claim)
            else:
                self.leases.remove(claim)
            self.settle()

    def lease_of(self, device: str) -> Claim | None:
        (*found,) = (lease for lease in self.leases if device in lease.devices)
        assert len(found) <= 1
        return found[0] if found else None

    def verdict(self, device: str, number: int) -> type[GatewayError] | None:
        """What `check` raises."""
        lease = self.lease_of(device)
        if lease is not None and lease.number == number:
            return None
        if 0 < number <= self.numbers and number not in [each.number for each in self.leases]:
            return LeaseLost
        return NotLeased if lease is None else LeaseConflict


class LeaseModel(RuleBasedStateMachine):
    """Both tables, the same requests; whatever they answer has to agree."""

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable(LIMITS)
        self.naive = Naive()
        self.now = 0.0
        self.on_time = True
        """Whether time went on without a jump, and no administrator came: then nobody waits longer than was said."""
        self.bounds: dict[int, float] = {}
        self.open: set[int] = set()
        """Tickets of requests that wait or hold."""
        self.last_number = 0
        self.asked: set[int] = set()
        """Numbers of leases that are being asked for, by the events."""

    # -- what may happen -------------------------------------------------------------------------------------------

    @rule(words=st.lists(st.tuples(keys, device_sets, softs, hards, waits), min_size=1, max_size=4))
    def requests(self, words: list[Any]) -> None:
        """Several at once, so that there is a line most of the time."""
        for each in words:
            self.request(*each)

    def request(self, key: str, devices: list[str], soft_s: float, hard_s: float, wait_s: float) -> None:
        naive = self.naive
        holder = Holder(key=key, principal=key, program="p", host="h", pid=1)
        claim = Claim(naive.tickets + 1, key, devices, soft_s, hard_s, self.now + wait_s)
        own = [each for each in naive.leases if key in (each.key, *each.joined) and each.needs(claim)]
        error: type[GatewayError] | None = None
        if own:
            error = LeaseConflict
        else:
            naive.tickets += 1
            if not naive.in_the_way(claim):
                naive.grant(claim)
            elif not wait_s:
                error = LeaseConflict
            elif self.is_full(key, devices):
                error = Busy
            elif naive.waits_for_itself(claim):
                error = LeaseConflict
            else:
                naive.waiting.append(claim)
        options = {"token": f"token {naive.tickets}", "soft_s": soft_s, "hard_s": hard_s, "wait_s": wait_s}
        got = self.attempt(error, self.table.request, holder, devices, self.now, **options)
        if isinstance(got, Waiting):
            self.bounds[got.ticket] = self.now + self.table.place(got.ticket, self.now).at_most_s

    @rule(key=keys, devices=device_sets, soft_s=softs, hard_s=hards)
    def seize(self, key: str, devices: list[str], soft_s: float, hard_s: float) -> None:
        naive = self.naive
        holder = Holder(key=key, principal=key, program="p", host="h", pid=1)
        claim = Claim(naive.tickets + 1, key, devices, soft_s, hard_s, math.inf)
        victims = [each for each in naive.leases if each.needs(claim)]
        error = LeaseConflict if any(key in (each.key, *each.joined) for each in victims) else None
        if error is None:
            self.on_time = False
            naive.tickets += 1
            for each in victims:
                naive.leases.remove(each)
            naive.grant(claim)
            naive.settle()
        options = {"token": f"token {naive.tickets}", "soft_s": soft_s, "hard_s": hard_s}
        self.attempt(error, self.table.seize, holder, devices, "because", self.now, **options)

    @rule(place=places, mine=st.booleans())
    def cancel(self, place: int, mine: bool) -> None:
        if claim := self.pick(self.naive.waiting, place):
            if mine:
                self.naive.waiting.remove(claim)
                self.naive.settle()
            key = claim.key if mine else "mallory"
            self.attempt(None if mine else NotFound, self.table.cancel, claim.ticket, key, self.now)

    @rule(place=places, mine=st.booleans())
    def release(self, place: int, mine: bool) -> None:
        if claim := self.pick(self.naive.leases, place):
            if mine:
                self.naive.leases.remove(claim)
                self.naive.settle()
            key = claim.key if mine else "mallory"
            self.attempt(None if mine else NotLeased, self.table.release, claim.number, key, self.now)

    @rule(device=st.sampled_from(DEVICES))
    def revoke(self, device: str) -> None:
        claim = self.naive.lease_of(device)
        if claim is not None:
            self.naive.leases.remove(claim)
            self.naive.settle()
        self.attempt(None if claim else NotFound, self.table.revoke, device, "admin", "because", self.now)

    @rule(key=keys)
    def kill(self, key: str) -> None:
        naive = self.naive
        naive.waiting = [claim for claim in naive.waiting if claim.key != key]
        naive.leases = [lease for lease in naive.leases if lease.key != key]
        for lease in naive.leases:
            lease.joined = [each for each in lease.joined if each != key]
        naive.settle()
        self.attempt(None, self.table.holder_lost, key, "the gateway", "killed", self.now)

    @rule(place=places, key=keys)
    def join(self, place: int, key: str) -> None:
        if claim := self.pick(self.naive.leases, place):
            known = key in (claim.key, *claim.joined)
            error = Busy if not known and claim.joined else None
            if not known and error is None:
                claim.joined.append(key)
            self.attempt(error, self.table.join, f"token {claim.ticket}", key, self.now)

    @rule(place=places, first=st.booleans())
    def ask(self, place: int, first: bool) -> None:
        naive = self.naive
        nexts = [each for each in naive.waiting if len(naive.in_the_way(each)) == 1]
        if claim := self.pick(nexts if first else naive.waiting, place):
            blockers = naive.in_the_way(claim)
            error: type[GatewayError] | None = None
            if len(blockers) > 1 or blockers[0] in naive.waiting:
                error = LeaseConflict
            elif blockers[0].asker not in (None, claim) or (
                blockers[0].asker is None and self.now < blockers[0].quiet_until
            ):
                error = Busy
            elif blockers[0].asker is None:
                blockers[0].asker, blockers[0].grace_end = claim, self.now + LIMITS.grace_s
            self.attempt(error, self.table.ask, claim.ticket, claim.key, self.now)

    @rule(place=places, agree=st.booleans())
    def answer(self, place: int, agree: bool) -> None:
        asked = [each for each in self.naive.leases if each.asker is not None]
        if claim := self.pick(asked or self.naive.leases, place):
            if claim.asker is not None and agree:
                self.naive.hand_over(claim)
            elif claim.asker is not None:
                claim.asker, claim.grace_end = None, math.inf
                claim.quiet_until = self.now + LIMITS.ask_again_s
            answer = self.table.agree if agree else self.table.refuse
            self.attempt(None if asked else NotFound, answer, claim.number, claim.key, self.now)

    @rule(place=places)
    def touch(self, place: int) -> None:
        if claim := self.pick(self.naive.leases, place):
            claim.soft_end = max(claim.soft_end, self.now + claim.soft_s)
            self.attempt(None, self.table.touch, claim.number, self.now)

    @rule(place=places)
    def enter(self, place: int) -> None:
        if claim := self.pick(self.naive.leases, place):
            claim.running += 1
            self.attempt(None, self.table.check, claim.devices[0], claim.number, self.now)
            self.attempt(None, self.table.use, claim.number, running=claim.running, until=-math.inf)

    @rule(place=places)
    def leave(self, place: int) -> None:
        if claim := self.pick([each for each in self.naive.leases if each.running], place):
            claim.running -= 1
            claim.soft_end = max(claim.soft_end, self.now + claim.soft_s)
            self.attempt(None, self.table.use, claim.number, running=claim.running, until=self.now)

    @rule(pause_s=pauses)
    def wait(self, pause_s: float) -> None:
        """Time goes on, and the timer is on time."""
        until = self.now + pause_s
        while (deadline := self.table.next_deadline()) <= until:
            assert deadline >= self.now
            self.go_on(deadline)
        self.go_on(until)

    @rule(pause_s=pauses)
    def jump(self, pause_s: float) -> None:
        """The gateway stood still, and is late."""
        self.on_time = self.on_time and not pause_s
        self.go_on(self.now + pause_s)

    # -- what has to hold ------------------------------------------------------------------------------------------

    @invariant()
    def both_agree(self) -> None:
        naive, table = self.naive, self.table
        for device in DEVICES:
            expected, lease = naive.lease_of(device), table.lease_of(device)
            assert (lease and (lease.number, lease.holder.key)) == (expected and (expected.number, expected.key))
            if expected is not None and lease is not None:
                assert lease.state is (State.ASKED if expected.asker else State.HELD)
                assert (lease.soft_end, lease.hard_end) == (expected.soft_end, expected.hard_end)
            status = table.status(device, self.now)
            assert [each["ticket"] for each in status["waiting"]] == [
                each.ticket for each in naive.waiting if device in each.devices
            ]
            for number in range(-1, naive.numbers + 2):
                assert raised(table.check, device, number, self.now) is naive.verdict(device, number)
            for key in KEYS:
                holds = expected is not None and key in (expected.key, *expected.joined)
                error = raised(table.admit, device, key, self.now)
                assert error is None if holds else error in (NotLeased, LeaseConflict, LeaseLost)

    @invariant()
    def a_place_is_one_more_than_the_most_before(self) -> None:
        for claim in self.naive.waiting:
            ahead = [
                sum(device in other.devices for other in self.naive.waiting if other.ticket < claim.ticket)
                for device in claim.devices
            ]
            place = self.table.place(claim.ticket, self.now)
            assert place.position == 1 + max(ahead)
            assert 0 <= place.estimate_s <= place.at_most_s

    def teardown(self) -> None:
        """Whatever was left: all requests end by themselves, as every lease has a hard limit."""
        for _ in range(10_000):
            if (deadline := self.table.next_deadline()) == math.inf:
                break
            self.go_on(max(deadline, self.now))
        assert not self.open
        assert not self.table.leases()
        assert not self.asked

    # -- tools -----------------------------------------------------------------------------------------------------

    def is_full(self, key: str, devices: list[str]) -> bool:
        waiting = self.naive.waiting
        per_device = max(sum(device in each.devices for each in waiting) for device in devices)
        return per_device >= LIMITS.waiting_per_device or sum(each.key == key for each in waiting) >= 2

    def pick(self, claims: list[Claim], place: int) -> Claim | None:
        return claims[place % len(claims)] if claims else None

    def go_on(self, now: float) -> None:
        self.now = now
        self.naive.go_on(now)
        self.attempt(None, self.table.handle_timeout, now)

    def attempt(self, error: type[GatewayError] | None, method: Any, *words: Any, **options: Any) -> Any:
        """Call it; it has to raise `error`, exactly, or nothing. Then look at the events."""
        result: Any = None
        try:
            result = method(*words, **options)
            got = None
        except GatewayError as problem:
            got = type(problem)
        assert got is error
        if isinstance(result, Lease | Waiting) and method in (self.table.request, self.table.seize):
            self.open.add(result.wanted.ticket)
        for event in self.table.take_events():
            self.look_at(event)
        return result

    def look_at(self, event: Any) -> None:
        match event:
            case Granted(lease, waiting, inherited):
                assert lease.number > self.last_number
                self.last_number = lease.number
                self.open.add(lease.wanted.ticket)
                assert set(inherited) <= set(lease.devices)
                if waiting is not None and self.on_time:
                    assert self.now <= self.bounds[waiting.ticket] + 1e-6
            case Ended(lease, cause, _, why, safe):
                self.open.remove(lease.wanted.ticket)
                self.asked -= {lease.number} if cause in (Cause.AGREED, Cause.UNANSWERED) else set()
                assert why
                assert set(safe) == set(lease.devices) or cause in (Cause.AGREED, Cause.UNANSWERED)
            case Dropped(waiting, _, _, why):
                self.open.remove(waiting.ticket)
                assert why
            case HandOverAsked(lease, _, _):
                assert lease.number not in self.asked
                self.asked.add(lease.number)
            case HandOverOff(lease, _, _):
                self.asked.remove(lease.number)
            case Queued(waiting, position):
                self.open.add(waiting.ticket)
                assert position >= 1
            case Moved(waiting, position):
                assert position >= 1
                assert waiting.ticket in self.open


def raised(method: Any, *words: Any) -> type[GatewayError] | None:
    """The class of the error, or None."""
    try:
        method(*words)
    except GatewayError as problem:
        return type(problem)
    return None
