"""Who is there, since when, and what is an event."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Match
from gateway.errors import BY_CODE, DeviceMissing, DeviceUnavailable
from gateway.hardware import Ambiguous, Entry, Found, Hardware, Left, Missing, Plugged, Presence, Returned, Roll

HERE = Hardware(port="/dev/ttyUSB0", serial_number="A")
THERE = Hardware(port="/dev/ttyUSB1", serial_number="A")
GONE = Missing("nothing with serial_number 'A' is plugged in")
TWO = Ambiguous("/dev/ttyUSB0 and /dev/ttyUSB1 all fit psu1")


def test_what_is_there_from_the_beginning_is_no_event() -> None:
    presence = Presence("psu1", Found(HERE), 100.0)
    assert (presence.state, presence.since, presence.hardware) == (Plugged.PRESENT, 100.0, HERE)
    assert presence.update(Found(HERE), 101.0) == []
    assert presence.since == 100.0


def test_leaving_and_returning_are_told_once_with_their_times() -> None:
    presence = Presence("psu1", Found(HERE), 100.0)
    assert presence.update(GONE, 105.0) == [Left(name="psu1", at=105.0, reason=GONE.reason, hardware=HERE)]
    assert presence.update(GONE, 106.0) == []
    assert (presence.state, presence.since, presence.reason) == (Plugged.MISSING, 105.0, GONE.reason)
    assert presence.update(Found(THERE), 110.0) == [Returned(name="psu1", at=110.0, away_s=5.0, hardware=THERE)]
    assert (presence.state, presence.since, presence.reason) == (Plugged.PRESENT, 110.0, "")


def test_one_that_comes_back_under_another_name_at_once_has_left_and_returned() -> None:
    presence = Presence("psu1", Found(HERE), 100.0)
    left, returned = presence.update(Found(THERE), 101.0)
    assert isinstance(left, Left)
    assert (left.hardware, left.reason) == (HERE, "/dev/ttyUSB0 was unplugged")
    assert isinstance(returned, Returned)
    assert (returned.hardware, returned.away_s) == (THERE, 0.0)


def test_one_whose_port_was_gone_in_between_has_left_and_returned_too() -> None:
    presence = Presence("psu1", Found(HERE), 100.0)
    assert [type(event) for event in presence.update(Found(HERE), 101.0, interrupted=True)] == [Left, Returned]


def test_one_that_can_t_be_told_from_another_has_left() -> None:
    presence = Presence("psu1", Found(HERE), 100.0)
    (left,) = presence.update(TWO, 101.0)
    assert isinstance(left, Left)
    assert (left.reason, presence.state) == (TWO.reason, Plugged.AMBIGUOUS)
    assert presence.update(GONE, 102.0) == []
    assert (presence.state, presence.since) == (Plugged.MISSING, 101.0)


def test_a_missing_device_has_a_typed_error_that_says_since_when() -> None:
    error = Presence("psu1", GONE, 0.0).error()
    assert str(error) == (
        "psu1 is missing since 1970-01-01T00:00:00+00:00: nothing with serial_number 'A' is plugged in"
    )
    assert (error.device, error.since, error.reason) == ("psu1", "1970-01-01T00:00:00+00:00", GONE.reason)
    assert isinstance(error, DeviceUnavailable)
    assert error.retryable
    assert BY_CODE["device-missing"] is DeviceMissing


ENTRIES = [Entry(name="a", match=Match(serial_number="A")), Entry(name="b", match=Match(serial_number="B"))]
OTHER = Hardware(port="/dev/ttyUSB1", serial_number="B")


def test_all_that_left_is_told_before_what_returned() -> None:
    roll = Roll(ENTRIES)
    assert roll.update([HERE], 0.0) == []
    assert [(type(event), event.name) for event in roll.update([OTHER], 1.0)] == [(Left, "a"), (Returned, "b")]


def test_after_a_reload_only_entries_that_changed_start_afresh() -> None:
    roll = Roll(ENTRIES)
    roll.update([HERE, OTHER], 0.0)
    kept = roll.presences["a"]
    roll.replace(
        [ENTRIES[0], Entry(name="b", match=Match(path="/dev/ttyUSB9")), Entry(name="c", match=Match(path="/x"))]
    )
    assert roll.update([HERE, OTHER], 5.0) == []
    assert roll.presences["a"] is kept
    assert (roll.presences["b"].state, roll.presences["b"].since) == (Plugged.MISSING, 5.0)
    assert roll.presences.keys() == {"a", "b", "c"}


def test_while_another_port_may_be_it_too_a_device_is_not_taken_to_be_there() -> None:
    roll = Roll([Entry(name="dmm1", match=Match(idn="ACME*", probe=True), may_ask=True)])
    said = {HERE.port: "ACME,DMM,1,1.0"}
    assert roll.update([HERE, OTHER], 0.0, identities=said, asking={OTHER.port}) == []
    presence = roll.presences["dmm1"]
    assert (presence.state, presence.reason) == (Plugged.MISSING, "/dev/ttyUSB1 is being asked *IDN?")
    assert [type(event) for event in roll.update([HERE, OTHER], 1.0, identities=said)] == [Returned]
    # Once it is there, a newcomer that is asked does not take it away.
    assert roll.update([HERE, THERE], 2.0, identities=said, asking={THERE.port}) == []
    assert presence.state is Plugged.PRESENT


@given(st.lists(st.tuples(st.sampled_from([Found(HERE), Found(THERE), GONE, TWO]), st.booleans()), max_size=30))
def test_events_of_one_device_alternate_and_end_where_it_is(
    steps: list[tuple[Found | Missing | Ambiguous, bool]],
) -> None:
    presence = Presence("psu1", GONE, 0.0)
    there = False
    for now, (outcome, interrupted) in enumerate(steps, start=1):
        for event in presence.update(outcome, float(now), interrupted=interrupted):
            assert isinstance(event, Left) is there
            there = isinstance(event, Returned)
        assert there is (presence.state is Plugged.PRESENT) is isinstance(outcome, Found)
        assert (presence.reason == "") is there
