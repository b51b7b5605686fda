"""Numbering: what is in flight, what has to be sent again, what has come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.link.window import InFlight, ReceiveWindow, SendWindow


def window(size: int, sent: int) -> SendWindow:
    """With so many frames in flight."""
    tx = SendWindow(size)
    for number in range(sent):
        tx.add(0, 0, b"%d" % number)
    return tx


def lost(tx: SendWindow) -> list[int]:
    """The frames that have to be sent again, which counts as sent."""
    numbers = []
    while (frame := tx.take_lost()) is not None:
        numbers.append(frame.seq)
    return numbers


class TestSending:
    def test_frames_are_numbered_from_0(self) -> None:
        tx = SendWindow(4)
        assert [tx.add(0, 0, b"").seq for _ in range(3)] == [0, 1, 2]

    def test_no_more_frames_fly_than_the_peer_takes(self) -> None:
        tx = SendWindow(2)
        assert tx.is_open
        tx.add(0, 0, b"")
        tx.add(0, 0, b"")
        assert not tx.is_open
        tx.acknowledge(1)
        assert tx.is_open
        assert tx.in_flight == 1

    def test_the_room_the_peer_told_of_closes_the_window_too(self) -> None:
        tx = window(16, 3)
        tx.room = 3
        assert not tx.is_open
        tx.room = 4
        assert tx.is_open
        tx.room = 200
        tx = window(2, 2)
        assert not tx.is_open

    def test_an_acknowledgement_takes_all_before_its_number(self) -> None:
        tx = window(8, 5)
        newest = tx.acknowledge(3)
        assert newest is not None
        assert newest.seq == 2
        assert (tx.base, tx.in_flight) == (3, 2)

    def test_the_bitmap_takes_those_behind_its_number_lowest_bit_first(self) -> None:
        tx = window(16, 12)
        newest = tx.acknowledge(1, b"\x05\x02")  # 2, 4, 11
        assert newest is not None
        assert newest.seq == 11
        assert tx.in_flight == 12 - 4
        assert lost(tx) == [1, 3, 5, 6, 7, 8, 9, 10]

    def test_what_was_sent_before_one_that_arrived_is_lost_and_what_was_sent_later_is_not(self) -> None:
        tx = window(8, 5)
        tx.acknowledge(0, b"\x04")  # 3 is there
        assert lost(tx) == [0, 1, 2]
        tx.acknowledge(0, b"\x08")  # 4 is there: sent before those were sent again
        assert lost(tx) == []

    def test_a_frame_that_was_sent_again_is_lost_again_when_a_later_one_overtakes_it(self) -> None:
        tx = window(8, 2)
        tx.acknowledge(0, b"\x01")
        assert lost(tx) == [0]
        tx.add(0, 0, b"")  # 2
        tx.acknowledge(0, b"\x03")
        assert lost(tx) == [0]

    def test_a_frame_is_not_sent_again_when_it_was_acknowledged_after_it_was_lost(self) -> None:
        tx = window(8, 3)
        tx.acknowledge(0, b"\x02")
        assert tx.has_lost
        tx.acknowledge(1)
        assert tx.has_lost
        assert lost(tx) == [1]
        tx.acknowledge(0)
        tx = window(8, 3)
        tx.acknowledge(0, b"\x02")
        tx.acknowledge(3)
        assert not tx.has_lost
        assert lost(tx) == []

    def test_sending_again_counts(self) -> None:
        tx = window(8, 1)
        for times in (2, 3, 4):
            assert tx.oldest is not None
            tx.expire(tx.oldest)
            frame = tx.take_lost()
            assert frame is not None
            assert frame.times == times

    def test_a_frame_is_lost_once_at_a_time(self) -> None:
        tx = window(8, 2)
        frame = tx.oldest
        assert frame is not None
        tx.expire(frame)
        tx.expire(frame)
        tx.lose_all()
        assert lost(tx) == [0, 1]

    def test_the_oldest_is_the_one_sent_first_that_is_not_known_to_be_lost(self) -> None:
        tx = window(8, 3)
        assert tx.oldest is not None
        tx.expire(tx.oldest)
        assert tx.oldest.seq == 1
        tx.take_lost()
        assert tx.oldest.seq == 1
        tx.acknowledge(0, b"\x03")
        assert tx.oldest is not None
        assert tx.oldest.seq == 0
        assert tx.acknowledge(3) is not None
        assert tx.oldest is None

    @pytest.mark.parametrize("number", [-1, 5, 127, 10**9])
    def test_an_acknowledgement_of_what_was_never_sent_is_ignored(self, number: int) -> None:
        tx = window(8, 4)
        assert tx.acknowledge(number, b"\xff") is None
        assert (tx.base, tx.in_flight) == (0, 4)

    def test_an_old_acknowledgement_is_ignored(self) -> None:
        tx = window(8, 4)
        tx.acknowledge(3)
        assert tx.acknowledge(2, b"\xff") is None
        assert tx.in_flight == 1

    @pytest.mark.timeout(10)
    def test_a_bitmap_longer_than_any_window_is_read_no_further(self) -> None:
        tx = window(4, 4)
        assert tx.acknowledge(0, b"\x00" * 16 + b"\xff" * 2_000_000) is None
        assert tx.in_flight == 4
        newest = tx.acknowledge(0, b"\xff" * 2_000_000)
        assert newest is not None
        assert newest.seq == 3
        assert lost(tx) == [0]


class TestReceiving:
    def test_a_frame_in_order_is_handed_on_at_once(self) -> None:
        rx = ReceiveWindow(4)
        assert rx.add(0, (0, 0, b"a")) == [(0, 0, b"a")]
        assert rx.expected == 1
        assert not rx.has_gap
        assert rx.bitmap() == b""

    def test_frames_behind_a_gap_wait_and_are_told_of_in_the_bitmap(self) -> None:
        rx = ReceiveWindow(16)
        for number in (1, 3, 10):
            assert rx.add(number, (0, 0, b"%d" % number)) == []
        assert rx.has_gap
        assert rx.bitmap() == b"\x05\x02"
        assert rx.add(0, (0, 0, b"0")) == [(0, 0, b"0"), (0, 0, b"1")]
        assert (rx.expected, rx.bitmap()) == (2, b"\x81")
        assert rx.add(2, (0, 0, b"2")) == [(0, 0, b"2"), (0, 0, b"3")]
        assert rx.bitmap() == b"\x20"

    def test_what_was_handed_on_and_what_waits_is_not_new(self) -> None:
        rx = ReceiveWindow(4)
        rx.add(0, (0, 0, b""))
        rx.add(2, (0, 0, b""))
        assert [rx.is_new(number) for number in (-1, 0, 1, 2, 3)] == [False, False, True, False, True]

    def test_no_more_fit_than_the_window_has(self) -> None:
        rx = ReceiveWindow(4)
        rx.add(0, (0, 0, b""))
        assert [rx.fits(number) for number in (1, 4, 5)] == [True, True, False]


@settings(deadline=None)
@given(st.data())
def test_over_a_line_that_loses_and_reorders_all_arrive_once_and_in_order(data: st.DataObject) -> None:
    """The two windows against each other, with nothing between them but what Hypothesis does to the frames."""
    size = data.draw(st.sampled_from([1, 2, 5, 127]))
    total = data.draw(st.integers(0, 40))
    tx, rx = SendWindow(size), ReceiveWindow(size)
    flying: list[InFlight] = []
    got: list[bytes] = []
    steps = 0
    while len(got) < total:
        steps += 1
        assert steps < 4000
        calm = steps > 300
        while tx.is_open and tx.next < total:
            flying.append(tx.add(0, 0, b"%d" % tx.next))
        if tx.oldest is not None and not flying:
            tx.expire(tx.oldest)
        while (again := tx.take_lost()) is not None:
            flying.append(again)
        while flying:
            frame = flying.pop(0 if calm else data.draw(st.integers(0, min(3, len(flying) - 1))))
            what = "pass" if calm else data.draw(st.sampled_from(["pass", "pass", "lose", "twice", "silent"]))
            for _ in range({"lose": 0, "twice": 2}.get(what, 1)):
                if rx.is_new(frame.seq) and rx.fits(frame.seq):
                    got += [payload for _, _, payload in rx.add(frame.seq, (0, 0, frame.payload))]
            if what in ("pass", "twice"):
                tx.acknowledge(rx.expected, rx.bitmap())
    assert got == [b"%d" % number for number in range(total)]
