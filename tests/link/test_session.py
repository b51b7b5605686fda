"""What two ends agree on, and the keys that tell their frames from all others."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.link import LinkConfig
from gateway.link.frames import Hello
from gateway.link.session import FrameKeys, Peer

CONFIG = LinkConfig(initiator=True, frame=512, window=16, streams=64, message=1000, deflate=15)


def hello(**said: int) -> Hello:
    values = {
        "version": 1,
        "nonce": 5,
        "seen": 0,
        "frame": 512,
        "window": 16,
        "streams": 64,
        "message": 9,
        "deflate": 15,
    }
    return Hello(initiator=False, **(values | said))


@pytest.mark.parametrize(
    ("said", "agreed"),
    [
        ({"version": 1}, {"version": 1}),
        ({"version": 9}, {"version": 1}),
        ({"frame": 64}, {"frame": 64}),
        ({"frame": 4096}, {"frame": 512}),
        ({"window": 1}, {"window": 1}),
        ({"window": 127}, {"window": 127}),
        ({"streams": 1}, {"streams": 1}),
        ({"streams": 255}, {"streams": 64}),
        ({"message": 2**32 - 1}, {"message": 2**32 - 1}),
        ({"deflate": 9}, {"deflate": 9}),
        ({"deflate": 0}, {"deflate": 0}),
    ],
    ids=str,
)
def test_both_ends_take_the_smaller_and_each_obeys_the_others_window_and_message(
    said: dict[str, int], agreed: dict[str, int]
) -> None:
    peer = Peer.of(hello(**said), CONFIG)
    assert {name: getattr(peer, name) for name in agreed} == agreed


def test_an_end_that_cant_inflate_is_sent_nothing_deflated_and_deflates_nothing() -> None:
    plain = LinkConfig(initiator=True, deflate=0)
    assert Peer.of(hello(deflate=15), plain).deflate == 0
    assert Peer.of(hello(deflate=12), LinkConfig(initiator=True, deflate=10)).deflate == 10


def test_the_key_is_the_crc_of_who_sends_of_both_nonces_and_of_the_upper_bits() -> None:
    session = zlib.crc32(b"i" + bytes.fromhex("01020304 a0b0c0d0"))
    keys = FrameKeys(b"i", 0x01020304, 0xA0B0C0D0)
    assert keys.key() == keys.key(255, 255) == zlib.crc32(bytes(8), session)
    assert keys.key(0x3_01, 0x12345_02) == zlib.crc32(bytes.fromhex("00000003 00012345"), session)
    assert keys.key() == zlib.crc32(bytes(8), session)


numbers = st.integers(0, 2**40 - 1)
nonces = st.integers(1, 2**32 - 1)


@settings(deadline=None)
@given(first=nonces, second=nonces, seq=numbers, ack=numbers)
def test_the_two_directions_have_different_keys(first: int, second: int, seq: int, ack: int) -> None:
    assert FrameKeys(b"i", first, second).key(seq, ack) != FrameKeys(b"r", first, second).key(seq, ack)


@settings(deadline=None)
@given(seq=numbers, other=numbers, ack=numbers)
def test_frames_of_another_turn_of_the_numbers_have_another_key(seq: int, other: int, ack: int) -> None:
    keys = FrameKeys(b"r", 1, 2)
    assert (keys.key(seq, ack) == keys.key(other, ack)) == (seq >> 8 == other >> 8)
    assert (keys.key(ack, seq) == keys.key(ack, other)) == (seq >> 8 == other >> 8)


@settings(deadline=None)
@given(mine=nonces, theirs=nonces, other=nonces)
def test_another_nonce_makes_another_key(mine: int, theirs: int, other: int) -> None:
    same = FrameKeys(b"i", mine, theirs).key() == FrameKeys(b"i", mine, other).key()
    assert same == (theirs == other)
    same = FrameKeys(b"i", theirs, mine).key() == FrameKeys(b"i", other, mine).key()
    assert same == (theirs == other)


def test_a_number_before_the_first_has_a_key_that_no_frame_has_for_long() -> None:
    keys = FrameKeys(b"i", 1, 2)
    assert keys.key(-1, 0) == keys.key(2**40 - 1, 0) != keys.key(0, 0)
