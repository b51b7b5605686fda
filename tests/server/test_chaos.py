"""Chaos, a little of it; and that the judge of the logs would see what must not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.chaos import NAMES, Siege, Verdict, siege

RUNS = 120
"""About twenty seconds; `python -m tests.server.chaos` for more."""
SEED = 20260101


@pytest.mark.slow
def test_whatever_happens_every_device_is_safe_before_it_changes_hands(tmp_path: Path) -> None:
    with siege(tmp_path, SEED) as under:
        under.run(RUNS)
        under.settle()
        verdict = under.judge()
    print(verdict.shown())
    assert verdict.misses == []
    assert verdict.twice == []
    assert verdict.by_a_lost_lease == []
    assert verdict.false_promises == []
    assert verdict.audit == []
    assert verdict.died == []
    assert verdict.runs == RUNS
    assert verdict.commands > RUNS  # the clients were at work meanwhile
    assert verdict.ends["holder-lost"] > 0
    assert verdict.ends["revoked"] > 0


# -- the judge --------------------------------------------------------------------------------------------------------


class Judged(Siege):
    """The judge without a siege."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.verdict = Verdict()


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    for name in NAMES:
        (tmp_path / name).write_text("0.0 0 safe\n")
    (tmp_path / "events").write_text("")
    return Judged(tmp_path)


def device(judged: Judged, *lines: str) -> None:
    (judged.folder / NAMES[0]).write_text("".join(f"{line}\n" for line in lines))


def events(judged: Judged, *found: dict[str, Any]) -> None:
    (judged.folder / "events").write_text("".join(json.dumps(event) + "\n" for event in found))


def audit(judged: Judged, *tickets: str) -> None:
    records = [{"method": "step", "outcome": "ok", "arguments": f"('{ticket}')"} for ticket in tickets]
    (judged.folder / "audit.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def granted(number: int, *inherited: str) -> dict[str, Any]:
    return {"t": 0.0, "what": "granted", "number": number, "inherited": inherited}


def ended(number: int, at: float) -> dict[str, Any]:
    return {"t": at, "what": "ended", "number": number, "cause": "released", "safe": [NAMES[0]]}


def test_a_life_in_order_is_good(judged: Judged) -> None:
    events(judged, granted(1), ended(1, 2.0), granted(2), ended(2, 4.0))
    device(judged, "0 0 safe", "1 1 7.1", "2.1 0 safe", "3 2 7.2", "4.1 0 safe")
    audit(judged, "7.1", "7.2")
    assert judged.judge().good


def test_a_device_that_changes_hands_as_it_is_is_a_miss(judged: Judged) -> None:
    device(judged, "1 1 7.1", "3 2 7.2", "4 0 safe")
    audit(judged, "7.1", "7.2")
    assert len(judged.judge().misses) == 1


def test_a_device_that_was_handed_over_is_none(judged: Judged) -> None:
    events(judged, granted(1), granted(2, NAMES[0]))
    device(judged, "1 1 7.1", "3 2 7.2", "4 0 safe")
    audit(judged, "7.1", "7.2")
    assert judged.judge().good
    assert judged.verdict.handed_over == 1


def test_a_device_that_is_never_made_safe_is_a_miss(judged: Judged) -> None:
    device(judged, "0 0 safe", "1 1 7.1")
    audit(judged, "7.1")
    assert len(judged.judge().misses) == 1


def test_a_command_that_comes_twice_is_seen(judged: Judged) -> None:
    device(judged, "1 1 7.1", "2 1 7.1", "3 0 safe")
    audit(judged, "7.1")
    assert judged.judge().twice == ["7.1"]


@pytest.mark.parametrize(
    "lines",
    [
        ("1 1 7.1", "2 0 safe", "3 2 7.2", "4 1 7.3", "5 0 safe"),
        ("1 1 7.1", "2.1 0 safe", "3 1 7.2", "5 0 safe"),
    ],
    ids=["after the next lease's", "after the safe state"],
)
def test_a_command_of_a_lease_that_is_over_is_seen(judged: Judged, lines: tuple[str, ...]) -> None:
    events(judged, granted(1), ended(1, 2.0), granted(2))
    device(judged, *lines)
    audit(judged, "7.1", "7.2", "7.3")
    assert len(judged.judge().by_a_lost_lease) == 1


@pytest.mark.parametrize(("said", "lines"), [("ok", ["0 0 safe"]), ("lease-lost", ["1 1 7.1", "2 0 safe"])])
def test_a_client_that_was_told_something_wrong_is_seen(judged: Judged, said: str, lines: list[str]) -> None:
    device(judged, *lines)
    audit(judged, *["7.1"] * (len(lines) - 1))
    (judged.folder / "client-7").write_text(f"7.1 {NAMES[0]} sent\n7.1 {NAMES[0]} {said}\n")
    assert len(judged.judge().false_promises) == 1


def test_an_audit_log_that_says_something_else_is_seen(judged: Judged) -> None:
    device(judged, "1 1 7.1", "2 0 safe")
    audit(judged, "7.2")
    assert len(judged.judge().audit) == 2
