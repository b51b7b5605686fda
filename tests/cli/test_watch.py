"""`gateway watch`: a line on a terminal, lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import gateway
from gateway.cli.main import main
from tests.cli.test_terminal import Terminal
from tests.server.observed import Meter, Root


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def url(meter: Meter) -> Iterator[str]:
    root = Root(dmm1=meter)
    with gateway.Server(root, "tcp://127.0.0.1:0", strict=True) as server:
        yield server.url
    root.all_observers.close()


def watch(url: str, *words: str) -> int:
    return main(["watch", "--gateway", url, *words])


def test_readings_are_printed_with_their_unit(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(url, "dmm1.voltage", "--every", "0.01", "--count", "3") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[1], line[3]) for line in lines] == [("s", "V")] * 3
    assert [line[2] for line in lines] == sorted({line[2] for line in lines})
    assert (lines[0][0], lines[0][2]) == ("0.00", "1.0")


def test_json_is_a_document_a_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.time()
    assert watch(url, "dmm1.voltage", "--every", "0.01", "--count", "2", "--json") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert before <= first.pop("time_s") <= second["time_s"]
    assert first == {
        "device": "dmm1",
        "member": "voltage",
        "unit": "V",
        "value": 1.0,
        "identity": "ACME,34401A,42",
        "lease": 7,
        "error": None,
    }


def test_an_error_is_shown_and_watching_goes_on(url: str, meter: Meter, capsys: pytest.CaptureFixture[str]) -> None:
    meter.broken = "dmm1 is away"
    assert watch(url, "dmm1.voltage", "--every", "0.01", "--count", "1") == 0
    assert "error: dmm1 is away" in capsys.readouterr().out
    assert watch(url, "dmm1.voltage", "--every", "0.01", "--count", "1", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == {"code": "device-unavailable", "message": "dmm1 is away"}
    assert document["value"] is None


def test_only_changes_are_shown_where_only_they_are_wanted(
    url: str, meter: Meter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.wave = "steady"
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "watch", "--gateway", url, "dmm1.waveform", "--every", "0.01", "--on-change"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().split()[2:] == ["steady"]
            meter.wave = "changed"
            assert process.stdout.readline().split()[2:] == ["changed"]
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["dmm1.volts"], 3, "did you mean 'voltage'"),
        (["dmm1.reset"], 2, "only a property can be watched"),
        (["dmm1.voltage", "--every", "0"], 2, "--every"),
        (["dmm1.current"], 1, "not for you"),
    ],
)
def test_what_can_not_be_watched_is_one_line(
    url: str, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(url, *words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_terminal_has_a_line_with_a_sparkline_until_ctrl_c(url: str) -> None:
    line = [sys.executable, "-m", "gateway", "watch", "--gateway", url, "dmm1.voltage", "--every", "0.02"]
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    terminal = Terminal(line, environment)
    try:
        terminal.wait_for(r"dmm1\.voltage  \d+\.0 V  [▁▂▃▄▅▆▇█]{4,}  \d+ to \d+ V")
        terminal.type("\x03")
        code, shown = terminal.end()
    finally:
        terminal.close()
    assert code == 130
    assert "Traceback" not in shown
