"""The benchmark's runner works end to end; how fast anything is, is not asked here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAIRINGS = [("ours", "ours"), ("ours", "stock"), ("stock", "ours")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tests/bench/run.py"), "--rounds", "1", "--seconds", "0.01", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def figures(*arguments: str) -> dict[str, Any]:
    finished = run("--json", *arguments)
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    assert result["failures"] == []
    return result


@pytest.mark.timeout(60)
def test_every_pairing_of_ours_and_stock_gives_a_figure_and_a_ratio() -> None:
    result = figures("--only", "floor", "--only", "root-method", "--only", "cached", "--only", "wire-bytes")
    measured = {(row["name"], row["client"], row["server"]): row for row in result["rows"]}
    assert set(measured) == {
        ("floor", "ours", "ours"),
        *((name, *pairing) for name in ("root-method", "cached", "wire-bytes") for pairing in PAIRINGS),
    }
    for row in measured.values():
        assert row["ours"] > 0
        assert row["stock"] > 0
        inverted = row["name"] == "wire-bytes"
        expected = row["stock"] / row["ours"] if inverted else row["ours"] / row["stock"]
        assert row["ratio"] == pytest.approx(expected)
    whats = {"root.method(x)", "cached method"}
    assert set(result["fraction_of_floor"]) == {f"{what}, {role}" for what in whats for role in ("ours", "stock")}
    assert 0 < result["longest_mean_ms"][1] < 20
    assert result["facts"]["stock"] == "rpyc 6.0.2"


def test_stock_against_stock_puts_the_same_bytes_on_the_wire() -> None:
    for row in figures("--self-check", "--only", "wire-bytes")["rows"]:
        assert row["ratio"] == pytest.approx(1, rel=0.01)
        assert 300 < row["stock"] < 400


def test_an_unknown_row_is_refused_with_the_names_there_are() -> None:
    finished = run("--only", "no-such-row")
    assert finished.returncode == 2
    assert "root-method" in finished.stderr


def test_a_second_call_over_a_serial_line_takes_few_bytes() -> None:
    command = [sys.executable, str(ROOT / "tests/bench/line.py"), "--quick", "--json", "--only", "bytes"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    deflated, plain = json.loads(finished.stdout)["figures"]
    assert 20 < float(deflated["value"]) <= 60
    assert 40 < float(plain["value"]) <= 110
    assert deflated["ratio"] < 0.1, "stock sends more than ten times as much"


def test_how_late_readings_are_is_measured_with_one_subscriber_stopped_and_without() -> None:
    command = [sys.executable, str(ROOT / "tests/bench/observers.py"), "--json", "--seconds", "0.3", "--clients", "1"]
    finished = subprocess.run([*command, "--subscribers", "3"], capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(finished.stdout)["rows"]
    assert [(row["stalled"], row["one_call_each"]) for row in rows] == [(0, False), (1, False), (0, True), (1, True)]
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]


@pytest.mark.timeout(90)
def test_strangers_at_the_door_are_measured() -> None:
    words = ["--peers", "20", "--seconds", "0.1", "--json"]
    command = [sys.executable, str(ROOT / "tests/bench/strangers.py"), *words]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=80, check=False)
    assert finished.returncode == 0, finished.stderr
    rows: dict[str, Any] = json.loads(finished.stdout)["rows"]
    assert list(rows) == ["silent", "halfway", "rush", "default"]
    assert all(row["besieged"]["calls"] > 0 for row in rows.values())
    assert rows["rush"]["came"] > 0


@pytest.mark.timeout(110)
def test_the_death_of_a_gateway_and_its_start_are_measured() -> None:
    command = [sys.executable, str(ROOT / "tests/bench/supervised.py"), "--runs", "1", "--devices", "2", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == 0, finished.stderr
    rows: dict[str, Any] = json.loads(finished.stdout)
    assert list(rows) == ["gateway-killed", "gateway-stopped", "start"]
    killed = rows["gateway-killed"]
    assert 0 < killed["safe"]["worst_ms"] < killed["serving again"]["worst_ms"]


@pytest.mark.timeout(120)
def test_how_soon_devices_are_safe_is_measured() -> None:
    rows = ["client-killed", "emergency-stop", "policy-cost"]
    words = [word for row in rows for word in ("--row", row)]
    command = [sys.executable, str(ROOT / "tests/bench/service.py"), "--runs", "1", "--json", *words]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    assert list(found) == rows
    for row in ("client-killed", "emergency-stop"):
        assert 0 < found[row]["commanded"]["median_ms"] < 10_000
    assert all(figures["bare_us"] > 0 for figures in found["policy-cost"].values())


def test_many_threads_on_one_connection_are_measured() -> None:
    command = [sys.executable, str(ROOT / "tests/bench/stress.py"), "--threads", "4", "--seconds", "0.3", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["calls"] >= 4 * found["fewest_calls_of_a_thread"] > 0
    assert 0 < found["median_ms"] <= found["p99_ms"] <= found["longest_ms"]
