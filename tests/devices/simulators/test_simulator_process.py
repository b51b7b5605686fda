"""`python -m devices.simulators KIND`: prints its port first, serves it, ends by signal or with its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 30


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "devices.simulators", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], WAIT_S)[0]
            yield process, process.stdout.readline().decode().rstrip("\n")
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("kind", "question", "answer"),
    [
        ("power-supply", b"*IDN?\n", b"Power Supply"),
        ("multimeter", b"*IDN?\n", b"Multimeter"),
        ("console", b"echo hello\r", b"echo hello\r\nhello\r\n"),
    ],
)
def test_the_first_line_is_a_port_where_the_instrument_answers(kind: str, question: bytes, answer: bytes) -> None:
    with started(kind) as (_, path), serial.Serial(path, timeout=WAIT_S) as port:
        port.write(question)
        assert answer in port.read_until(answer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    link = tmp_path / "dmm"
    with started("multimeter", "--link", str(link)) as (process, path):
        assert path == str(link)
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
    assert not os.path.lexists(link)


def test_the_end_of_its_input_ends_it_when_it_was_told_so() -> None:
    with started("console", "--until-eof") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_S) == 0


def test_an_unknown_kind_lists_the_known_ones() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "devices.simulators", "toaster"],
        cwd=ROOT,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 2
    assert b"'console', 'multimeter', 'power-supply'" in ended.stderr
