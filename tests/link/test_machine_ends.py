"""The machine: timers, and the end of sessions."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.link import Down, Ended, Link, LinkConfig, LinkState, Received
from gateway.link import frames as f
from gateway.link.events import Cause
from gateway.link.frames import ACK, CLOSE, DATA, HELLO
from gateway.link.hdlc import encode
from gateway.link.machine import HELLO_S
from gateway.link.session import FrameKeys
from tests.link.impostor import OPENS, Impostor, noise, seen_in
from tests.link.wire import A, B, Line, contents, frames_of, kinds, lose_when


class TestTimers:
    def test_a_silent_peer_is_asked_and_answers(self) -> None:
        line = Line()
        line.open()
        line.run(30)
        assert line.is_open
        for end in (A, B):
            polls = [content for content in contents(bytes(line.sent[end])) if content[0] == ACK | f.POLL]
            assert 5 <= len(polls) <= 31
            assert len(line.sent[end]) < 31 * 25

    def test_a_poll_is_answered_at_once_and_the_answer_is_not(self) -> None:
        peer = Impostor()
        peer.open()
        peer.say(peer.ack(flags=f.POLL), peer.ack(flags=f.POLL))
        assert peer.hear() == [f.ack(0, 0, 16, b"")]
        peer.say(peer.ack())
        assert peer.hear() == []

    def test_a_dead_peer_ends_the_session_after_the_time_for_it(self) -> None:
        line = Line()
        line.open()
        line.frozen[B] = True
        waited = line.run_until(lambda: bool(line.downs(A)))
        assert line.downs(A)[0].cause is Cause.SILENT
        assert "4 s" in line.downs(A)[0].reason
        assert 2.9 <= waited <= 4.1

    def test_a_process_that_was_suspended_finds_a_new_session(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].send(stream, noise(200_000))
        line.run(0.01)
        line.frozen[B] = True
        line.run(10)
        line.frozen[B] = False
        line.run(10)
        assert line.is_open
        assert [down.cause for down in line.downs(A)] == [Cause.SILENT]
        assert len(line.downs(B)) == 1
        assert line.messages(B) == []
        stream = line.links[A].open()
        line.links[A].send(stream, b"hello again")
        line.run(1)
        assert line.messages(B) == [(stream, b"hello again")]

    def test_of_frames_that_are_late_together_one_asks_and_the_next_wait_is_twice_as_long_and_no_longer(self) -> None:
        peer = Impostor(OPENS)
        peer.open()
        stream = peer.link.open()
        for number in range(8):
            peer.link.send(stream, b"%d" % number)
            assert len(peer.hear(after_s=0.01)) == 1
        peer.now += 2.0  # the process was suspended
        assert [content for content in peer.hear() if content[0] & 0xF0 == DATA] == [f.data(f.LAST, 0, 0, 0, b"0")]
        assert peer.hear(after_s=0.29) == []
        assert peer.hear(after_s=0.02) == [f.data(f.LAST, 1, 0, 0, b"1")]
        peer.say(peer.ack(0, bitmap=b"\x01"))
        assert len(peer.hear()) == 7
        peer.say(peer.ack(8))
        assert peer.link.idle

    def test_a_line_that_stands_still_for_less_than_that_costs_only_time(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].send(stream, noise(50_000))
        line.run(0.01)
        line.stalled = [True, True]
        line.run(3.0)
        line.stalled = [False, False]
        line.run_until(lambda: line.bytes_received(B) == noise(50_000), 2.0)
        assert line.downs(A) == line.downs(B) == []

    def test_a_line_that_passes_small_frames_only_is_stuck(self) -> None:
        line = Line()
        stream = line.open()
        line.on_frame = lose_when(lambda sender, frame: len(frame) > 100)
        line.links[A].send(stream, b"small")
        line.run(1)
        line.links[A].send(stream, noise(400))
        line.run_until(lambda: bool(line.downs(A)), 120.0)
        (down,) = line.downs(A)
        assert down.cause is Cause.STUCK
        assert "too noisy" in down.reason
        line.run(2)
        assert line.is_open
        assert [down.cause for down in line.downs(B)] == [Cause.PEER_RESET]

    def test_frames_are_handed_over_no_faster_than_the_line_carries_them(self) -> None:
        rate = 1000.0
        config = LinkConfig(initiator=True, line_rate=rate, frame=100, window=100, deflate=0)
        line = Line(config, LinkConfig(initiator=False, window=100, frame=100))
        stream = line.open()
        line.links[A].send(stream, bytes(10_000))
        began = line.now
        for seconds in (1, 2, 3, 5):
            line.run(began + seconds - line.now)
            assert seconds * rate * 0.95 <= len(line.sent[A]) <= (seconds + 0.25) * rate + 120

    def test_after_a_pause_a_flag_goes_first(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].send(stream, b"a")
        assert line.pump(A).startswith(b"\x7e")
        line.links[A].send(stream, b"b")
        assert not line.pump(A).startswith(b"\x7e")

    def test_noise_on_a_silent_line_costs_nothing(self) -> None:
        line = Line()
        stream = line.open()
        line.give(B, b"\x20\x05noise")
        line.links[A].send(stream, b"hello")
        line.run(0.01)
        assert line.messages(B) == [(stream, b"hello")]
        assert line.links[A].counters.retransmissions == 0

    def test_there_is_always_a_next_time_and_it_has_not_passed(self) -> None:
        line = Line(LinkConfig(initiator=True, line_rate=11520.0))
        stream = line.open()
        line.links[A].send(stream, noise(20_000))
        before = line.outputs
        line.run(5)
        assert line.outputs - before < 5 * 100
        for link in line.links:
            wait = link.wait(line.now)
            assert wait is not None
            assert wait > 0


class TestEnds:
    def test_a_close_reaches_the_peer_which_says_hello_again(self) -> None:
        line = Line()
        line.open()
        line.links[A].close()
        assert line.links[A].wait(line.now) == 0.0
        line.run(2)
        assert [down.cause for down in line.downs(B)] == [Cause.PEER_CLOSED]
        assert line.links[B].counters.resets == 0
        assert line.links[B].state is LinkState.OPENING
        assert line.links[A].state is LinkState.CLOSED

    def test_a_closed_link_says_nothing_more_and_hears_nothing(self) -> None:
        line = Line()
        line.open()
        line.links[A].close()
        assert kinds(line.pump(A)) == [CLOSE, CLOSE]
        line.links[A].close()
        line.links[A].restart("too late", line.now)
        line.run(5)
        assert line.links[A].deadline() is None
        assert line.links[A].wait(line.now) is None
        assert line.links[A].output(line.now) == b""
        assert line.links[A].counters.crc_errors == 0
        assert line.events[A] == []

    def test_one_of_the_two_closes_may_be_lost(self) -> None:
        line = Line()
        line.open()
        closes = []

        def lose_first(sender: int, frame: bytes) -> bool:
            closes.append(frame)
            return len(closes) == 1

        line.on_frame = lose_when(lose_first)
        line.links[A].close()
        line.run(0.1)
        assert [down.cause for down in line.downs(B)] == [Cause.PEER_CLOSED]

    def test_a_close_that_is_lost_is_found_out_by_the_silence(self) -> None:
        line = Line()
        line.open()
        line.on_frame = lose_when(lambda sender, frame: sender == A)
        line.links[A].close()
        line.run(6)
        assert [down.cause for down in line.downs(B)] == [Cause.SILENT]

    def test_closing_before_we_know_that_the_peer_has_entered_the_session_tells_it_too(self) -> None:
        peer = Impostor()
        peer.say(peer.hello())
        peer.hear()
        peer.link.close()
        frame = encode(f.close(), FrameKeys(b"r", peer.nonce, 0xA11CE).key())
        assert peer.link.output(peer.now) == b"\x7e" + frame + frame

    def test_closing_without_a_peer_says_nothing(self) -> None:
        link = Link(OPENS, nonces=lambda: 1, now=0.0)
        link.close()
        assert link.deadline() is None
        assert link.output(0.0) == b""

    def test_a_close_of_another_session_is_damaged(self) -> None:
        peer = Impostor()
        peer.open()
        peer.keys = peer.keys_for(4711)
        assert peer.say(encode(f.close(), peer.keys.key())) == []
        assert peer.link.counters.crc_errors == 1

    def test_a_peer_that_began_anew_is_met_at_once(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].send(stream, noise(100_000))
        line.run(0.01)
        line.reset(B)
        waited = line.run_until(lambda: line.sessions(A) == 1 and line.sessions(B) == 1)
        assert waited < 0.02
        assert [down.cause for down in line.downs(A)] == [Cause.PEER_RESET]
        assert line.links[A].idle
        assert line.links[A].backlog(stream) == 0
        line.run(5)
        assert line.messages(B) == []

    def test_an_end_whose_port_was_lost_begins_anew_and_so_does_the_other(self) -> None:
        line = Line()
        line.open()
        line.links[A].restart("ttyUSB0 is gone", line.now)
        line.links[A].restart("ttyUSB0 is back", line.now)
        line.run(1)
        assert line.downs(A) == [Down(Cause.PORT, "ttyUSB0 is gone")]
        assert [down.cause for down in line.downs(B)] == [Cause.PEER_RESET]
        assert line.is_open

    def test_after_a_port_came_back_a_flag_goes_first(self) -> None:
        line = Line()
        line.open()
        line.links[A].accepting = False
        assert line.pump(A)
        line.links[A].restart("ttyUSB0 is gone", line.now)
        line.give(B, b"half a frame")
        assert line.pump(A).startswith(b"\x7e")

    def test_what_was_half_read_when_the_port_was_lost_does_not_count(self) -> None:
        peer = Impostor()
        peer.open()
        peer.say(b"half a frame")
        peer.link.restart("the port was lost", peer.now)
        peer.link.take_events()
        peer.link.receive(peer.hello(), peer.now)
        assert [content[0] for content in peer.hear()] == [HELLO]

    def test_a_hello_from_before_the_session_does_not_end_it_and_is_answered_with_ours(self) -> None:
        peer = Impostor()
        peer.open()
        assert peer.say(peer.hello(nonce=77, seen=88)) == []
        (answer,) = peer.hear(after_s=HELLO_S)
        assert seen_in(answer) == peer.nonce
        assert peer.link.state is LinkState.OPEN

    def test_a_peer_that_began_anew_and_read_an_old_hello_first_is_met_soon_all_the_same(self) -> None:
        line = Line()
        line.run_until(lambda: line.is_open)
        (old,) = [frame for frame in frames_of(bytes(line.sent[A])) if kinds(frame) == [HELLO]][:1]
        line.links[A].restart("a", line.now)
        line.run(1)
        line.take(A), line.take(B)
        line.on_frame = lose_when(lambda sender, frame: line.sessions(B) == 0 and line.now < began + 0.05)
        began = line.now
        line.reset(B)
        line.give(B, old)
        assert line.run_until(lambda: line.sessions(B) == 1, 10.0) < 1.0

    @pytest.mark.parametrize(
        ("frames", "why"),
        [
            ([(b"x", 0, f.LAST, 64)], "stream 64 of 64"),
            ([(b"x", 0, f.LAST, 255)], "stream 255 of 64"),
            ([(b"x" * 400, seq, 0, 0) for seq in range(3)], "stream 0"),
            ([(b"x", 0, f.LAST, 5), (b"x" * 500, 1, 0, 5), (b"x" * 501, 2, f.LAST, 5)], "stream 5"),
        ],
    )
    def test_what_no_peer_sends_ends_the_session(self, frames: list[tuple[bytes, int, int, int]], why: str) -> None:
        peer = Impostor(LinkConfig(initiator=False, message=1000))
        peer.open()
        *before, down = peer.say(*(peer.data(payload, seq, 0, flags, number) for payload, seq, flags, number in frames))
        assert all(isinstance(event, Received) for event in before)
        assert isinstance(down, Down)
        assert down.cause is Cause.PROTOCOL
        assert why in down.reason
        assert peer.link.state is LinkState.OPENING

    def test_a_deflate_bomb_ends_the_session(self) -> None:
        peer = Impostor(LinkConfig(initiator=False, message=1000))
        peer.open(deflate=15)
        bomb = zlib.compress(bytes(400_000), 9, wbits=-15)
        (down,) = peer.say(peer.data(bomb))
        assert isinstance(down, Down)
        assert down.cause is Cause.PROTOCOL
        assert "stream 0: frame: 1001 is over the limit of 1000" in down.reason

    def test_messages_that_have_begun_on_many_streams_may_not_pile_up(self) -> None:
        peer = Impostor(LinkConfig(initiator=False, begun=1000, deflate=0))
        peer.open()
        parts = [peer.data(noise(300), seq=seq, flags=0, stream=seq) for seq in range(4)]
        assert peer.say(*parts[:3]) == []
        (down,) = peer.say(parts[3])
        assert isinstance(down, Down)
        assert down.cause is Cause.PROTOCOL
        assert "in_flight_per_host: 1200 is over the limit of 1000" in down.reason

    def test_what_ends_or_is_given_up_makes_room_for_others(self) -> None:
        peer = Impostor(LinkConfig(initiator=False, begun=1000, deflate=0))
        peer.open()
        peer.say(peer.data(noise(800), seq=0, flags=0, stream=1))
        assert peer.say(peer.data(b"", seq=1, flags=f.END, stream=1)) == [Ended(1)]
        peer.say(peer.data(noise(800), seq=2, flags=0, stream=2))
        peer.link.abandon(2)
        assert peer.say(peer.data(noise(800), seq=3, flags=0, stream=3)) == []
        whole = noise(800) + b"end"
        assert peer.say(peer.data(b"end", seq=4, stream=3)) == [Received(3, whole)]

    def test_after_the_session_ended_the_rest_of_what_came_does_not_count(self) -> None:
        peer = Impostor()
        peer.open()
        frames = [peer.data(b"x", stream=64), peer.data(b"y", seq=1)]
        assert [type(event) for event in peer.say(*frames)] == [Down]

    def test_nothing_of_an_old_session_is_delivered_in_a_new_one(self) -> None:
        line = Line()
        stream = line.open()
        old: list[bytes] = []

        def keep(sender: int, frame: bytes) -> list[tuple[float, bytes]]:
            if sender == B:
                return [(0.0, frame)]
            old.append(frame)
            return []

        line.on_frame = keep
        line.links[A].send(stream, b"switch on")
        line.links[A].send(stream, noise(3000))
        line.run(1)
        line.on_frame = lambda sender, frame: [(0.0, frame)]
        line.links[A].restart("the port was lost", line.now)
        line.run(1)
        assert line.is_open
        stream = line.links[A].open()
        line.links[A].send(stream, b"switch off")
        for frame in old:
            line.give(B, frame)
        line.run(1)
        for frame in old:
            line.give(B, frame)
        line.run(1)
        assert line.messages(B) == [(stream, b"switch off")]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"\x7e", b"\x7d"]), max_size=20))
def test_no_bytes_whatever_make_it_raise_or_hold_more_than_a_frame(pieces: list[bytes]) -> None:
    peer = Impostor(LinkConfig(initiator=False, frame=16))
    peer.open()
    for piece in pieces:
        peer.say(piece)
        peer.hear(after_s=0.01)
    assert len(peer.link._reader._begun) <= peer.link._reader._limit


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=30)), max_size=20
    )
)
def test_no_intact_frames_whatever_make_it_raise(frames: list[tuple[int, int, int, bytes]]) -> None:
    peer = Impostor(LinkConfig(initiator=False, frame=64, message=100))
    peer.open(deflate=9)
    for kind, seq, ack, rest in frames:
        content = bytes((kind, seq, ack)) + rest
        peer.say(encode(content, peer.keys.key()), encode(content, peer.keys_for(peer.link._nonce).key()))
        peer.hear(after_s=0.05)
        while (wait := peer.link.wait(peer.now)) == 0.0:
            assert peer.hear()
        assert wait is not None
