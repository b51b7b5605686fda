"""What the counters of a link tell after something has happened."""

from __future__ import annotations

import pytest

from gateway.link import Counters, LinkConfig
from gateway.link.frames import DATA
from tests.link.wire import A, B, Line, kinds, lose_when


def test_a_new_link_has_counted_nothing() -> None:
    assert set(vars_of(Counters()).values()) == {0}


def vars_of(counters: Counters) -> dict[str, float]:
    return {name: getattr(counters, name) for name in Counters.__slots__}


def test_every_byte_and_frame_that_is_written_is_counted_and_read_at_the_other_end() -> None:
    line = Line()
    stream = line.open()
    for number in range(50):
        line.links[A].send(stream, b"reading %d" % number)
        line.run(0.02)
    a, b = line.links[A].counters, line.links[B].counters
    assert (a.bytes_sent, b.bytes_sent) == (b.bytes_received, a.bytes_received)
    assert (a.frames_sent, b.frames_sent) == (b.frames_received, a.frames_received)
    assert (a.messages_sent, b.messages_received) == (50, 50)
    payload = sum(len(b"reading %d" % number) for number in range(50))
    assert (a.payload_sent, b.payload_received) == (payload, payload)
    assert (a.crc_errors, a.retransmissions, b.duplicates, b.refused, a.resets) == (0, 0, 0, 0, 0)


def test_the_bytes_of_a_farewell_are_counted_too() -> None:
    line = Line()
    line.open()
    line.links[A].close()
    line.run(0.1)
    assert line.links[A].counters.bytes_sent == line.links[B].counters.bytes_received
    assert line.links[B].counters.resets == 0


def test_a_damaged_frame_is_a_crc_error_and_is_sent_again() -> None:
    line = Line()
    stream = line.open()
    left = [3]

    def damage(sender: int, frame: bytes) -> list[tuple[float, bytes]]:
        if kinds(frame) == [DATA] and left[0]:
            left[0] -= 1
            return [(0.0, b"\x55" + frame[1:])]
        return [(0.0, frame)]

    line.on_frame = damage
    line.links[A].send(stream, b"x" * 5000)
    line.run_until(lambda: bool(line.messages(B)))
    assert line.links[B].counters.crc_errors == 3
    assert line.links[A].counters.retransmissions >= 3


def test_a_frame_too_long_is_an_overrun() -> None:
    line = Line(b=LinkConfig(initiator=False, frame=16))
    line.open()
    line.give(B, b"x" * 1000 + b"\x7e")
    assert line.links[B].counters.overruns == 1


def test_a_frame_that_comes_twice_is_a_duplicate() -> None:
    line = Line()
    stream = line.open()
    line.on_frame = lambda sender, frame: [(0.0, frame), (0.003, frame)]
    line.links[A].send(stream, b"once")
    line.run(0.5)
    assert line.bytes_received(B) == b"once"
    assert line.links[B].counters.duplicates == 1


def test_a_frame_for_which_there_is_no_room_is_refused() -> None:
    line = Line()
    stream = line.open()
    line.links[B].accepting = False
    line.on_frame = lose_when(lambda sender, frame: sender == B)
    line.links[A].send(stream, b"no")
    line.run(0.1)
    assert line.links[B].counters.refused == 1


def test_the_round_trip_time_is_that_of_the_line_and_of_the_delay_of_acknowledgements() -> None:
    line = Line(delay_s=0.1)
    stream = line.open()
    line.links[A].send(stream, b"x" * 3000)
    line.run(2)
    assert line.links[A].counters.rtt_s == pytest.approx(0.2, abs=0.03)
    assert line.links[B].counters.rtt_s == 0.0


def test_sessions_and_resets_are_counted() -> None:
    line = Line()
    line.open()
    line.reset(B)
    line.run_until(lambda: line.sessions(A) == 1)
    assert (line.links[A].counters.sessions, line.links[A].counters.resets) == (2, 1)
    line.links[B].close()
    line.run(1)
    assert (line.links[A].counters.sessions, line.links[A].counters.resets) == (2, 1)


def test_the_goodput_is_that_of_about_the_last_second() -> None:
    line = Line()
    stream = line.open()
    for _ in range(40):
        line.links[A].send(stream, bytes(500))
        line.run(0.1)
    for link in line.links:
        assert link.counters.goodput == pytest.approx(5000, rel=0.3)
    line.run(4)
    assert line.links[A].counters.goodput == 0.0
