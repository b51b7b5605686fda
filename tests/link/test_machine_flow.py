"""The machine: numbers, acknowledgements, repetitions, and room."""

from __future__ import annotations

import pytest

from gateway.link import LinkConfig, Opened, Received
from gateway.link import frames as f
from gateway.link.exchange import ACK_DELAY_S
from gateway.link.frames import DATA
from gateway.link.hdlc import encode
from tests.link.impostor import OPENS, Impostor, noise
from tests.link.wire import A, B, Line, kinds, lose_when


class TestAcknowledging:
    def test_an_ack_waits_for_data_that_carries_it(self) -> None:
        peer = Impostor()
        peer.open()
        peer.say(peer.data(b"question"))
        peer.link.send(0, b"answer")
        assert peer.hear() == [f.data(f.LAST, 0, 1, 0, b"answer")]
        assert peer.hear(after_s=0.1) == []

    def test_but_not_for_long(self) -> None:
        peer = Impostor()
        peer.open()
        peer.say(peer.data(b"question"))
        assert peer.hear() == []
        assert peer.link.wait(peer.now) == pytest.approx(ACK_DELAY_S)
        assert peer.hear(after_s=ACK_DELAY_S) == [f.ack(0, 1, 16, b"")]

    def test_every_second_frame_is_acknowledged_at_once(self) -> None:
        peer = Impostor()
        peer.open()
        peer.say(peer.data(b"1"))
        assert peer.hear() == []
        peer.say(peer.data(b"2", seq=1))
        assert peer.hear() == [f.ack(0, 2, 16, b"")]

    @pytest.mark.parametrize(("ours", "theirs"), [(1, 16), (3, 16), (16, 1), (16, 3)])
    def test_where_an_end_has_a_small_window_every_frame_is(self, ours: int, theirs: int) -> None:
        peer = Impostor(LinkConfig(initiator=False, window=ours))
        peer.open(window=theirs)
        peer.say(peer.data(b"1"))
        assert peer.hear() == [f.ack(0, 1, ours, b"")]

    def test_a_gap_is_told_of_at_once_and_again_when_it_closes(self) -> None:
        peer = Impostor()
        peer.open()
        assert peer.say(peer.data(b"c", seq=2)) == []
        assert peer.hear() == [f.ack(0, 0, 16, b"\x02")]
        assert peer.say(peer.data(b"a")) == [Received(0, b"a")]
        assert peer.hear() == [f.ack(0, 1, 16, b"\x01")]
        assert peer.say(peer.data(b"b", seq=1)) == [Received(0, b"b"), Received(0, b"c")]
        assert peer.hear() == [f.ack(0, 3, 16, b"")]

    def test_a_frame_that_came_before_is_acknowledged_again_and_not_delivered_again(self) -> None:
        peer = Impostor()
        peer.open()
        peer.say(peer.data(b"a"))
        peer.hear(after_s=1)
        assert peer.say(peer.data(b"a"), peer.data(b"a")) == []
        assert peer.hear() == [f.ack(0, 1, 16, b"")]

    @pytest.mark.parametrize("seq", [16, 50, 127])
    def test_a_frame_beyond_the_window_is_refused(self, seq: int) -> None:
        peer = Impostor()
        peer.open()
        assert peer.say(peer.data(b"far", seq=seq)) == []
        assert peer.link.counters.refused == 1
        assert peer.hear() == [f.ack(0, 0, 16, b"")]

    def test_a_lost_frame_is_sent_again_as_soon_as_a_later_one_is_acknowledged(self) -> None:
        peer = Impostor()
        peer.open()
        peer.say(peer.data(b"?", flags=f.LAST))
        for text in (b"a", b"b", b"c"):
            peer.link.send(0, text)
        assert len(peer.hear()) == 3
        peer.say(peer.ack(0, bitmap=b"\x02"))
        assert peer.hear() == [f.data(f.LAST, 0, 1, 0, b"a"), f.data(f.LAST, 1, 1, 0, b"b")]
        peer.say(peer.ack(3))
        assert peer.hear(after_s=0.9) == []

    def test_without_an_answer_a_frame_is_sent_again_after_the_timeout_and_then_after_twice_as_long(self) -> None:
        peer = Impostor(OPENS)
        peer.open()
        stream = peer.link.open()
        peer.link.send(stream, b"?")
        sent = []
        for _ in range(2000):
            if any(content[0] & 0xF0 == DATA for content in peer.hear(after_s=0.001)):
                sent.append(peer.now)
            if peer.now > 1.9:
                break
        assert [round(later - sent[0], 2) for later in sent] == pytest.approx([0, 0.3, 0.9], abs=0.011)

    @pytest.mark.parametrize(
        ("number", "bitmap"),
        [(1, b""), (100, b"\xff"), (0, b"\xff" * 400), (3, b"\x00" * 16 + b"\xff" * 300), (127, b"")],
    )
    def test_an_absurd_acknowledgement_changes_nothing(self, number: int, bitmap: bytes) -> None:
        peer = Impostor(OPENS)
        peer.open()
        assert peer.say(peer.ack(number, bitmap=bitmap)) == []
        stream = peer.link.open()
        peer.link.send(stream, b"hello")
        assert peer.hear() == [f.data(f.LAST, 0, 0, 0, b"hello")]
        peer.say(peer.ack(1))
        assert peer.link.idle

    def test_a_window_of_one_carries_everything_one_frame_at_a_time(self) -> None:
        small = LinkConfig(initiator=False, frame=64, window=1, streams=1, deflate=0)
        line = Line(OPENS, small)
        stream = line.open()
        most = [0]

        def watch(sender: int, frame: bytes) -> list[tuple[float, bytes]]:
            in_flight = sum(flight.to == B and kinds(flight.data) == [DATA] for flight in line.flying)
            most[0] = max(most[0], in_flight + (sender == A and kinds(frame) == [DATA]))
            return [(0.0, frame)]

        line.on_frame = watch
        line.links[A].send(stream, noise(3000))
        line.run_until(lambda: bool(line.messages(B)))
        line.links[B].send(stream, noise(3000))
        line.run_until(lambda: bool(line.messages(A)))
        assert line.bytes_received(A) == line.bytes_received(B) == noise(3000)
        assert most == [1]

    @pytest.mark.parametrize("kind", [0x00, 0x50, 0xF0])
    def test_a_frame_of_an_unknown_kind_or_cut_short_is_damaged(self, kind: int) -> None:
        peer = Impostor()
        peer.open()
        for content in (bytes((kind, 1, 2, 3)), b"\x20\x00", b"\x30\x00", b"\x20"):
            before = peer.link.counters.crc_errors
            assert peer.say(encode(content, peer.keys.key())) == []
            assert peer.link.counters.crc_errors == before + 1
        assert peer.say(b"abc\x7e") == []
        assert peer.link.counters.crc_errors == 5

    def test_a_data_frame_cut_short_opens_no_session_that_it_could_break(self) -> None:
        peer = Impostor()
        peer.say(peer.hello())
        (opened,) = peer.say(encode(b"\x21\x00", peer.keys.key()))
        assert isinstance(opened, Opened)
        assert peer.link.counters.crc_errors == 1


