"""The contents of the frames, byte by byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.link import frames
from gateway.link.frames import Hello, near

HELLO = Hello(
    version=1,
    initiator=True,
    nonce=0x01020304,
    seen=0xA0B0C0D0,
    frame=512,
    window=16,
    streams=64,
    message=0x1000000,
    deflate=15,
)
BYTES = bytes.fromhex("10 01 01 01020304 a0b0c0d0 0200 10 40 01000000 0f")


def test_a_hello_is_the_twenty_bytes_of_its_drawing() -> None:
    assert HELLO.encode() == BYTES
    assert len(BYTES) == frames.HELLO_SIZE == 20
    assert Hello.decode(BYTES) == HELLO


@settings(deadline=None)
@given(
    st.builds(
        Hello,
        version=st.integers(1, 255),
        initiator=st.booleans(),
        nonce=st.integers(1, 2**32 - 1),
        seen=st.integers(0, 2**32 - 1),
        frame=st.integers(16, 2**16 - 1),
        window=st.integers(1, 127),
        streams=st.integers(1, 255),
        message=st.integers(1, 2**32 - 1),
        deflate=st.sampled_from([0, 9, 10, 11, 12, 13, 14, 15]),
    )
)
def test_a_hello_is_read_as_it_was_written(hello: Hello) -> None:
    assert Hello.decode(hello.encode()) == hello


@settings(deadline=None)
@given(more=st.binary(max_size=30))
def test_bytes_behind_the_ones_known_are_left_to_later_versions(more: bytes) -> None:
    assert Hello.decode(BYTES + more) == HELLO


@pytest.mark.parametrize("length", range(20))
def test_a_hello_cut_short_is_none(length: int) -> None:
    assert Hello.decode(BYTES[:length]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 0},
        {"initiator": 2},
        {"nonce": 0},
        {"frame": 0},
        {"frame": 15},
        {"window": 0},
        {"window": 128},
        {"window": 255},
        {"streams": 0},
        {"message": 0},
        {"deflate": 1},
        {"deflate": 8},
        {"deflate": 16},
        {"deflate": 255},
    ],
    ids=str,
)
def test_a_hello_that_no_end_may_say_is_none(wrong: dict[str, int]) -> None:
    assert Hello.decode(replace(HELLO, **wrong).encode()) is None  # type: ignore[arg-type]


def test_data_on_stream_0_has_three_bytes_before_its_payload_and_one_more_on_any_other() -> None:
    assert frames.data(frames.LAST, 7, 9, 0, b"hi") == bytes.fromhex("21 07 09") + b"hi"
    assert frames.data(frames.LAST | frames.END, 7, 9, 5, b"hi") == bytes.fromhex("27 07 09 05") + b"hi"
    assert frames.data_header(0) == 3
    assert frames.data_header(5) == 4


@settings(deadline=None)
@given(flags=st.integers(0, 3), stream=st.integers(0, 255), payload=st.binary(max_size=20))
def test_a_fragment_is_read_as_it_was_written(flags: int, stream: int, payload: bytes) -> None:
    read_flags, read_stream, read_payload = frames.fragment_of(frames.data(flags, 1, 2, stream, payload))
    assert (read_flags & 3, read_stream, read_payload) == (flags, stream, payload)


def test_a_fragment_that_promises_a_stream_and_ends_before_it_is_of_stream_0() -> None:
    assert frames.fragment_of(bytes.fromhex("25 07 09"))[1:] == (0, b"")


def test_only_the_low_eight_bits_of_a_number_travel() -> None:
    assert frames.data(0, 0x1FF, 0x2FE, 0, b"") == bytes.fromhex("20 ff fe")
    assert frames.ack(0, 0x301, 4, b"") == bytes.fromhex("30 01 04")


def test_an_ack_has_its_number_the_room_and_the_bitmap() -> None:
    assert frames.ack(frames.POLL, 200, 16, b"\x05\x80") == bytes.fromhex("31 c8 10 05 80")


def test_a_close_is_one_byte() -> None:
    assert frames.close() == b"\x40"


@settings(deadline=None)
@given(reference=st.integers(0, 2**34), distance=st.integers(-128, 127))
def test_a_number_is_found_by_its_low_bits_within_half_a_turn(reference: int, distance: int) -> None:
    number = reference + distance
    assert near(number & 0xFF, reference) == number


@settings(deadline=None)
@given(reference=st.integers(0, 2**34), distance=st.integers(-128, 127), turns=st.integers(1, 5))
def test_a_number_from_another_turn_is_found_with_other_upper_bits(reference: int, distance: int, turns: int) -> None:
    number = reference + distance
    assert near((number - 256 * turns) & 0xFF, reference) >> 8 != (number - 256 * turns) >> 8
