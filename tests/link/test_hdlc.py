"""Frames on the line: flags, escapes and the CRC."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.link.hdlc import CRC_SIZE, FrameReader, encode, is_intact

SPECIAL = b"\x7e\x7d\x11\x13\x5e\x5d\x31\x33\x20\x00\xff"
CONTENT = b"\x20\x01\x02\x00reading 3.3 V \x7e\x7d\x11\x13"
KEY = 0x1234ABCD

contents = st.lists(st.sampled_from(SPECIAL) | st.integers(0, 255), min_size=1, max_size=60).map(bytes)
keys = st.integers(0, 2**32 - 1)


def decode(line: bytes, key: int, limit: int = 10_000) -> list[bytes]:
    """The contents of the intact frames."""
    return [frame[:-CRC_SIZE] for frame in FrameReader(limit).receive(line) if is_intact(frame, key)]


@settings(deadline=None)
@given(content=contents, key=keys)
def test_a_frame_is_read_as_it_was_written(content: bytes, key: int) -> None:
    assert decode(encode(content, key), key) == [content]


@settings(deadline=None)
@given(content=contents, key=keys)
def test_no_byte_that_means_something_to_the_line_is_inside_a_frame(content: bytes, key: int) -> None:
    line = encode(content, key)
    assert line.endswith(b"\x7e")
    assert not set(line[:-1]) & {0x7E, 0x11, 0x13}


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [(b"\x7e", b"\x7d\x5e"), (b"\x7d", b"\x7d\x5d"), (b"\x11", b"\x7d\x31"), (b"\x13", b"\x7d\x33")],
)
def test_an_escaped_byte_is_the_escape_and_the_byte_xor_20(plain: bytes, escaped: bytes) -> None:
    assert encode(b"\x40" + plain, 0).startswith(b"\x40" + escaped)
    assert escaped[1] == plain[0] ^ 0x20


def test_without_a_key_the_crc_is_that_of_zlib_least_significant_byte_first() -> None:
    assert encode(b"\x40", 0) == b"\x40" + zlib.crc32(b"\x40").to_bytes(4, "little") + b"\x7e"


@settings(deadline=None)
@given(content=contents, key=keys, other=keys)
def test_a_frame_of_another_key_is_not_intact(content: bytes, key: int, other: int) -> None:
    assert decode(encode(content, key), other) == ([content] if key == other else [])


@pytest.mark.parametrize("cut", range(len(encode(CONTENT, KEY)) + 1))
def test_a_frame_survives_being_cut_anywhere(cut: int) -> None:
    line = encode(CONTENT, KEY)
    reader = FrameReader(100)
    frames = reader.receive(line[:cut]) + reader.receive(line[cut:])
    assert [frame[:-CRC_SIZE] for frame in frames if is_intact(frame, KEY)] == [CONTENT]


def test_a_frame_survives_coming_byte_by_byte() -> None:
    reader = FrameReader(100)
    frames = [frame for byte in encode(CONTENT, KEY) for frame in reader.receive(bytes((byte,)))]
    assert [frame[:-CRC_SIZE] for frame in frames] == [CONTENT]


@pytest.mark.parametrize("place", range(len(encode(CONTENT, KEY))))
def test_a_bit_that_flips_anywhere_costs_no_other_frame_than_the_one_it_hits(place: int) -> None:
    before, hit, after = encode(b"before", KEY), encode(CONTENT, KEY), encode(b"after", KEY)
    for bit in range(8):
        damaged = bytearray(hit)
        damaged[place] ^= 1 << bit
        read = decode(before + bytes(damaged) + after, KEY)
        # A flag that was hit joins two frames into one that is wrong.
        assert read in ([b"before", b"after"], [b"before"])
        assert read == [b"before", b"after"] or place == len(hit) - 1


@pytest.mark.parametrize("place", range(len(encode(CONTENT, KEY)) - 1))
def test_a_byte_that_is_lost_anywhere_costs_one_frame_at_most(place: int) -> None:
    hit = encode(CONTENT, KEY)
    read = decode(encode(b"a", KEY) + hit[:place] + hit[place + 1 :] + encode(b"b", KEY), KEY)
    # Where the escape's own second byte is lost, the wrong escape that is left happens to be read right.
    assert read in ([b"a", b"b"], [b"a", CONTENT, b"b"])


@pytest.mark.parametrize("length", range(len(encode(CONTENT, KEY)) - 1))
def test_a_frame_whose_end_is_lost_costs_itself_and_the_one_that_runs_into_it(length: int) -> None:
    line = encode(CONTENT, KEY)[:length] + encode(b"run into", KEY) + encode(b"whole", KEY)
    assert decode(line, KEY) == ([b"run into", b"whole"] if length == 0 else [b"whole"])


@settings(deadline=None)
@given(noise=st.binary(max_size=80), cut=st.integers(0, 80))
def test_after_any_noise_a_flag_makes_the_next_frame_readable(noise: bytes, cut: int) -> None:
    reader = FrameReader(200)
    reader.receive(noise[:cut])
    reader.receive(noise[cut:])
    reader.receive(b"\x7e")
    assert [frame[:-CRC_SIZE] for frame in reader.receive(encode(CONTENT, KEY))] == [CONTENT]


@pytest.mark.parametrize("wrong", [b"\x7d\x00", b"\x7d\x7d", b"\x7d"])
def test_a_wrong_escape_is_left_for_the_crc_to_find(wrong: bytes) -> None:
    (frame,) = FrameReader(100).receive(b"\x20" + wrong + b"abcdef\x7e"[len(wrong) - 1 :])
    assert not is_intact(frame, 0)


def test_flags_between_frames_say_nothing() -> None:
    line = encode(b"a", 0)
    assert decode(b"\x7e\x7e" + line + b"\x7e\x7e\x7e" + line, 0) == [b"a", b"a"]


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_frame_shorter_than_its_crc_is_not_intact(size: int) -> None:
    assert not is_intact(bytes(size) + b"\x01", 0)


class TestBounds:
    LIMIT = 20

    def test_a_frame_of_the_limit_is_read_and_a_longer_one_thrown_away(self) -> None:
        reader = FrameReader(self.LIMIT)
        assert reader.receive(b"x" * self.LIMIT + b"\x7e") == [b"x" * self.LIMIT]
        assert reader.receive(b"x" * (self.LIMIT + 1) + b"\x7e") == []
        assert reader.overruns == 1

    def test_it_never_holds_more_than_the_limit_however_much_comes(self) -> None:
        reader = FrameReader(self.LIMIT)
        for _ in range(100):
            assert reader.receive(b"x" * 7) == []
            assert len(reader._begun) <= self.LIMIT
        assert reader.overruns == 1

    @pytest.mark.parametrize("cut", range(61))
    def test_a_frame_too_long_costs_itself_and_counts_once_wherever_it_is_cut(self, cut: int) -> None:
        line = b"x" * 60 + b"\x7eafter\x7e"
        reader = FrameReader(self.LIMIT)
        assert reader.receive(b"before\x7e" + line[:cut]) + reader.receive(line[cut:]) == [b"before", b"after"]
        assert reader.overruns == 1

    def test_the_frame_after_one_too_long_may_be_too_long_as_well(self) -> None:
        reader = FrameReader(self.LIMIT)
        reader.receive(b"x" * 50)
        assert reader.receive(b"x\x7e" + b"y" * 50) == []
        assert reader.receive(b"y\x7eafter\x7e") == [b"after"]
        assert reader.overruns == 2

    def test_after_a_reset_what_was_begun_does_not_count(self) -> None:
        reader = FrameReader(self.LIMIT)
        reader.receive(b"begun")
        reader.reset()
        assert reader.receive(b"new\x7e") == [b"new"]
        reader.receive(b"x" * 50)
        reader.reset()
        assert reader.receive(b"new\x7e") == [b"new"]
