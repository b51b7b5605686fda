"""`gateway firmware deploy`, to a real MicroPython on a pty."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.deploy import LIBRARY, deploy
from gateway.errors import LinkDown, NotFound
from hil import End, PtyWire

pytest.importorskip("mpremote")


@pytest.fixture
def board(micropython: str, tmp_path: Path) -> Iterator[tuple[PtyWire, Path]]:
    """A REPL at the end of a wire, and the folder that is its file system."""
    folder = tmp_path / "flash"
    folder.mkdir()
    with PtyWire() as wire:
        tty = os.open(wire.port(End.B), os.O_RDWR | os.O_NOCTTY)
        process = subprocess.Popen([micropython], stdin=tty, stdout=tty, stderr=tty, cwd=folder, start_new_session=True)
        os.close(tty)
        yield wire, folder
        process.kill()
        process.wait()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "gateway", "firmware", "deploy", *words]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=120)


def test_what_differs_is_copied_and_verified(board: tuple[PtyWire, Path], tmp_path: Path) -> None:
    wire, folder = board
    main = tmp_path / "main.py"
    main.write_text("print('board')\n" * 200)
    url = f"serial://{wire.port(End.A)}"
    done = command("--port", url, "--main", str(main), "--resume", "--json")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert {each["name"] for each in files} == {
        "main.py",
        *(f"lib/instrument_board/{each.name}" for each in LIBRARY.glob("*.py")),
    }
    assert {each["done"] for each in files} == {"copied"}
    assert (folder / "main.py").read_bytes() == main.read_bytes()
    for each in LIBRARY.glob("*.py"):
        assert (folder / "lib" / "instrument_board" / each.name).read_bytes() == each.read_bytes()
    (folder / "lib" / "instrument_board" / "raw.py").write_text("damaged")
    again = list(deploy(wire.port(End.A), main, resume=True))
    assert [step.name for step in again if step.done == "copied"] == ["lib/instrument_board/raw.py"]
    assert [step.number for step in again] == list(range(1, again[0].of + 1))


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    done = command("--port", f"serial://{tmp_path}/no-port")
    assert done.returncode == 4
    assert done.stderr.startswith(f"error: no MicroPython at {tmp_path}/no-port: ")
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(LinkDown):
        list(deploy(str(tmp_path / "no-port")))
    with pytest.raises(NotFound, match=r"main\.py is no file"):
        list(deploy(str(tmp_path / "no-port"), tmp_path / "main.py"))
