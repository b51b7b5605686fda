"""Log lines for journald: only where stderr really leads there, and with the priority on every line."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.systemd import JournalFormatter, stderr_is_journal


def record(level: int, text: str, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("gateway.app", level, "app.py", 1, text, None, info)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7), (1, 7)],
)
def test_a_level_becomes_a_priority_of_syslog(level: int, priority: int) -> None:
    assert JournalFormatter().format(record(level, "psu1 is gone")) == f"<{priority}>gateway.app: psu1 is gone"


def test_every_line_of_a_traceback_has_the_priority() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as problem:
        lines = JournalFormatter().format(record(logging.ERROR, "it broke", problem)).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


def test_stderr_is_the_journal_if_its_own_socket_is_the_one_named() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = os.fstat(ours.fileno())
        named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert stderr_is_journal(named, ours.fileno())
        assert not stderr_is_journal(named, theirs.fileno())
        assert not stderr_is_journal({}, ours.fileno())
        assert not stderr_is_journal({"JOURNAL_STREAM": "nonsense"}, ours.fileno())


def test_a_gateway_whose_stderr_is_the_journal_writes_priorities(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[gateway]\nlisten = "tcp://127.0.0.1:0"\nadvertise = false\n'
        '[devices.gone]\ndriver = "scpi-multimeter"\nport = "/dev/ttyNothing"\n',
        encoding="utf-8",
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = os.fstat(theirs.fileno())
        environ = {
            **os.environ,
            "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}",
            "STATE_DIRECTORY": str(tmp_path),
        }
        with subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", str(config), "--json"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environ,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.terminate()
            process.wait(30)
        theirs.close()
        ours.settimeout(10)
        with ours.makefile(encoding="utf-8") as said:
            lines = said.read().splitlines()
    assert any(line.startswith("<4>gateway.plugged: gone is missing") for line in lines), lines
    assert all(line.startswith("<") for line in lines)
