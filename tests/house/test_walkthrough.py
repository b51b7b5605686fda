"""The README and the tutorial are true: their commands and programs run as printed and show what is printed.

How a page is read. A fenced block is run by its language, unless a comment right above it says otherwise:

    console                       each line after `$ ` is a command for the shell; what follows it must be its output
    python, toml                  needs a comment `<!-- file: NAME -->`: it is written to that file
    <!-- terminal: NAME -->       the block's last command goes on running while later blocks are run
    <!-- end of terminal: NAME -->   Ctrl-C in that terminal
    <!-- not run: REASON -->      the block is skipped
    text                          is never run

In an output `...` stands for anything, on a line of its own for any lines. A number with three decimals or more stands
for any number, /dev/pts/1 for any pty; runs of blanks count as one, blank and ruled lines not at all. All blocks of a
page share a folder, and a network of their own, so that no other gateway is found.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from hil import qemu

ROOT = Path(__file__).parents[2]
BOARD = "docs/tutorial/first-board.md"
PAGES = ("README.md", "docs/tutorial/first-gateway.md", "docs/how-to/connect-stock-rpyc.md", BOARD)
COMMAND_S = 30.0
NOT_OURS = {"PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
"""Of the environment: a reader is not run by pytest, nor by make."""
START_S = 30.0
STOP_S = 15.0

PARTS = re.compile(
    r"<!-- (?P<mark>[\w ]+?)(?:: (?P<value>.*?))? -->|^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page, or the end of a terminal."""

    line: int
    language: str
    text: str
    mark: str = ""
    value: str = ""


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page with the comment that stands above each."""
    text = (ROOT / page).read_text(encoding="utf-8")
    mark = value = ""
    end = 0
    for part in PARTS.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if part["mark"] == "end of terminal":
            yield Block(line, "", "", part["mark"], part["value"])
        elif part["mark"]:
            mark, value, end = part["mark"], part["value"] or "", part.end()
        else:
            above = text[end : part.start()].strip() == "" and mark
            yield Block(line, part["language"], part["text"], mark if above else "", value if above else "")
            mark = ""


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines of its output."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found


WILD = {r"\.\.\.": r".*?", r"-?\d+\.\d{3,}": r"-?\d+\.\d+", r"/dev/pts/\d+": r"/dev/pts/\d+"}


def pattern(word: str) -> str:
    """The regular expression for one word of an output."""
    pieces = re.split(f"({'|'.join(WILD)})", word)
    # Every second piece is what the split was at.
    return "".join(
        next(wide for narrow, wide in WILD.items() if re.fullmatch(narrow, piece)) if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )


def expected(lines: list[str]) -> re.Pattern[str]:
    """What the output has to match, blank lines left out."""
    patterns = []
    for line in lines:
        if line.strip() == "...":
            patterns.append(r"(?:.*\n)*?")
        elif line.strip():
            patterns.append(r"[^\S\n]*" + r"[^\S\n]+".join(map(pattern, line.split())) + r"[^\S\n]*\n")
    return re.compile("".join(patterns))


def plain(output: str) -> str:
    """The output without colours, rules and blank lines."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output).replace("\r\n", "\n").replace("─", "")
    return "".join(f"{line}\n" for line in text.splitlines() if line.strip())


