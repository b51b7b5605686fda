"""Copies the MicroPython library and a main.py to a board, by mpremote, and sees that every file arrived.

    for step in deploy("/dev/ttyACM0", main=Path("main.py")):
        print(step.number, "of", step.of, step.name, step.done)

mpremote (the extra `firmware`) talks to the board's REPL over the same USB line that the board serves at. A board that
serves without a session lets it in: see `instrument_board`.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError, DeviceError, LinkDown, NotFound

LIBRARY: Final = Path(__file__).parent / "micropython" / "instrument_board"
ANSWER_S: Final = 60.0
MAX_FILE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One file. `done` is "copied", or "the same already"."""

    number: int
    of: int
    name: str
    done: str
    sha256: str


def deploy(port: str, main: Path | None = None, *, resume: bool = False) -> Iterator[Step]:
    """Copy what differs, file by file, and compare the hashes on the board with those here.

    `port` is a serial device, or a `serial://` URL. `resume`: don't reset the board first. Raises ConfigError without
    mpremote, NotFound for a `main` that is not there, LinkDown where no MicroPython answers, DeviceError where a file
    does not arrive as it is.
    """
    board = Board(port, resume=resume)
    files = {f":lib/{LIBRARY.name}/{each.name}": each for each in sorted(LIBRARY.glob("*.py"))}
    if main is not None:
        if not main.is_file() or main.stat().st_size > MAX_FILE:
            raise NotFound(f"{main} is no file of at most {MAX_FILE} bytes; name the board's main.py")
        files[":main.py"] = main
    board.make_folders("lib", f"lib/{LIBRARY.name}")
    for number, (place, source) in enumerate(files.items(), start=1):
        wanted = hashlib.sha256(source.read_bytes()).hexdigest()
        done = "the same already"
        if board.hash_of(place) != wanted:
            board.copy(source, place)
            done = "copied"
            found = board.hash_of(place)
            if found != wanted:
                what = f"another file (sha256 {found})" if found else "nothing"
                raise DeviceError(f"{place[1:]} arrived at {board.port} as {what}; is its flash full?")
        yield Step(number, len(files), place[1:], done, wanted)


class Board:
    """A board's REPL, by mpremote in a process of its own for each command."""

    def __init__(self, port: str, *, resume: bool = False) -> None:
        if find_spec("mpremote") is None:
            raise ConfigError("mpremote is not installed; install instrument-gateway[firmware]")
        self.port = port.removeprefix("serial://").partition("?")[0]
        self._first = ("connect", self.port, *(("resume",) if resume else ()))

    def make_folders(self, *names: str) -> None:
        """Make those that are not there. Raises LinkDown, DeviceError."""
        made = "".join(f"\n    try: os.mkdir({name!r})\n    except OSError: pass" for name in names)
        self._run("exec", f"import os\nif True:{made}")

    def hash_of(self, place: str) -> str:
        """The SHA-256 of a file, empty where it is not there. Raises LinkDown."""
        try:
            said = self._run("fs", "sha256sum", place)
        except DeviceError:
            return ""
        found = re.search(r"\b[0-9a-f]{64}\b", said)
        return found[0] if found else ""

    def copy(self, source: Path, place: str) -> None:
        """Copy one file. Raises LinkDown, DeviceError."""
        self._run("fs", "cp", str(source), place)

    def _run(self, *words: str) -> str:
        command = [sys.executable, "-m", "mpremote", *self._first, *words]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise LinkDown(f"no MicroPython answered at {self.port} within {ANSWER_S:g} s; reset the board") from None
        if done.returncode == 0:
            return done.stdout
        said = " ".join((done.stderr or done.stdout).split())[-200:]
        if re.search(r"no device found|failed to access|could not enter raw repl|could not open", said, re.IGNORECASE):
            raise LinkDown(
                f"no MicroPython at {self.port}: {said}; is it plugged in, and does no gateway hold the port?"
            )
        raise DeviceError(f"the board at {self.port} refuses {' '.join(words[:2])}: {said}")