class TestNumbers:
    def test_numbers_go_on_beyond_256(self) -> None:
        line = Line(LinkConfig(initiator=True, deflate=0), LinkConfig(initiator=False, frame=16))
        stream = line.open()
        line.links[A].send(stream, noise(20_000))
        line.run_until(lambda: bool(line.messages(B)))
        line.links[B].send(stream, noise(20_000))
        line.run_until(lambda: bool(line.messages(A)))
        assert line.bytes_received(A) == line.bytes_received(B) == noise(20_000)
        assert line.links[A].counters.crc_errors == line.links[B].counters.crc_errors == 0
        assert line.links[A].counters.retransmissions == 0

    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_a_frame_from_256_frames_ago_is_not_taken_for_a_new_one(self, turns: int) -> None:
        peer = Impostor()
        peer.open()
        late = peer.data(b"old", seq=5)
        for seq in range(256 * turns + 5):
            assert peer.say(peer.data(b"new", seq=seq)) == [Received(0, b"new")]
            peer.hear()
        assert peer.say(late) == []
        assert peer.link.counters.crc_errors == 1
        assert peer.say(peer.data(b"new", seq=256 * turns + 5)) == [Received(0, b"new")]

    def test_an_acknowledgement_from_256_frames_ago_is_not_taken_for_a_new_one(self) -> None:
        peer = Impostor(OPENS)
        peer.open()
        stream = peer.link.open()
        late = peer.ack(3)
        for number in range(256):
            peer.link.send(stream, b"x")
            peer.hear()
            peer.say(peer.ack(number + 1))
        for _ in range(3):
            peer.link.send(stream, b"y")
        peer.hear()
        peer.say(late)
        assert peer.link.counters.crc_errors == 1
        assert not peer.link.idle

    def test_old_doubles_of_every_frame_change_nothing(self) -> None:
        line = Line(LinkConfig(initiator=True, frame=16, deflate=0), LinkConfig(initiator=False, frame=16), seed=3)
        stream = line.open()
        kept: list[tuple[int, bytes]] = []

        def replay(sender: int, frame: bytes) -> list[tuple[float, bytes]]:
            kept.append((sender, frame))
            old_sender, old = kept[line.random.randrange(len(kept))]
            return [(0.0, frame)] + ([(0.0, old)] if old_sender == sender else [])

        line.on_frame = replay
        sent = [noise(70, number) for number in range(300)]
        for message in sent:
            line.links[A].send(stream, message)
        line.run_until(lambda: len(line.messages(B)) >= len(sent))
        line.run(1)
        assert [message for _, message in line.messages(B)] == sent
        assert line.links[B].counters.crc_errors > 0


