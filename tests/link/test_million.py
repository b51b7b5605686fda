"""What `tests/bench/link_million.py` does to a million messages, done to fewer."""

from __future__ import annotations

import pytest

from tests.bench.link_million import PLANS, million


@pytest.mark.fuzz
def test_of_twenty_thousand_messages_under_random_faults_none_is_lost_doubled_or_altered() -> None:
    tally = million(20_000, seed=2, per_stage=20_000 // (2 * len(PLANS)))
    assert tally.messages == 20_000
    assert (tally.lost, tally.doubled, tally.altered) == (0, 0, 0)
    assert tally.retransmissions > 500
    assert tally.crc_errors > 500
