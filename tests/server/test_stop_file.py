"""The emergency stop on the disk: there as long as it is latched, and a file that says nothing is a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.server.safety import Safety
from gateway.server.stop_file import MAX_FILE, StopFile
from tests.server.kept import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "estop-lab.json"


def started(path: Path) -> Safety:
    """The safety of a gateway that begins."""
    safety = Safety()
    StopFile(path).keep(safety)
    return safety


def test_nothing_is_latched_where_there_is_no_file(path: Path) -> None:
    assert started(path).stopped is None
    assert not path.parent.exists()


def test_the_next_gateway_is_stopped_too_until_one_is_reset(path: Path) -> None:
    first = started(path)
    first.stop("alice", "smoke\x1b")
    until(path.exists)
    second = started(path)
    assert second.stopped is not None
    assert first.stopped is not None
    assert (second.stopped.by, second.stopped.why) == ("alice", "smoke\x1b")
    assert abs(second.stopped.since - first.stopped.since).total_seconds() < 0.01
    assert "smoke" in str(second.refusal())
    second.reset("bob", "it was steam")
    until(lambda: not path.exists())
    assert started(path).stopped is None
    assert list(path.parent.iterdir()) == []


def test_a_second_stop_is_kept_after_a_reset(path: Path) -> None:
    safety = started(path)
    for number in range(20):
        safety.stop("alice", f"smoke {number}")
        safety.reset("alice", "air")
    safety.stop("alice", "fire")
    until(lambda: path.exists() and "fire" in path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"[" * MAX_FILE,
        b"5",
        b'{"by": "alice", "why": "smoke"}',
        b'{"by": 5, "why": "smoke", "since": "2026-01-01T00:00:00+00:00"}',
        b'{"by": "alice", "why": "smoke", "since": "yesterday"}',
        b'{"by": "alice", "why": "smoke", "since": "2026-01-01T00:00:00"}',
        b'{"by": "alice", "why": "smoke", "since": 5}',
        json.dumps({"by": "a", "why": "x" * MAX_FILE, "since": "2026-01-01T00:00:00+00:00"}).encode(),
    ],
)
def test_a_file_that_can_not_be_understood_is_a_stop(path: Path, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(text)
    safety = started(path)
    assert safety.stopped is not None
    assert safety.stopped.why == f"{path} can't be read: it is damaged"
    assert "stopped until somebody resets it" in caplog.text
    safety.reset("alice", "looked around")
    until(lambda: not path.exists())


def test_a_place_that_is_no_file_is_a_stop(path: Path) -> None:
    path.mkdir(parents=True)
    safety = started(path)
    assert safety.stopped is not None
    assert "Is a directory" in safety.stopped.why


def test_where_it_can_not_be_kept_the_stop_holds_and_that_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.write_text("in the way")
    safety = Safety()
    StopFile(path.parent / "below").keep(safety)
    safety.reset("alice", "that was a broken file")
    safety.stop("alice", "smoke")
    assert safety.stopped is not None
    until(lambda: "a restart would forget the emergency stop" in caplog.text)
