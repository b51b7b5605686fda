"""The command in processes of its own, on a network where no other gateway is, and a bench for it to talk to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 30.0
GATEWAY = [sys.executable, "-m", "gateway"]

if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the commands would inherit that it is ignored


@dataclass(frozen=True)
class Network:
    """Where the commands run."""

    prefix: list[str]
    """The words to put before a command; none where this system lets nobody make a network of its own."""

    @property
    def is_empty(self) -> bool:
        """Whether nobody else's gateways are on it."""
        return bool(self.prefix)


@dataclass
class Command:
    """Runs `gateway` as a user does."""

    network: Network
    folder: Path

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INSTRUMENT_", "NO_COLOR"))}
        own = {name: str(self.folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY")}
        return {**kept, **own, "INSTRUMENT_GATEWAY_INTERFACES": "127.0.0.1", **changes}

    def line(self, *words: str) -> list[str]:
        """The whole command line."""
        return [*self.network.prefix, *GATEWAY, *words]

    def __call__(self, *words: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.line(*words),
            check=False,
            capture_output=True,
            text=True,
            input=typed,
            timeout=PATIENCE_S,
            cwd=self.folder,
            env=self.environment(**environment),
        )

    @contextmanager
    def running(self, *words: str, **environment: str) -> Iterator[Running]:
        """The command while it runs; killed at the end if it still does."""
        with (
            (self.folder / "stderr").open("w+", encoding="utf-8") as errors,
            subprocess.Popen(
                self.line(*words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.folder,
                env=self.environment(**environment),
            ) as process,
        ):
            try:
                yield Running(process, errors)
            finally:
                process.kill()


@dataclass
class Running:
    """A command that goes on until it is told to stop."""

    process: subprocess.Popen[str]
    errors: Any

    def lines_until(self, last: str) -> str:
        """What it prints up to the line that has `last` in it."""
        assert self.process.stdout is not None
        printed = ""
        for line in self.process.stdout:
            printed += line
            if last in line:
                return printed
        raise AssertionError(f"ended without {last!r}: {printed}{self.complaints()}")

    def document(self) -> dict[str, Any]:
        """The JSON document that it prints once it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.complaints()
        document: dict[str, Any] = json.loads(line)
        return document

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send the signal; the exit code, and how long the end took."""
        begin = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S), time.monotonic() - begin

    def rest(self) -> str:
        """What it printed since."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def complaints(self) -> str:
        """Its stderr so far."""
        self.errors.flush()
        self.errors.seek(0)
        text: str = self.errors.read()
        return text


@contextmanager
def _network() -> Iterator[Network]:
    user = [] if os.geteuid() == 0 else ["--user"]
    own = ["unshare", *user, *(["--map-root-user"] if user else []), "--net"]
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip")):
        yield Network([])
        return
    script = "ip link set lo up && echo up && exec cat"
    with subprocess.Popen([*own, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"up\n":
            yield Network([])
        else:
            preserve = ["--preserve-credentials"] if user else []
            yield Network(["nsenter", f"--target={keeper.pid}", *user, *preserve, "--net", "--"])
        assert keeper.stdin is not None
        keeper.stdin.close()


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    with _network() as made:
        yield made


@pytest.fixture
def empty_network(network: Network) -> None:
    """For tests of what is found: elsewhere other gateways may answer."""
    if not network.is_empty:
        pytest.skip("this system lets nobody make a network of its own (unshare, nsenter and ip are needed)")


@pytest.fixture
def command(network: Network, tmp_path: Path) -> Command:
    """The command, with nothing but its folder."""
    return Command(network, tmp_path)


@pytest.fixture(scope="session")
def bench(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A gateway with the demo's bench, called `cli-bench`: what it says about itself."""
    folder = tmp_path_factory.mktemp("bench")
    words = ("demo", "--name", "cli-bench", "--listen", "tcp://127.0.0.1:0", "--json")
    with Command(network, folder).running(*words) as running:
        document = running.document()
        assert document["advertised"], document
        yield document
        code, _ = running.stop()
        assert code == 0, running.complaints()


@pytest.fixture
def ask(command: Command, bench: dict[str, Any]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, talking to the bench."""

    def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return command(*words, **{"INSTRUMENT_GATEWAY": bench["url"], **settings})

    return run


@pytest.fixture
def lease(command: Command, bench: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The lease of the bench's psu1, held while the test runs: the environment of a command that uses it."""
    script = "echo $INSTRUMENT_GATEWAY_LEASE; exec sleep 100"
    with command.running("lease", "psu1", "--gateway", bench["url"], "--", "sh", "-c", script) as running:
        assert running.process.stdout is not None
        token = running.process.stdout.readline().strip()
        assert token, running.complaints()
        yield {"INSTRUMENT_GATEWAY_LEASE": token}
        assert running.stop()[0] == 128 + signal.SIGTERM


@pytest.fixture
def at_once() -> Callable[..., list[subprocess.CompletedProcess[str]]]:
    """Runs commands side by side: most of what they take is waiting."""

    def run(*commands: Callable[[], subprocess.CompletedProcess[str]]) -> list[subprocess.CompletedProcess[str]]:
        with ThreadPoolExecutor() as pool:
            return [future.result() for future in [pool.submit(each) for each in commands]]

    return run