def on_terminal(command: list[str], timeout_s: float, **settings: Any) -> tuple[int, str]:
    """Run a command whose stdout is a terminal of 160 columns; its exit code and all that it printed."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (50, 160))
    printed = bytearray()
    deadline = time.monotonic() + timeout_s
    with TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=errors, **settings)
        os.close(its)
        with open(ours, "rb", buffering=0) as terminal, process, suppress(OSError):
            # The terminal says EIO when the last program that has it open is gone.
            while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                printed += terminal.read(4096)
            process.kill()
        errors.seek(0)
        return process.returncode, (printed + errors.read()).decode()


@dataclass
class Reader:
    """Somebody who types what a page says: a folder, terminals, and a network with nobody else in it."""

    folder: Path
    network: list[str]
    terminals: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        own = {name: str(self.folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY")}
        return {**kept, "PATH": path, **own}

    def follow(self, block: Block) -> None:
        """Do what the block says, and check what comes out."""
        match block.mark, block.language:
            case ("not run", _) | (_, "text"):
                assert block.language == "text" or block.value, "say why the block is not run"
            case ("end of terminal", _):
                self.interrupt(block.value)
            case ("file", _):
                (self.folder / block.value).write_text(block.text, encoding="utf-8")
            case ("terminal", "console"):
                *first, (last, output) = commands(block.text)
                for command, lines in first:
                    self.run(command, lines)
                self.start(block.value, last, output)
            case ("", "console"):
                for command, lines in commands(block.text):
                    self.run(command, lines)
            case unknown:
                pytest.fail(f"nothing says what to do with this block: {unknown}")

    def run(self, command: str, lines: list[str]) -> None:
        code, printed = on_terminal(
            [*self.network, "bash", "-c", command], COMMAND_S, cwd=self.folder, env=self.environment()
        )
        output = plain(printed)
        refused = any(line.startswith("error: ") for line in lines)
        assert (code != 0) == refused, f"$ {command}\nends with exit code {code} and prints\n{output}"
        if not expected(lines).fullmatch(output):
            pytest.fail(f"$ {command}\nprints\n{output}but the page says\n" + "\n".join(lines))

    def start(self, terminal: str, command: str, lines: list[str]) -> None:
        assert lines[-1:] not in ([], ["..."]), "the last line that it prints when it has started is missing"
        log = self.folder / f"{terminal}.log"
        with log.open("wb") as output:
            self.terminals[terminal] = subprocess.Popen(
                [*self.network, "bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S
        while not expected(lines).fullmatch(plain(log.read_text(encoding="utf-8"))):
            code = self.terminals[terminal].poll()
            if code is not None or time.monotonic() > deadline:
                pytest.fail(
                    f"$ {command}\n(exit code {code}) prints\n{log.read_text()}but the page says\n" + "\n".join(lines)
                )
            time.sleep(0.1)

    def interrupt(self, terminal: str) -> None:
        process = self.terminals.pop(terminal)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) in {0, 130}, (self.folder / f"{terminal}.log").read_text(encoding="utf-8")

    def leave(self) -> None:
        for process in self.terminals.values():
            process.kill()
            process.wait()


@contextmanager
def network_of_its_own() -> Iterator[list[str]]:
    """What to put before a command so that it runs on a network where there is nothing but loopback."""
    user = [] if os.geteuid() == 0 else ["--user"]
    own = ["unshare", *user, *(["--map-root-user"] if user else []), "--net"]
    script = "ip link set lo up && echo up && exec cat"
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip")):
        pytest.skip("unshare, nsenter or ip is missing; on Debian: apt install util-linux iproute2")
    with subprocess.Popen([*own, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdin is not None
        if keeper.stdout.readline() != b"up\n":
            pytest.skip("this system does not let its users make a network namespace")
        preserve = ["--preserve-credentials"] if user else []
        yield ["nsenter", f"--target={keeper.pid}", *user, *preserve, "--net", "--"]
        keeper.stdin.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with network_of_its_own() as network:
        # The pages say .venv/bin where no environment is activated.
        (tmp_path / ".venv").symlink_to(sys.prefix)
        for name in ("Makefile", "firmware_bridge"):
            (tmp_path / name).symlink_to(ROOT / name)
        reader = Reader(tmp_path, network)
        yield reader
        reader.leave()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_shows_is_what_happens(page: str, reader: Reader) -> None:
    if page == BOARD and (qemu.missing() or shutil.which("arm-none-eabi-gcc") is None):
        pytest.skip(qemu.missing() or "there is no arm-none-eabi-gcc here (Debian's package gcc-arm-none-eabi)")
    followed = list(blocks(page))
    assert any(block.language == "console" and block.mark != "not run" for block in followed)
    for block in followed:
        try:
            reader.follow(block)
        except (AssertionError, pytest.fail.Exception) as problem:
            reason = f"{page}:{block.line}: {problem}"
        else:
            continue
        pytest.fail(reason, pytrace=False)
    assert not reader.terminals, "a terminal is never ended"
