"""One read for all who want it, of one property of a device at a time, and none that nobody wants."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import Busy, DeviceUnavailable
from gateway.server.observing.board import Board
from gateway.server.observing.bounds import Bounds
from gateway.server.observing.subscriber import Key, Subscriber
from gateway.service.reading import Reading, failed_reading

VOLTS: Key = ("psu1", "voltage")
AMPS: Key = ("psu1", "current")
OHMS: Key = ("dmm1", "resistance")
BOUNDS = Bounds(properties=3, subscriptions=4)


def good(key: Key, value: Any = 1.0) -> Reading:
    return Reading(value, None, 0.0, *key)


def read(board: Board, key: Key, now: float, value: Any = 1.0, *, takes_s: float = 0.0) -> Any:
    """Be the worker who reads `key`, which must be next at its device."""
    assert board.begin(key[0], now) == key
    return board.finish(key, good(key, value), None, now + takes_s)


def subscriber(key: Key = VOLTS, every_s: float = 1.0, **how: Any) -> Subscriber:
    return Subscriber(key, every_s, None, BOUNDS, **how)


@pytest.fixture
def board() -> Board:
    return Board(BOUNDS)


def test_whoever_asks_while_it_is_to_be_read_waits_for_the_same_read(board: Board) -> None:
    assert board.ask(VOLTS, 1.0, 0.0, "anna") is None
    assert board.claim("psu1")
    assert board.ask(VOLTS, 0.0, 0.0, "ben") is None
    assert not board.claim("psu1")
    outcome, waiters, _ = read(board, VOLTS, 0.0)
    assert waiters == ["anna", "ben"]
    assert outcome.reading.value == 1.0
    assert board.begin("psu1", 0.1) is None


def test_an_answer_that_is_fresh_enough_costs_no_read(board: Board) -> None:
    board.ask(VOLTS, 1.0, 0.0, "anna")
    board.claim("psu1")
    read(board, VOLTS, 0.0)
    board.begin("psu1", 0.0)
    known = board.ask(VOLTS, 1.0, 0.9, "ben")
    assert known is not None
    assert known.reading.value == 1.0
    assert board.ask(VOLTS, 0.5, 0.9, "carl") is None


def test_age_counts_from_the_beginning_of_a_read(board: Board) -> None:
    board.ask(VOLTS, 5.0, 0.0, "anna")
    board.claim("psu1")
    read(board, VOLTS, 0.0, takes_s=4.0)
    assert board.ask(VOLTS, 3.0, 4.0, "ben") is None


def test_a_read_that_began_before_the_question_does_not_answer_it(board: Board) -> None:
    board.ask(VOLTS, 1.0, 0.0, "anna")
    board.claim("psu1")
    assert board.begin("psu1", 0.0) == VOLTS
    board.ask(VOLTS, 0.0, 0.1, "now")
    board.ask(VOLTS, 0.5, 0.2, "lately")
    _, waiters, _ = board.finish(VOLTS, good(VOLTS, "old"), None, 0.3)
    assert waiters == ["anna", "lately"]
    _, waiters, _ = read(board, VOLTS, 0.3, "new")
    assert waiters == ["now"]


def test_an_error_is_shared_and_answers_for_a_short_while_only(board: Board) -> None:
    board.ask(VOLTS, 60.0, 0.0, "anna")
    board.ask(VOLTS, 60.0, 0.0, "ben")
    board.claim("psu1")
    assert board.begin("psu1", 0.0) == VOLTS
    error = DeviceUnavailable("away")
    outcome, waiters, _ = board.finish(VOLTS, failed_reading(*VOLTS, 0.0, error), error, 0.1)
    assert (outcome.error, waiters) == (error, ["anna", "ben"])
    known = board.ask(VOLTS, 60.0, 0.9, "carl")
    assert known is not None
    assert known.error is error
    assert board.ask(VOLTS, 60.0, 1.1, "dora") is None


def test_a_property_is_polled_as_often_as_the_fastest_subscriber_wants(board: Board) -> None:
    slow, fast = subscriber(every_s=1.0), subscriber(every_s=0.25)
    board.add(slow, 0.0)
    assert board.take_due(0.0) == ["psu1"]
    read(board, VOLTS, 0.0)
    board.begin("psu1", 0.0)
    assert board.next_deadline() == 1.0
    board.add(fast, 0.0)
    assert board.next_deadline() == 0.25
    board.remove(fast, 0.0)
    assert board.next_deadline() == 1.0
    board.remove(slow, 0.0)
    assert board.next_deadline() == inf


def test_a_new_subscriber_has_what_is_known_at_once(board: Board) -> None:
    board.ask(VOLTS, 1.0, 0.0, "anna")
    board.claim("psu1")
    read(board, VOLTS, 0.0, 7.0)
    late = subscriber()
    assert board.add(late, 0.5)
    item = late.take()
    assert item is not None
    assert item[0].value == 7.0
    stale = subscriber(every_s=0.1)
    assert not board.add(stale, 0.6)
    assert board.next_deadline() == 0.6


def test_polls_stay_on_their_grid_though_they_come_late_or_take_long(board: Board) -> None:
    board.add(subscriber(every_s=1.0), 10.0)
    for due, late, takes_s, following in ((10.0, 0.2, 0.1, 11.0), (11.0, 0.0, 2.5, 14.0), (14.0, 0.9, 0.0, 15.0)):
        assert board.next_deadline() == due
        assert board.take_due(due + late) == ["psu1"]
        read(board, VOLTS, due + late, takes_s=takes_s)
        board.begin("psu1", due + late + takes_s)
        assert board.next_deadline() == following


def test_a_read_in_between_does_not_shift_the_grid(board: Board) -> None:
    board.add(subscriber(every_s=1.0), 10.0)
    board.take_due(10.0)
    read(board, VOLTS, 10.0)
    board.begin("psu1", 10.0)
    board.ask(VOLTS, 0.0, 10.6, "anna")
    board.claim("psu1")
    read(board, VOLTS, 10.6)
    board.begin("psu1", 10.6)
    assert board.next_deadline() == 11.0


def test_one_property_of_a_device_is_read_at_a_time_and_devices_side_by_side(board: Board) -> None:
    for key in (VOLTS, AMPS, OHMS):
        board.add(subscriber(key), 0.0)
    assert board.take_due(0.0) == ["psu1", "dmm1"], "one worker for each device"
    assert board.begin("psu1", 0.0) == VOLTS
    assert board.begin("dmm1", 0.0) == OHMS
    board.finish(OHMS, good(OHMS), None, 0.1)
    assert board.begin("dmm1", 0.1) is None
    board.add(subscriber(AMPS, 0.005), 0.2)
    assert board.take_due(0.2) == [], "somebody is at psu1 already"
    board.finish(VOLTS, good(VOLTS), None, 5.0)
    assert board.begin("psu1", 5.0) == AMPS


def test_reads_that_follow_each_other_are_polled_for_until_they_stop(board: Board) -> None:
    board.ask(VOLTS, 1.0, 0.0, "anna")
    board.claim("psu1")
    read(board, VOLTS, 0.0)
    board.begin("psu1", 0.0)
    assert board.next_deadline() == inf, "one read is no reason to poll"
    assert board.ask(VOLTS, 1.0, 0.5, "ben") is not None
    polled = []
    while board.next_deadline() < inf:
        now = board.next_deadline()
        polled.append(now)
        assert board.take_due(now) == ["psu1"]
        read(board, VOLTS, now)
        board.begin("psu1", now)
    assert polled == [1.0, 2.0, 3.0][: len(polled)]
    assert polled


def test_rare_reads_of_young_values_are_no_reason_to_poll(board: Board) -> None:
    for turn in range(10):
        assert board.ask(VOLTS, 1.0, 5.0 * turn, "anna") is None
        board.claim("psu1")
        read(board, VOLTS, 5.0 * turn)
        board.begin("psu1", 5.0 * turn)
        assert board.next_deadline() == inf


def test_what_the_config_keeps_is_polled_whoever_asks(board: Board) -> None:
    board.keep(VOLTS, 2.0, 0.0)
    for at in (0.0, 2.0, 4.0):
        assert board.next_deadline() == at
        board.take_due(at)
        read(board, VOLTS, at)
        board.begin("psu1", at)
    assert board.ask(VOLTS, 2.0, 5.9, "anna") is not None


def test_the_number_of_properties_is_bounded_and_what_nobody_wants_makes_room(board: Board) -> None:
    board.add(subscriber(VOLTS), 0.0)
    for name in ("a", "b", "c", "d"):
        key = ("dmm1", name)
        board.ask(key, 0.0, 0.0, name)
        board.claim("dmm1")
        read(board, key, 0.0)
        board.begin("dmm1", 0.0)
    assert len(board) == 3
    board.keep(("dmm1", "c"), 1.0, 0.0)
    board.keep(("dmm1", "d"), 1.0, 0.0)
    with pytest.raises(Busy, match="3 properties are watched"):
        board.ask(("dmm1", "e"), 0.0, 0.0, "eve")


def test_the_number_of_subscriptions_is_bounded(board: Board) -> None:
    some = [subscriber() for _ in range(4)]
    for each in some:
        board.add(each, 0.0)
    with pytest.raises(Busy):
        board.add(subscriber(), 0.0)
    board.remove(some[0], 0.0)
    board.remove(some[0], 0.0)
    board.add(subscriber(), 0.0)
    assert board.subscriptions == 4


def test_a_subscriber_who_takes_nothing_is_polled_for_no_more(board: Board) -> None:
    board.add(subscriber(every_s=1.0, max_queue=1), 0.0)
    while (now := board.next_deadline()) < inf:
        assert now < 100
        board.take_due(now)
        read(board, VOLTS, now, now)
        board.begin("psu1", now)
    assert board.subscriptions == 0


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whichever order: nobody waits for ever, and no device is entered twice."""

    keys = st.sampled_from([VOLTS, AMPS, OHMS])

    def __init__(self) -> None:
        super().__init__()
        self.board = Board(BOUNDS)
        self.now = 0.0
        self.at: dict[str, Key | None] = {}
        """Workers: the device each is at, and what it reads."""
        self.unanswered: dict[int, tuple[float, float]] = {}
        self.subscribed: list[Subscriber] = []
        self.count = 0

    def go(self, device: str) -> None:
        assert device not in self.at
        self.at[device] = None

    @rule(by=st.floats(0, 3))
    def wait(self, by: float) -> None:
        self.now += by
        for device in self.board.take_due(self.now):
            self.go(device)

    @rule(key=keys, age=st.sampled_from([0.0, 0.05, 0.5, 2.0]))
    def ask(self, key: Key, age: float) -> None:
        self.count += 1
        known = self.board.ask(key, age, self.now, self.count)
        if known is not None:
            assert known.began >= self.now - age
            return
        self.unanswered[self.count] = (self.now, age)
        if self.board.claim(key[0]):
            self.go(key[0])

    @rule(key=keys, every=st.sampled_from([0.05, 0.5, 2.0]))
    def subscribe(self, key: Key, every: float) -> None:
        if len(self.subscribed) < 4 and self.board.subscriptions < 4:
            self.subscribed.append(subscriber(key, every))
            self.board.add(self.subscribed[-1], self.now)

    @rule()
    def cancel(self) -> None:
        if self.subscribed:
            self.board.remove(self.subscribed.pop(), self.now)

    @rule(device=st.sampled_from(["psu1", "dmm1"]))
    def work(self, device: str) -> None:
        if device not in self.at:
            return
        if self.at[device] is None:
            key = self.board.begin(device, self.now)
            if key is None:
                del self.at[device]
            else:
                self.at[device] = key
            return
        key = self.at[device]
        assert key is not None
        outcome, waiters, _ = self.board.finish(key, good(key), None, self.now)
        for waiter in waiters:
            asked, age = self.unanswered.pop(waiter)
            assert outcome.began >= asked - age
        self.at[device] = None

    @invariant()
    def what_is_wanted_is_under_way(self) -> None:
        if self.unanswered:
            assert self.at, "somebody waits and nobody works"
        for each in self.subscribed:
            if not each.ended:
                planned = self.board._timetable.at(each.key) < inf
                assert planned or each.key[0] in self.at, "a subscriber is not polled for"


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase
