"""The machine: how two ends come into a session, and that whatever they say to each other stops."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import LimitExceeded
from gateway.link import Down, Link, LinkConfig, LinkState, Opened, Received
from gateway.link.events import Cause
from gateway.link.frames import ACK, CLOSE, DATA, HELLO, Hello
from gateway.link.hdlc import encode
from gateway.link.machine import HELLO_MAX_S, HELLO_S
from tests.link.impostor import OPENS, SERVES, Impostor, noise, seen_in
from tests.link.wire import A, B, Line, contents, frames_of, kinds, lose_when


class TestHandshake:
    def test_two_ends_meet_in_a_round_trip_and_a_half(self) -> None:
        line = Line(delay_s=0.01)
        assert line.run_until(lambda: line.is_open) <= 3 * 0.01 + 1e-9
        assert [line.sessions(A), line.sessions(B)] == [1, 1]
        line.run(0.05)
        for sent in line.sent:
            assert kinds(bytes(sent)) in ([HELLO, HELLO, ACK], [HELLO, HELLO, ACK, ACK])

    def test_each_says_what_it_takes(self) -> None:
        config = LinkConfig(initiator=True, frame=100, window=5, streams=7, message=12345, deflate=11)
        link = Link(config, nonces=lambda: 77, now=0.0)
        (content,) = contents(link.output(0.0))
        assert Hello.decode(content) == Hello(
            version=1,
            initiator=True,
            nonce=77,
            seen=0,
            frame=100,
            window=5,
            streams=7,
            message=12345,
            deflate=11,
        )

    @pytest.mark.parametrize("now", [0.0, 1e6, -100.0])
    def test_the_clock_may_begin_anywhere(self, now: float) -> None:
        line = Line(now=now)
        stream = line.open()
        line.links[A].send(stream, noise(5000))
        line.run_until(lambda: bool(line.messages(B)))
        line.links[B].accepting = False
        line.links[B].accepting = True
        line.run(10)
        assert line.is_open

    @pytest.mark.parametrize("now", [0.0, 1e6 + 0.1, 123456.789])
    def test_the_first_thing_written_is_a_flag(self, now: float) -> None:
        link = Link(OPENS, nonces=lambda: 1, now=now)
        assert link.output(now).startswith(b"\x7e")

    def test_a_hello_is_repeated_after_longer_and_longer_pauses(self) -> None:
        link = Link(OPENS, nonces=lambda: 1, now=0.0)
        times = []
        for _ in range(8):
            deadline = link.deadline()
            assert deadline is not None
            times.append(deadline)
            assert kinds(link.output(deadline)) == [HELLO]
            assert link.output(deadline) == b""
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses == pytest.approx([HELLO_S, 0.2, 0.4, 0.8, HELLO_MAX_S, HELLO_MAX_S, HELLO_MAX_S])

    def test_a_nonce_is_never_0_and_has_32_bits(self) -> None:
        numbers = iter([0, 2**32, 2**40 + 5])
        (content,) = contents(Link(OPENS, nonces=lambda: next(numbers), now=0.0).output(0.0))
        hello = Hello.decode(content)
        assert hello is not None
        assert hello.nonce == 5

    def test_a_hello_that_has_not_seen_ours_is_answered_once_however_often_it_comes(self) -> None:
        peer = Impostor()
        peer.hear()
        assert peer.say(*[peer.hello()] * 50) == []
        (answer,) = peer.hear()
        assert seen_in(answer) == peer.nonce

    def test_a_hello_that_has_seen_ours_opens_the_session_and_is_acknowledged(self) -> None:
        peer = Impostor()
        peer.hear()
        (opened,) = peer.say(peer.hello(seen=0xA11CE))
        assert isinstance(opened, Opened)
        assert opened.peer == peer.link.peer
        assert [content[0] for content in peer.hear()] == [ACK]

    @pytest.mark.parametrize("kind", ["ack", "data"])
    def test_a_frame_of_the_session_that_is_being_prepared_opens_it(self, kind: str) -> None:
        peer = Impostor()
        peer.say(peer.hello())
        events = peer.say(peer.ack() if kind == "ack" else peer.data(b"hi"))
        assert isinstance(events[0], Opened)
        assert events[1:] == ([] if kind == "ack" else [Received(0, b"hi")])

    @pytest.mark.parametrize("prepared", [True, False])
    def test_a_frame_of_another_session_opens_nothing(self, prepared: bool) -> None:
        peer = Impostor()
        peer.keys = peer.keys_for(4711)
        assert peer.say(*[peer.hello()] * prepared, peer.ack(), peer.data(b"hi")) == []
        assert peer.link.counters.crc_errors == 2
        assert peer.link.state is LinkState.OPENING

    def test_a_hello_after_the_session_opened_is_answered_with_what_it_lacks(self) -> None:
        peer = Impostor()
        peer.open()
        assert peer.say(*[peer.hello(seen=0xA11CE)] * 20) == []
        assert [content[0] for content in peer.hear()] == [ACK]
        assert peer.say(*[peer.hello(seen=0)] * 20) == []
        assert peer.hear() == []
        (answer,) = peer.hear(after_s=HELLO_S)
        assert seen_in(answer) == peer.nonce

    def test_a_lost_first_ack_is_made_up_for(self) -> None:
        line = Line()
        left = [3]

        def lose_acks(sender: int, frame: bytes) -> bool:
            left[0] -= kinds(frame) == [ACK]
            return kinds(frame) == [ACK] and left[0] >= 0

        line.on_frame = lose_when(lose_acks)
        line.run_until(lambda: line.is_open, 5.0)
        assert line.downs(A) == line.downs(B) == []

    def test_a_peer_that_cant_hear_us_does_not_keep_the_session_alive_by_saying_hello(self) -> None:
        peer = Impostor()
        peer.open()
        events: list[object] = []
        while not events:
            assert peer.now < 5
            assert {content[0] & 0xF0 for content in peer.hear(after_s=0.5)} <= {ACK, HELLO}
            events = peer.say(peer.hello(seen=0xA11CE))
        assert isinstance(events[0], Down)
        assert events[0].cause is Cause.SILENT

    @settings(deadline=None)
    @given(more=st.binary(max_size=16))
    def test_a_hello_of_a_later_version_with_more_bytes_is_understood(self, more: bytes) -> None:
        peer = Impostor()
        later = Hello(
            version=7,
            initiator=True,
            nonce=peer.nonce,
            seen=0xA11CE,
            frame=512,
            window=16,
            streams=64,
            message=1,
            deflate=0,
        )
        (opened,) = peer.say(encode(later.encode() + more, 0))
        assert isinstance(opened, Opened)
        assert opened.peer.version == 1

    def test_a_hello_that_no_end_may_say_is_damaged(self) -> None:
        peer = Impostor()
        assert (
            peer.say(peer.hello(version=0), peer.hello(window=0), peer.hello(frame=15), peer.hello()[:-3] + b"\x7e")
            == []
        )
        assert peer.link.counters.crc_errors == 4

    @pytest.mark.parametrize("initiator", [True, False])
    def test_two_ends_of_the_same_role_say_so_and_stay_apart(self, initiator: bool) -> None:
        config = LinkConfig(initiator=initiator)
        line = Line(config, config)
        line.run(3)
        for end in (A, B):
            assert line.events[end] == []
            assert ("open streams" if initiator else "both ends of the line serve") in line.links[end].problem
        assert len(line.sent[A]) < 8 * 35

    def test_a_line_that_sends_back_what_we_say_is_told_of(self) -> None:
        peer = Impostor(OPENS)
        peer.hear()
        peer.say(peer.hello(nonce=0xA11CE, role=1))
        assert "sends back" in peer.link.problem
        assert peer.link.counters.echoes == 1
        assert peer.hear() == []

    def test_the_problem_is_forgotten_when_a_peer_answers(self) -> None:
        peer = Impostor(OPENS)
        peer.hear()
        peer.say(peer.hello(role=1))
        assert peer.link.problem
        peer.say(peer.hello())
        assert peer.link.problem == ""

    def test_two_ends_with_the_same_nonce_are_no_echo(self) -> None:
        line = Line()
        line.links = [Link(config, nonces=lambda: 1, now=0.0) for config in (OPENS, SERVES)]
        stream = line.open()
        line.links[A].send(stream, b"hello")
        line.run(0.1)
        assert line.messages(B) == [(stream, b"hello")]
        assert line.links[A].counters.echoes == 0

    def test_our_own_frames_coming_back_are_damaged(self) -> None:
        line = Line()
        stream = line.open()
        line.on_frame = lambda sender, frame: [(0.0, frame)]
        line.links[A].send(stream, b"hello")
        for frame in frames_of(line.pump(A)):
            line.give(A, frame)
        assert line.links[A].counters.crc_errors == 1
        assert line.events[A] == []

    def test_sizes_are_agreed_both_ways(self) -> None:
        a = LinkConfig(initiator=True, frame=300, window=3, streams=9, message=500, deflate=15)
        b = LinkConfig(initiator=False, frame=64, window=1, streams=2, message=70, deflate=9)
        line = Line(a, b)
        stream = line.open()
        of_b, of_a = line.links[A].peer, line.links[B].peer
        assert of_a is not None
        assert of_b is not None
        assert (of_b.frame, of_b.window, of_b.streams, of_b.message, of_b.deflate) == (64, 1, 2, 70, 9)
        assert (of_a.frame, of_a.window, of_a.streams, of_a.message, of_a.deflate) == (64, 3, 2, 500, 9)
        line.links[A].send(stream, bytes(70))
        with pytest.raises(LimitExceeded):
            line.links[A].send(stream, bytes(71))
        line.run(1)
        line.links[B].send(stream, bytes(500))
        line.run(1)
        assert line.bytes_received(A) == bytes(500)


class TestStorms:
    """Whatever two links say to each other, they stop: nothing is answered for ever."""

    LULL_S = 0.9
    """Less than the keepalive: what is said in it is an answer, or an answer to one."""

    def count_answers(self, line: Line, end: int, frame: bytes) -> int:
        """How many frames follow from one that comes, in a time in which no timer says anything."""
        before = sum(link.counters.frames_sent for link in line.links)
        line.give(end, frame)
        line.run(0.05)
        return sum(link.counters.frames_sent for link in line.links) - before

    @pytest.mark.parametrize("end", [A, B])
    def test_every_frame_that_was_ever_said_is_followed_by_a_few_at_most(self, end: int) -> None:
        line = Line()
        stream = line.open()
        said = [frame for sent in self.history(line, stream) for frame in frames_of(sent)]
        assert {kind for frame in said for kind in kinds(frame)} >= {HELLO, DATA, ACK, CLOSE}
        for frame in said:
            line.run(1.0)
            assert self.count_answers(line, end, frame) <= 8

    def history(self, line: Line, stream: int) -> list[bytes]:
        """All that was written in some sessions of these two ends, beginning with what they have now."""
        for how in ("talk", "restart", "reset", "close"):
            if how == "restart":
                line.links[A].restart("a", line.now)
            elif how == "reset":
                line.reset(B)
            elif how == "close":
                line.links[A].close()
                line.pump(A)
                line.reset(A)
            line.run(1.0)
            stream = line.links[A].open()
            line.links[A].send(stream, noise(3000))
            line.run(0.2)
            line.links[B].send(stream, noise(3000))
            line.run(0.2)
        return [bytes(sent) for sent in line.sent]

    @settings(deadline=None)
    @given(
        said=st.lists(
            st.tuples(
                st.sampled_from([A, B]),
                st.sampled_from(["mine", "other", "yours", "new"]),
                st.sampled_from(["none", "mine", "other", "yours"]),
                st.booleans(),
            ),
            max_size=6,
        )
    )
    def test_hellos_with_any_two_nonces_are_followed_by_a_few_frames_and_a_session(
        self, said: list[tuple[int, str, str, bool]]
    ) -> None:
        line = Line()
        line.open()
        before = sum(link.counters.frames_sent for link in line.links)
        for to, nonce, seen, at_once in said:
            numbers = {"none": 0, "mine": line.nonces[1 - to], "yours": line.nonces[to], "other": 4711, "new": 4712}
            hello = Hello(
                version=1,
                initiator=to == B,
                nonce=numbers[nonce],
                seen=numbers[seen],
                frame=512,
                window=16,
                streams=64,
                message=1000,
                deflate=15,
            )
            line.give(to, encode(hello.encode(), 0))
            if not at_once:
                line.run(0.02)
        line.run(0.1)
        assert sum(link.counters.frames_sent for link in line.links) - before <= 12 * len(said)
        line.run(8.0)
        assert line.is_open
        assert line.nonces == [line.links[A]._nonce, line.links[B]._nonce]
        stream = line.links[A].open()
        line.take(B)
        line.links[A].send(stream, b"hello")
        line.run_until(lambda: bool(line.messages(B)), 1.0)
