"""Runs one cell of the matrix: a client's process and a server's process of given implementations, over a transport."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.interop import cases, endings
from tests.interop.endings import CLOSE_BY_THE_CLIENT, CLOSE_BY_THE_SERVER, KILL_THE_CLIENT, KILL_THE_SERVER, NOTICED_S
from tests.interop.session import CASES
from tests.interop.wire import PtyPair

ROOT: Final = Path(__file__).parents[2]
STOCK_5: Final = "5.3.1"
STOCK_5_SITE: Final = ROOT / ".pytest_cache" / "d" / f"rpyc-{STOCK_5}"
ORDINARY: Final = tuple(name for name in CASES if name in vars(cases))
TRANSPORTS: Final = ("tcp", "unix", "serial")
START_S: Final = 15.0
CASE_S: Final = 20.0
PIP_S: Final = 60.0


class Implementation(NamedTuple):
    peer: str
    """The module in this folder that makes a peer of it."""
    version: str
    """What its VERSION must start with; empty for any."""
    path: tuple[str, ...] = ()
    """What comes first on its PYTHONPATH."""


IMPLEMENTATIONS: Final = {
    "ours": Implementation("peer_ours", ""),
    "rpyc6": Implementation("peer_rpyc", "6.0.2"),
    "rpyc5": Implementation("peer_rpyc", STOCK_5, (str(STOCK_5_SITE),)),
}


class Cell(NamedTuple):
    """One column of the table."""

    client: str
    server: str
    transport: str

    def __str__(self) -> str:
        return f"{self.client}-{self.server}-{self.transport}"


CELLS: Final = tuple(
    Cell(client, server, transport)
    for client, server in (
        ("ours", "ours"),
        ("ours", "rpyc6"),
        ("rpyc6", "ours"),
        ("rpyc6", "rpyc6"),
        ("rpyc5", "ours"),
    )
    for transport in TRANSPORTS
)


def cases_of(transport: str) -> tuple[str, ...]:
    """The names of the cases that are run over `transport`, in order of the table."""
    if transport == "serial":
        return tuple(name for name, case in CASES.items() if case.serial)
    return (*ORDINARY, *endings.ALL, KILL_THE_CLIENT)


@dataclass
class Result:
    """How a case ended in a cell."""

    ok: bool
    error: str = ""
    seconds: float = 0.0


@dataclass
class Process:
    """A started peer: JSON lines come out, case names go in."""

    name: str
    popen: subprocess.Popen[str]
    stderr: Path
    hello: dict[str, Any] = field(default_factory=dict)
    """What it reported when it was ready: its `version`, and a server's `url`."""
    lines: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)

    def read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def expect(self, event: str, timeout: float) -> dict[str, Any]:
        """The next line that reports `event`; RuntimeError with the end of stderr when it does not come in time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            if line["event"] == event:
                return line
        raise RuntimeError(f"the {self.name} did not report {event!r}; its stderr ends: {self.complaint()}")

    def send(self, text: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(text + "\n")
        self.popen.stdin.flush()

    def complaint(self) -> str:
        return self.stderr.read_text(errors="replace").strip()[-600:] or "(empty)"


@contextmanager
def started(role: str, implementation: str, url: str, scratch: Path) -> Iterator[Process]:
    """A `client` or `server` process, killed at the end if it still lives."""
    module, version, path = IMPLEMENTATIONS[implementation]
    stderr = Path(tempfile.mkstemp(prefix=f"{role}-", dir=scratch)[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", f"tests.interop.{role}", module, url]
    with stderr.open("w") as errors:
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    process = Process(f"{implementation} {role}", popen, stderr)
    reader = threading.Thread(target=process.read, daemon=True)
    reader.start()
    try:
        process.hello = process.expect("listening" if role == "server" else "ready", START_S)
        if not process.hello["version"].startswith(version):
            raise RuntimeError(f"the {process.name} is version {process.hello['version']}, not {version}")
        yield process
    finally:
        popen.kill()
        popen.wait()
        reader.join()
        for stream in (popen.stdin, popen.stdout):
            assert stream is not None
            stream.close()


Results = dict[str, Result]


def run_cell(cell: Cell) -> Results:
    """Run every case of the cell; a case that could not be reached has a result that says why."""
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="interop-") as scratch:
        run = run_serial if cell.transport == "serial" else run_sockets
        try:
            run(cell, Path(scratch), results)
        except RuntimeError as error:
            for name in cases_of(cell.transport):
                results.setdefault(name, Result(False, str(error)))
    return results


def run_sockets(cell: Cell, scratch: Path, results: Results) -> None:
    """All cases against one server. The last one kills it."""
    url = "tcp://127.0.0.1:0" if cell.transport == "tcp" else f"unix://{scratch}/socket"
    with started("server", cell.server, url, scratch) as server:
        url = server.hello["url"]
        with started("client", cell.client, url, scratch) as client:
            for name in (*ORDINARY, CLOSE_BY_THE_CLIENT, CLOSE_BY_THE_SERVER):
                run_case(name, client, results)
                if name in {CLOSE_BY_THE_CLIENT, CLOSE_BY_THE_SERVER}:
                    notice_the_end(name, server, results)
            with started("client", cell.client, url, scratch) as victim:
                results[KILL_THE_CLIENT] = Result(*kill_the_client(victim, server))
            run_case(KILL_THE_SERVER, client, results)


def run_serial(cell: Cell, scratch: Path, results: Results) -> None:
    """A line carries one connection, so each way to end one has a line and two processes of its own."""
    names = [name for name in ORDINARY if CASES[name].serial]
    for session in ([*names, CLOSE_BY_THE_CLIENT], [CLOSE_BY_THE_SERVER]):
        with (
            PtyPair() as line,
            started("server", cell.server, f"serial://{line.right}?framing=raw", scratch) as server,
            started("client", cell.client, f"serial://{line.left}?framing=raw", scratch) as client,
        ):
            for name in session:
                run_case(name, client, results)
                if name == CLOSE_BY_THE_CLIENT:
                    notice_the_end(name, server, results)


def run_case(name: str, client: Process, results: Results) -> None:
    client.send(name)
    report = client.expect("result", CASE_S)
    results[name] = Result(report["ok"], report["error"], report["seconds"])


def notice_the_end(name: str, server: Process, results: Results) -> None:
    """A case that ended a connection passes only if the server noticed."""
    try:
        last_one_left(server)
    except RuntimeError as error:
        if results[name].ok:
            results[name] = Result(False, str(error), results[name].seconds)


def last_one_left(server: Process) -> None:
    """Return when the server has reported that its last connection ended; RuntimeError when it does not in time."""
    while server.expect("disconnected", NOTICED_S)["live"]:
        pass


def kill_the_client(victim: Process, server: Process) -> tuple[bool, str, float]:
    victim.send("hold")
    victim.expect("holding", CASE_S)
    victim.popen.kill()
    start = time.monotonic()
    try:
        last_one_left(server)
    except RuntimeError as error:
        return False, str(error), time.monotonic() - start
    return True, "", time.monotonic() - start


def why_unavailable(cell: Cell) -> str:
    """Why the cell can't be run on this machine; empty when it can."""
    if "rpyc5" in {cell.client, cell.server}:
        return install_stock_5()
    return ""


@cache
def install_stock_5() -> str:
    """Put stock rpyc 5.3.1 into a folder of its own, once; what pip said if it could not."""
    if STOCK_5_SITE.is_dir():
        return ""
    STOCK_5_SITE.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tempfile.mkdtemp(dir=STOCK_5_SITE.parent)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--target", unfinished, f"rpyc=={STOCK_5}"]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=PIP_S, check=True)
    except subprocess.SubprocessError as error:
        shutil.rmtree(unfinished)
        complaint = str(getattr(error, "stderr", None) or error).splitlines()[0]
        return f"pip can't install rpyc {STOCK_5}: {complaint}"
    Path(unfinished).rename(STOCK_5_SITE)
    return ""
