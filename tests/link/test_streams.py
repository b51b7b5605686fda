"""Messages cut into fragments and put together again, and whose turn it is."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import LimitExceeded, ProtocolError
from gateway.link.frames import DATA_HEADER, END, LAST
from gateway.link.streams import FEED, Incoming, Outgoing, Streams

LIMIT = 100_000
CALL = b'\x11\x50\x15psu1 set_voltage(3.3) {"unit": "V"}'


def fragments(outgoing: Outgoing, size: int) -> list[tuple[int, bytes]]:
    made = []
    while outgoing.has_more:
        made.append(outgoing.fragment(size))
    return made


def carry(messages: list[bytes], deflate: int, size: int) -> list[bytes]:
    """The messages as they come out at the other end of a stream."""
    outgoing, incoming = Outgoing(deflate), Incoming(deflate, LIMIT)
    for message in messages:
        outgoing.put(message)
    assert outgoing.backlog == sum(map(len, messages))
    got = []
    for flags, payload in fragments(outgoing, size):
        assert len(payload) <= size
        assert flags in (0, LAST)
        whole = incoming.receive(flags, payload)
        assert (whole is None) == (flags == 0)
        if whole is not None:
            got.append(whole)
    assert outgoing.backlog == 0
    return got


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


SIZES = [0, 1, 11, 12, 13, 24, 60, 100, FEED - 1, FEED, FEED + 1, 3 * FEED]


@pytest.mark.parametrize("deflate", [0, 9, 15])
@pytest.mark.parametrize("size", [1, 12, 508, FEED])
def test_messages_come_out_as_they_went_in(deflate: int, size: int) -> None:
    messages = [make(length) for length in SIZES for make in (noise, bytes)]
    assert carry(messages, deflate, size) == messages


@settings(deadline=None)
@given(
    messages=st.lists(st.binary(max_size=60) | st.integers(0, 9000).map(lambda size: b"ab" * size), max_size=6),
    deflate=st.sampled_from([0, 9, 12, 15]),
    size=st.integers(1, 600),
)
def test_any_messages_come_out_as_they_went_in(messages: list[bytes], deflate: int, size: int) -> None:
    assert carry(messages, deflate, size) == messages


@pytest.mark.parametrize("deflate", [0, 9, 15])
def test_empty_messages_are_messages_wherever_they_come(deflate: int) -> None:
    messages = [b"", b"", CALL, b"", b"", CALL, b"x" * 9000, b"", CALL]
    assert carry(messages, deflate, 60) == messages


def test_without_deflate_only_the_last_fragment_may_be_less_than_full() -> None:
    outgoing = Outgoing(0)
    outgoing.put(b"abcdefgh")
    outgoing.put(b"ijk")
    assert fragments(outgoing, 4) == [(0, b"abcd"), (LAST, b"efgh"), (LAST, b"ijk")]


@pytest.mark.parametrize("length", range(900, 1100))
def test_a_deflated_message_ends_with_its_last_bytes_and_not_with_an_empty_fragment(length: int) -> None:
    outgoing = Outgoing(15)
    outgoing.put(noise(length))
    made = fragments(outgoing, 64)
    assert all(payload for _, payload in made)
    assert [len(payload) for _, payload in made[:-1]] == [64] * (len(made) - 1)


def test_a_message_is_deflated_as_by_rfc_7692() -> None:
    # Section 7.2.3.1 of the RFC: "Hello" with a compressor of its own, and once more with the context kept (7.2.3.2).
    outgoing = Outgoing(15)
    outgoing.put(b"Hello")
    outgoing.put(b"Hello")
    assert fragments(outgoing, 60) == [
        (LAST, bytes.fromhex("f2 48 cd c9 c9 07 00")),
        (LAST, bytes.fromhex("f2 00 11 00 00")),
    ]


def test_a_message_may_come_in_stored_blocks_from_a_peer_that_cant_deflate() -> None:
    # RFC 7692 section 7.2.3.3: no compression, and the four bytes of the flush left out.
    incoming = Incoming(15, LIMIT)
    for _ in range(2):
        assert incoming.receive(LAST, bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00")) == b"Hello"


def test_a_call_like_an_earlier_one_takes_a_few_bytes() -> None:
    outgoing = Outgoing(15)
    for _ in range(2):
        outgoing.put(CALL)
    (_, first), (_, second) = fragments(outgoing, 500)
    assert len(second) < 10 < len(first)


def test_a_long_message_is_not_deflated_at_once() -> None:
    outgoing = Outgoing(15)
    outgoing.put(noise(50 * FEED))
    outgoing.fragment(60)
    assert outgoing.backlog >= 40 * FEED


def test_the_end_goes_with_the_last_fragment_of_the_last_message() -> None:
    outgoing = Outgoing(0)
    outgoing.put(b"abcdef")
    outgoing.put(b"g")
    outgoing.ended = True
    assert fragments(outgoing, 4) == [(0, b"abcd"), (LAST, b"ef"), (LAST | END, b"g")]


def test_a_stream_with_nothing_left_ends_with_an_empty_fragment() -> None:
    outgoing = Outgoing(15)
    outgoing.ended = True
    assert not outgoing.has_more
    assert outgoing.fragment(60) == (END, b"")


def test_a_stream_that_is_cleared_throws_away_what_is_queued_and_the_rest_of_what_is_begun() -> None:
    outgoing = Outgoing(0)
    outgoing.put(b"abcdef")
    outgoing.put(b"more")
    outgoing.fragment(4)
    outgoing.clear()
    assert not outgoing.has_more
    assert outgoing.backlog == 0
    assert outgoing.fragment(4) == (END, b"")


class TestBounds:
    @pytest.mark.parametrize("deflate", [0, 15])
    def test_a_message_of_the_limit_comes_and_a_longer_one_does_not(self, deflate: int) -> None:
        for size in (1000, 1001):
            outgoing, incoming = Outgoing(deflate), Incoming(deflate, 1000)
            outgoing.put(noise(size))
            made = fragments(outgoing, 300)
            if size == 1000:
                assert [incoming.receive(*each) for each in made][-1] == noise(1000)
            else:
                with pytest.raises(LimitExceeded):
                    for each in made:
                        incoming.receive(*each)

    def test_a_bomb_is_inflated_no_further_than_the_limit(self) -> None:
        bomb = zlib.compressobj(9, wbits=-15)
        deflated = bomb.compress(bytes(50_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
        incoming = Incoming(15, 10_000)
        with pytest.raises(LimitExceeded) as raised:
            for place in range(0, len(deflated), 500):
                incoming.receive(0, deflated[place : place + 500])
        assert raised.value.actual is not None
        assert raised.value.actual <= 10_001 + 500 * 1032

    def test_a_bomb_in_one_fragment_is_inflated_no_further_than_the_limit(self) -> None:
        bomb = zlib.compressobj(9, wbits=-15)
        deflated = bomb.compress(bytes(4_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
        with pytest.raises(LimitExceeded) as raised:
            Incoming(15, 10_000).receive(LAST, deflated[:-4])
        assert raised.value.actual == 10_001

    def test_what_is_not_deflated_is_an_error_of_the_peer(self) -> None:
        with pytest.raises(ProtocolError, match="not deflated as agreed"):
            Incoming(15, LIMIT).receive(LAST, b"\xff\xff\xff")

    def test_a_final_block_ends_the_context_and_is_an_error_of_the_peer(self) -> None:
        with pytest.raises(ProtocolError, match="ends its stream's context"):
            Incoming(15, LIMIT).receive(LAST, zlib.compress(b"Hello", wbits=-15))

    @settings(deadline=None)
    @given(payloads=st.lists(st.tuples(st.sampled_from([0, LAST]), st.binary(max_size=80)), max_size=10))
    def test_any_fragment_is_a_message_or_part_of_one_or_an_error_of_the_peer(
        self, payloads: list[tuple[int, bytes]]
    ) -> None:
        incoming = Incoming(15, 500)
        for flags, payload in payloads:
            try:
                message = incoming.receive(flags, payload)
            except (LimitExceeded, ProtocolError):
                return
            assert message is None or len(message) <= 500


class TestTurns:
    def streams(self, most: int = 4) -> Streams:
        streams = Streams(most=most, deflate=0, limit=LIMIT, begun=1 << 26)
        for number in range(most):
            streams.add(number)
        return streams

    def send(self, streams: Streams, number: int, message: bytes) -> None:
        streams.open[number].outgoing.put(message)
        streams.wake(number)

    def end(self, streams: Streams, number: int) -> None:
        streams.open[number].outgoing.ended = True
        streams.wake(number)

    def test_streams_take_turns_fragment_by_fragment(self) -> None:
        streams = self.streams()
        self.send(streams, 0, b"aaabbb")
        self.send(streams, 2, b"x")
        self.send(streams, 1, b"cccd")
        made = []
        while streams.want_to_send:
            made.append(streams.fragment(3 + DATA_HEADER + 1))
        assert made == [
            (0, 0, b"aaab"),
            (LAST, 2, b"x"),
            (0, 1, b"ccc"),
            (LAST, 0, b"bb"),
            (LAST, 1, b"d"),
        ]

    def test_a_stream_that_is_woken_twice_has_one_turn(self) -> None:
        streams = self.streams()
        self.send(streams, 0, b"a")
        self.send(streams, 0, b"b")
        self.send(streams, 1, b"c")
        assert [streams.fragment(10)[2] for _ in range(3)] == [b"a", b"c", b"b"]
        assert not streams.want_to_send

    def test_the_lowest_free_number_is_taken_first(self) -> None:
        streams = Streams(most=3, deflate=0, limit=LIMIT, begun=1 << 26)
        assert streams.free_number() == 0
        streams.add(0)
        streams.add(1)
        assert streams.free_number() == 2
        del streams.open[0]
        assert streams.free_number() == 0
        streams.add(0)
        streams.add(2)
        assert streams.free_number() is None

    @pytest.mark.parametrize("we_end_first", [True, False])
    def test_a_number_is_free_when_both_ends_have_ended_its_stream(self, we_end_first: bool) -> None:
        streams = self.streams()
        stream = streams.open[1]
        if not we_end_first:
            stream.incoming.ended = True
            streams.forget_if_over(1)
        self.end(streams, 1)
        assert stream.wants_to_send
        assert streams.fragment(10) == (END, 1, b"")
        assert not stream.wants_to_send
        assert (1 in streams.open) == we_end_first
        if we_end_first:
            stream.incoming.ended = True
            streams.forget_if_over(1)
        assert streams.free_number() == 1
