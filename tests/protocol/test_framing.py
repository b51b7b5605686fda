"""Frames: one whole frame out of a message, and messages out of a stream however it is cut."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from dataclasses import replace
from itertools import pairwise
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import LimitExceeded, ProtocolError
from gateway.limits import Limits
from gateway.protocol.framing import HEARTBEAT, FrameDecoder, Message, frame, recycle

LIMITS = Limits()
SMALL = replace(LIMITS, frame=1000, inflated=5000)

# WIRE samples: whole frames of stock RPyC.
GETROOT = bytes.fromhex("00000008 00 01 11 50 11 53 11 51 02 0a")
CLOSE = bytes.fromhex("00000008 00 01 11 52 11 52 11 51 02 0a")

THREE = [b"one", bytes(range(256)), b"\n"]
RAW = frame(THREE[0], LIMITS) + HEARTBEAT + frame(THREE[1], LIMITS, compress=True) + frame(THREE[2], LIMITS)


def messages(decoder: FrameDecoder, *chunks: bytes) -> list[Message]:
    """Feed the chunks, and take all messages after each."""
    found = []
    for chunk in chunks:
        decoder.receive(chunk)
        while (message := decoder.next_message()) is not None:
            found.append(message)
    return found


def bare_frame(data: bytes, flag: int = 0, end: bytes = b"\n") -> bytes:
    return len(data).to_bytes(4, "big") + bytes([flag]) + data + end


# ------------------------------------------------------------------------------------------------------------ encoding


def test_a_frame_is_length_flag_data_and_a_line_feed() -> None:
    assert frame(b"\x01\x11\x50\x11\x53\x11\x51\x02", LIMITS) == GETROOT


def test_an_empty_message_is_the_heartbeat() -> None:
    assert frame(b"", LIMITS) == HEARTBEAT == frame(b"", LIMITS, compress=True)


def test_data_is_deflated_only_when_asked_for_and_only_where_it_gets_smaller() -> None:
    assert frame(bytes(500), LIMITS)[4] == 0
    assert frame(b"short", LIMITS, compress=True)[4] == 0
    deflated = frame(bytes(500), LIMITS, compress=True)
    assert deflated[4] == 1
    assert len(deflated) < 50
    assert zlib.decompress(deflated[5:-1]) == bytes(500)


def test_a_message_over_the_frame_limit_is_refused_before_it_is_sent() -> None:
    assert len(frame(bytes(1000), SMALL)) == 1006
    with pytest.raises(LimitExceeded) as caught:
        frame(bytes(1001), SMALL)
    assert caught.value.facts == {"what": "frame", "actual": 1001, "allowed": 1000}


def test_a_message_over_the_inflated_limit_is_refused_though_it_deflates_well() -> None:
    assert len(frame(bytes(5000), SMALL, compress=True)) < 100
    with pytest.raises(LimitExceeded, match="inflated"):
        frame(bytes(5001), SMALL, compress=True)


# ------------------------------------------------------------------------------------------------------------- cutting


@pytest.mark.parametrize("cut", range(len(RAW) + 1))
def test_a_stream_survives_being_cut_anywhere(cut: int) -> None:
    assert messages(FrameDecoder(LIMITS), RAW[:cut], RAW[cut:]) == THREE


def test_a_short_stream_survives_every_pair_of_cuts() -> None:
    raw = frame(b"ab", LIMITS) + HEARTBEAT + frame(b"c", LIMITS)
    for one in range(len(raw) + 1):
        for two in range(one, len(raw) + 1):
            assert messages(FrameDecoder(LIMITS), raw[:one], raw[one:two], raw[two:]) == [b"ab", b"c"]


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=12),
    st.lists(st.integers(min_value=0, max_value=4000), max_size=30),
)
def test_any_messages_survive_any_cuts(sent: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    raw = b"".join(frame(data, LIMITS, compress=compress) for data, compress in sent)
    edges = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    decoder = FrameDecoder(LIMITS)
    assert messages(decoder, *(raw[start:end] for start, end in pairwise(edges))) == [data for data, _ in sent if data]
    assert not decoder.begun


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_protocol_error(noise: bytes) -> None:
    whole, bytewise = FrameDecoder(SMALL), FrameDecoder(SMALL)
    outcomes = []
    for decoder, chunks in ((whole, [noise]), (bytewise, [noise[i : i + 1] for i in range(len(noise))])):
        found: list[object] = []
        try:
            for chunk in chunks:
                found += messages(decoder, chunk)
        except ProtocolError as error:
            found = [str(error)]
        outcomes.append(found[-1:])
    assert outcomes[0] == outcomes[1]


def test_messages_are_given_one_by_one() -> None:
    decoder = FrameDecoder(LIMITS)
    decoder.receive(GETROOT + CLOSE)
    assert decoder.next_message() == GETROOT[5:-1]
    assert decoder.ready
    assert decoder.begun
    assert decoder.next_message() == CLOSE[5:-1]
    assert decoder.next_message() is None
    assert not decoder.ready
    assert not decoder.begun


def test_missing_says_how_much_must_come_at_least() -> None:
    decoder = FrameDecoder(LIMITS)
    assert decoder.missing == 5
    messages(decoder, GETROOT[:3])
    assert decoder.missing == 2
    messages(decoder, GETROOT[3:5])
    assert decoder.missing == 9
    messages(decoder, GETROOT[5:13])
    assert decoder.missing == 1
    assert messages(decoder, GETROOT[13:]) == [GETROOT[5:-1]]
    assert decoder.missing == 5


def test_a_heartbeat_is_skipped_wherever_it_stands() -> None:
    assert messages(FrameDecoder(LIMITS), HEARTBEAT * 3 + GETROOT + HEARTBEAT + CLOSE + HEARTBEAT) == [
        GETROOT[5:-1],
        CLOSE[5:-1],
    ]


# ------------------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize("flag", [2, 3, 0x80, 0xFF])
def test_a_flag_other_than_0_and_1_is_refused_before_the_data_came(flag: int) -> None:
    with pytest.raises(ProtocolError, match=f"flag {flag}"):
        messages(FrameDecoder(LIMITS), bare_frame(b"data", flag)[:5])


@pytest.mark.parametrize("end", [b"\0", b"\r", b"\x0b"])
def test_a_frame_that_ends_in_anything_but_a_line_feed_is_refused(end: bytes) -> None:
    with pytest.raises(ProtocolError, match="not 0x0a"):
        messages(FrameDecoder(LIMITS), bare_frame(b"data", 0, end))


@pytest.mark.parametrize("length", [1001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_oversize_length_is_refused_by_the_header_alone(length: int) -> None:
    decoder = FrameDecoder(SMALL)
    decoder.receive(length.to_bytes(4, "big") + b"\0")
    with pytest.raises(LimitExceeded, match=f"frame: {length} is over the limit of 1000"):
        decoder.next_message()


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    assert messages(FrameDecoder(SMALL), bare_frame(bytes(1000))) == [bytes(1000)]
    assert messages(FrameDecoder(SMALL), bare_frame(zlib.compress(bytes(5000)), 1)) == [bytes(5000)]


def test_a_bomb_is_refused_without_being_inflated_whole() -> None:
    bomb = bare_frame(zlib.compress(bytes(50_000_000), 9), 1)
    limits = replace(LIMITS, inflated=100_000)
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match="inflated"):
            messages(FrameDecoder(limits), bomb)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"no deflate", "no zlib stream"),
        (zlib.compress(b"cut off")[:-1], "not exactly one"),
        (zlib.compress(b"one") + zlib.compress(b"two"), "not exactly one"),
        (zlib.compress(b"one") + b"x", "not exactly one"),
    ],
)
def test_a_deflated_frame_is_exactly_one_zlib_stream(data: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        messages(FrameDecoder(LIMITS), bare_frame(data, 1))


# ---------------------------------------------------------------------------------------------------------------- cost


def test_a_large_frame_in_single_bytes_costs_no_more_memory_than_its_size() -> None:
    raw = frame(bytes(300_000), LIMITS)
    singles = [bytes([value]) for value in range(256)]
    decoder = FrameDecoder(LIMITS)
    tracemalloc.start()
    try:
        for byte in raw[:-1]:
            decoder.receive(singles[byte])
            assert decoder.next_message() is None
        assert tracemalloc.get_traced_memory()[1] < 3 * len(raw)
    finally:
        tracemalloc.stop()
    decoder.receive(raw[-1:])
    assert decoder.next_message() == bytes(300_000)


def best_time(chunk: bytes, count: int) -> float:
    """Seconds for decoding `count` messages that come in one chunk; the best of a few."""
    best = 1e9
    for _ in range(5):
        decoder = FrameDecoder(LIMITS)
        before = perf_counter()
        assert len(messages(decoder, chunk)) == count
        best = min(best, perf_counter() - before)
    return best


def test_the_time_for_many_small_frames_in_one_chunk_grows_with_their_number_only() -> None:
    one = frame(bytes(80), LIMITS)
    thousand, twenty_thousand = best_time(one * 1000, 1000), best_time(one * 20_000, 20_000)
    assert thousand < 0.1
    assert twenty_thousand < 20 * thousand * 5


# ------------------------------------------------------------------------------------------------- large ones, in place


@given(st.integers(1, 300_000), st.integers(0, 300_005), st.lists(st.integers(1, 90_000), max_size=20), st.booleans())
def test_what_is_read_into_its_place_is_as_good_as_what_is_received(
    size: int, first: int, reads: list[int], compress: bool
) -> None:
    data = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    stream = frame(data, LIMITS, compress=compress) + GETROOT
    decoder = FrameDecoder(LIMITS)
    decoder.receive(stream[:first])
    found, place = messages(decoder, b""), first
    for count in [*reads, len(stream)]:
        while place < len(stream) and (room := decoder.room) is not None:
            with room:
                piece = stream[place : place + min(count, len(room))]
                room[: len(piece)] = piece
            decoder.filled(len(piece))
            place += len(piece)
            found += messages(decoder, b"")
        found += messages(decoder, stream[place : place + count])
        place += count
    assert found == [data, GETROOT[5:-1]]
    assert not decoder.begun


def test_a_header_alone_takes_no_memory_and_an_eighth_takes_what_the_frame_needs() -> None:
    told: list[int] = []
    decoder = FrameDecoder(LIMITS)
    decoder.meter = told.append
    raw = frame(bytes(8_000_000), LIMITS)
    chunks = [raw[:5], raw[5:500_000], raw[500_000:1_100_000], raw[1_100_000:]]
    tracemalloc.start()
    try:
        assert messages(decoder, *chunks[:2]) == []
        assert tracemalloc.get_traced_memory()[0] < 1_100_000
        assert decoder.room is None
        assert messages(decoder, chunks[2]) == []
        assert told[-1] == 8_000_001
        assert [len(message) for message in messages(decoder, chunks[3])] == [8_000_000]
        assert tracemalloc.get_traced_memory()[1] < 9_500_000, "the frame, and what came before it had its memory"
    finally:
        tracemalloc.stop()
    decoder.settle()
    assert told[-1] == 0


def test_the_memory_of_a_large_message_serves_again_once_nobody_needs_it() -> None:
    decoder = FrameDecoder(LIMITS)
    first = frame(b"\x01" * 500_000, LIMITS)
    second = frame(b"\x02" * 400_000, LIMITS)
    (message,) = messages(decoder, first[:300_000], first[300_000:])
    assert type(message) is bytearray
    recycle(message)
    (again,) = messages(decoder, second[:300_000], second[300_000:])
    assert again is message
    assert again == b"\x02" * 400_000
    (other,) = messages(decoder, first[:300_000], first[300_000:])
    assert other is not again
    assert again == b"\x02" * 400_000
    assert other == b"\x01" * 500_000


def test_a_damaged_end_of_a_large_frame_is_seen() -> None:
    raw = bare_frame(bytes(200_000), end=b"x")
    with pytest.raises(ProtocolError, match="0x78"):
        messages(FrameDecoder(LIMITS), raw[:100_000], raw[100_000:])


@pytest.mark.parametrize("cut", [3, 20_000, 150_000])
def test_the_rest_is_what_came_after_the_last_message(cut: int) -> None:
    decoder = FrameDecoder(LIMITS)
    raw = frame(random.Random(1).randbytes(200_000), LIMITS)
    assert messages(decoder, GETROOT + raw[: cut // 2], raw[cut // 2 : cut]) == [GETROOT[5:-1]]
    assert decoder.rest() == raw[:cut]


def test_heartbeats_in_great_number_are_skipped_in_any_cut() -> None:
    decoder = FrameDecoder(LIMITS)
    stream = HEARTBEAT * 5000 + GETROOT + HEARTBEAT * 5000
    assert messages(decoder, *[stream[place : place + 4099] for place in range(0, len(stream), 4099)]) == [
        GETROOT[5:-1]
    ]
    assert not decoder.begun