class TestRoom:
    def test_an_end_without_room_is_sent_nothing_and_loses_nothing(self) -> None:
        line = Line()
        stream = line.open()
        line.links[B].accepting = False
        assert not line.links[B].accepting
        line.run(0.1)
        before = line.links[A].counters.frames_sent
        for number in range(5):
            line.links[A].send(stream, noise(3000, number))
        line.run(20)
        assert line.messages(B) == []
        assert line.is_open
        assert line.links[A].counters.retransmissions == 0
        assert line.links[A].counters.frames_sent - before < 20 / 0.05 + 20
        line.links[B].accepting = True
        line.run_until(lambda: len(line.messages(B)) == 5, 1.0)
        assert [message for _, message in line.messages(B)] == [noise(3000, number) for number in range(5)]

    def test_what_was_in_flight_when_the_room_ended_comes_when_there_is_room(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].send(stream, noise(6000))
        line.pump(A)
        line.links[B].accepting = False
        line.run(5)
        assert line.links[B].counters.refused > 0
        line.links[B].accepting = True
        assert line.run_until(lambda: line.bytes_received(B) == noise(6000)) < 0.02

    @pytest.mark.parametrize("lost", [1, 3, 10])
    def test_that_there_is_room_again_may_be_lost(self, lost: int) -> None:
        line = Line()
        stream = line.open()
        line.links[B].accepting = False
        line.run(0.1)
        line.links[A].send(stream, b"waiting")
        line.run(1)
        left = [lost]

        def lose(sender: int, frame: bytes) -> bool:
            left[0] -= sender == B
            return sender == B and left[0] >= 0

        line.on_frame = lose_when(lose)
        line.links[B].accepting = True
        line.run_until(lambda: line.messages(B) == [(stream, b"waiting")], 3.0)
        assert line.downs(A) == line.downs(B) == []

    @pytest.mark.parametrize("now", [0.0, -100.0])
    def test_that_there_is_no_room_is_said_at_once(self, now: float) -> None:
        peer = Impostor(now=now)
        peer.open()
        peer.link.accepting = False
        assert peer.link.wait(peer.now) == 0.0
        assert peer.hear() == [f.ack(0, 0, 0, b"")]

    def test_setting_it_to_what_it_is_says_nothing(self) -> None:
        peer = Impostor()
        peer.link.accepting = False
        peer.link.accepting = True
        peer.open()
        peer.link.accepting = True
        assert peer.hear() == []

    def test_an_end_that_begins_without_room_says_so(self) -> None:
        peer = Impostor()
        peer.link.accepting = False
        peer.hear()
        peer.say(peer.hello(seen=0xA11CE))
        assert peer.hear() == [f.ack(0, 0, 0, b"")]

    def test_an_old_ack_does_not_tell_of_the_room(self) -> None:
        peer = Impostor(OPENS)
        peer.open()
        stream = peer.link.open()
        old = peer.ack(0, room=0)
        peer.link.send(stream, b"a")
        peer.hear()
        peer.say(peer.ack(1), old)
        peer.link.send(stream, b"b")
        assert peer.hear() == [f.data(f.LAST, 1, 0, 0, b"b")]
