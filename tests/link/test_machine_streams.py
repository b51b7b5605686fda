"""The machine: streams, and the messages on them."""

from __future__ import annotations

import pytest

from gateway.errors import LimitExceeded, LinkDown
from gateway.link import Ended, Link, LinkConfig, LinkState, Received
from gateway.link import frames as f
from tests.link.impostor import OPENS, Impostor, noise
from tests.link.wire import A, B, Line


class TestStreams:
    def test_messages_of_any_length_go_both_ways_whole_and_in_order(self) -> None:
        line = Line()
        stream = line.open()
        sent = [noise(size, size) for size in (0, 1, 505, 509, 1016, 20_000, 0, 3)]
        for message in sent:
            line.links[A].send(stream, message)
        line.run_until(lambda: len(line.messages(B)) == len(sent))
        for message in sent:
            line.links[B].send(stream, message)
        line.run_until(lambda: len(line.messages(A)) == len(sent))
        assert line.messages(A) == line.messages(B) == [(stream, message) for message in sent]

    def test_without_a_session_nothing_can_be_opened_or_sent(self) -> None:
        link = Link(OPENS, nonces=lambda: 1, now=0.0)
        assert link.peer is None
        assert link.idle
        assert link.backlog(0) == 0
        for attempt in (link.open, lambda: link.send(0, b"")):
            with pytest.raises(LinkDown, match="no session"):
                attempt()
        link.end(0)
        link.abandon(0)
        link.close()
        with pytest.raises(LinkDown, match="link is closed"):
            link.open()

    def test_the_end_that_serves_opens_nothing(self) -> None:
        line = Line()
        line.open()
        with pytest.raises(LinkDown, match="opens no streams"):
            line.links[B].open()

    def test_as_many_streams_are_open_as_both_ends_can_have(self) -> None:
        line = Line(LinkConfig(initiator=True, streams=5), LinkConfig(initiator=False, streams=3))
        assert [line.open(), line.links[A].open(), line.links[A].open()] == [0, 1, 2]
        with pytest.raises(LimitExceeded):
            line.links[A].open()

    def test_a_stream_that_is_not_open_takes_nothing(self) -> None:
        line = Line()
        stream = line.open()
        with pytest.raises(LinkDown, match="stream 9"):
            line.links[A].send(9, b"")
        line.links[A].end(stream)
        with pytest.raises(LinkDown, match="stream 0"):
            line.links[A].send(stream, b"")

    def test_what_is_queued_when_a_stream_ends_still_goes(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].send(stream, noise(20_000))
        line.links[A].end(stream)
        line.run(1)
        assert line.events[B] == [Received(stream, noise(20_000)), Ended(stream)]

    def test_a_stream_that_ended_one_way_goes_on_the_other_way(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].end(stream)
        line.run(0.1)
        assert line.take(B) == [Ended(stream)]
        line.links[B].send(stream, b"still here")
        line.links[B].end(stream)
        line.run(0.1)
        assert line.take(A) == [Received(stream, b"still here"), Ended(stream)]

    def test_a_number_is_used_again_when_both_ends_have_ended_it_with_a_context_of_its_own(self) -> None:
        line = Line()
        stream = line.open()
        for _ in range(3):
            line.links[A].send(stream, b"some text " * 20)
            line.links[A].end(stream)
            line.run(0.1)
            assert line.take(B) == [Received(stream, b"some text " * 20), Ended(stream)]
            assert line.links[A].open() == stream + 1
            line.links[A].abandon(stream + 1)
            line.links[B].send(stream, b"some text " * 20)
            line.links[B].end(stream)
            line.links[B].end(stream + 1)
            line.run(0.1)
            assert line.take(A) == [Received(stream, b"some text " * 20), Ended(stream)]
            line.take(B)
            line.links[B].end(stream + 1)
            line.run(0.1)
            assert line.links[A].open() == stream

    def test_an_end_said_twice_is_said_once(self) -> None:
        line = Line()
        stream = line.open()
        line.links[A].end(stream)
        line.run(0.1)
        line.links[A].end(stream)
        line.links[A].abandon(stream)
        line.run(0.1)
        assert line.events[B] == [Ended(stream)]
        assert line.links[A].idle

    def test_an_abandoned_stream_sends_no_more_than_its_end_and_tells_nothing_that_comes(self) -> None:
        line = Line(LinkConfig(initiator=True, line_rate=11520.0))
        stream = line.open()
        line.links[A].send(stream, b"first")
        line.run(0.1)
        line.links[A].send(stream, noise(50_000))
        line.run(0.5)
        line.links[A].abandon(stream)
        assert line.links[A].backlog(stream) == 0
        line.links[B].send(stream, b"nobody listens")
        line.run(1)
        line.links[B].end(stream)
        line.run(1)
        assert line.events[B] == [Received(stream, b"first"), Ended(stream)]
        assert line.events[A] == []
        assert line.links[A].open() == stream

    def test_what_comes_after_an_end_is_thrown_away(self) -> None:
        peer = Impostor()
        peer.open()
        first, second = (peer.data(b"x", seq=seq, flags=f.LAST | f.END) for seq in (0, 1))
        assert peer.say(first, second, peer.data(b"y", seq=2)) == [Received(0, b"x"), Ended(0)]

    def test_what_comes_on_a_stream_that_we_did_not_open_is_thrown_away(self) -> None:
        peer = Impostor(OPENS)
        peer.open()
        assert peer.say(peer.data(b"x", stream=63), peer.data(b"y", seq=1, stream=200)) == []
        assert peer.link.state is LinkState.OPEN

    def test_fragments_without_bytes_are_no_messages(self) -> None:
        peer = Impostor()
        peer.open()
        empty = [peer.data(b"", seq=seq, flags=0) for seq in range(5)]
        assert peer.say(*empty, peer.data(b"", seq=5)) == [Received(0, b"")]

    def test_a_bulk_message_does_not_hold_up_a_small_one_for_long(self) -> None:
        rate = 11520.0
        line = Line(LinkConfig(initiator=True, line_rate=rate))
        bulk = line.open()
        small = line.links[A].open()
        line.links[A].send(bulk, noise(100_000))
        line.run(1.0)
        line.links[A].send(small, b"stop!")
        waited = line.run_until(lambda: bool(line.messages(B)))
        assert line.messages(B) == [(small, b"stop!")]
        assert waited < 3 * 512 / rate

    def test_the_backlog_is_what_no_frame_was_made_of(self) -> None:
        line = Line(LinkConfig(initiator=True, deflate=0), LinkConfig(initiator=False, window=2))
        stream = line.open()
        line.links[A].send(stream, bytes(5000))
        assert line.links[A].backlog(stream) == 5000
        assert not line.links[A].idle
        line.pump(A)
        assert line.links[A].backlog(stream) == 5000 - 2 * 509
        line.run(1)
        assert line.links[A].backlog(stream) == 0
        assert line.links[A].idle
