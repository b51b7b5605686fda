"""The history: bounded, and every byte has its place in the whole stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devices.history import ByteHistory


@given(st.lists(st.binary(max_size=20)), st.integers(1, 16), st.integers(0, 200))
def test_what_is_kept_is_the_end_of_the_stream_at_its_true_offsets(
    pieces: list[bytes], capacity: int, since: int
) -> None:
    history = ByteHistory(capacity)
    for piece in pieces:
        history.append(piece)
    whole = b"".join(pieces)
    assert history.end == len(whole)
    assert history.start == max(0, len(whole) - capacity)
    offset, data = history.since(since)
    assert offset == max(since, history.start)
    assert data == whole[offset:]


def test_a_reader_that_comes_too_late_sees_from_the_offset_what_it_missed() -> None:
    history = ByteHistory(4)
    history.append(b"0123456789")
    assert history.since(3) == (6, b"6789")
    assert history.since(8) == (8, b"89")
    assert history.since(10) == (10, b"")
    assert history.since(0, max_bytes=2) == (6, b"67")


def test_a_pattern_is_found_from_an_offset_on() -> None:
    history = ByteHistory(8)
    history.append(b"ab-ab-ab-ab-")
    assert history.find(b"ab-", 0) == 9 - 3 + 3
    assert history.find(b"ab-", 7) == 12
    assert history.find(b"ab-", 10) == -1
    assert history.find(b"zz", 0) == -1
