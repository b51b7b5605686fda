"""Other processes for the discovery tests, and network namespaces where the machine lets us make them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE_S = 15.0


class Peer:
    """A running `peer.py`; what it says is read by a thread, so that no test can hang on it."""

    def __init__(self, role: str, prefix: Sequence[str], **wanted: Any) -> None:
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        settings = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        if prefix:
            # It runs in a namespace of the test, where every interface is the test's own.
            settings.pop("INSTRUMENT_GATEWAY_INTERFACES", None)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(HERE / "peer.py"), role, json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=settings,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def said(self, wanted: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """The next line that is wanted. Fails when none comes."""
        seen: list[dict[str, Any]] = []
        end = time.monotonic() + PATIENCE_S
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._said.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                pytest.fail(f"the peer ended; it had said {seen}")
            if wanted(line):
                return line
            seen.append(line)
        pytest.fail(f"the peer did not say it within {PATIENCE_S} s; it said {seen}")

    def advertised(self) -> str:
        """The name it has on the network, once it has one."""
        return str(self.said(lambda line: line.get("name") is not None)["name"])

    def tell(self, **facts: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(facts) + "\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """Close its standard input, which ends it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> None:
        """Stop it and wait for it to go."""
        self.stop()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join()
            assert self.process.stdout is not None
            self.process.stdout.close()


class Namespaces:
    """Network namespaces of this test, removed at its end."""

    def __init__(self) -> None:
        self._made: list[str] = []

    def make(self) -> str:
        name = f"igw-{secrets.token_hex(4)}"
        ip("netns", "add", name)
        self._made.append(name)
        return name

    def join(self, one: str, one_address: str, other: str, other_address: str) -> None:
        """A cable between two of them: a veth pair, with an address (`10.77.0.1/24`) at each end."""
        tail = secrets.token_hex(3)
        ends = (f"va{tail}", one, one_address), (f"vb{tail}", other, other_address)
        ip("link", "add", ends[0][0], "netns", one, "type", "veth", "peer", "name", ends[1][0], "netns", other)
        for device, namespace, address in ends:
            flags = ["nodad"] if ":" in address else []
            ip("-n", namespace, "addr", "add", address, "dev", device, *flags)
            ip("-n", namespace, "link", "set", device, "up")

    def loopback_up(self, name: str) -> None:
        ip("-n", name, "link", "set", "lo", "up")

    def inside(self, name: str) -> list[str]:
        """The words to put before a command that runs in the namespace."""
        return ["ip", "netns", "exec", name]

    def remove(self) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_no_namespaces() -> str | None:
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"igw-{secrets.token_hex(4)}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as problem:
        return f"`ip netns add` does not work here: {str(problem.stderr).strip()}"
    try:
        ip("-n", name, "link", "add", "igw-probe", "type", "veth", "peer", "name", "igw-probe2")
    except subprocess.CalledProcessError as problem:
        return f"veth pairs can't be made here: {str(problem.stderr).strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return None


@contextlib.contextmanager
def peers() -> Iterator[Callable[..., Peer]]:
    started: list[Peer] = []

    def start(role: str, *, prefix: Sequence[str] = (), **wanted: Any) -> Peer:
        started.append(Peer(role, prefix, **wanted))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.stop()
        for one in started:
            one.end()


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Start a peer: `peer("advertise", name="bench", interfaces=["127.0.0.1"], prefix=[...])`."""
    with peers() as start:
        yield start


@pytest.fixture(scope="module")
def lasting_peer() -> Iterator[Callable[..., Peer]]:
    """The same for peers that several tests of a module look at."""
    with peers() as start:
        yield start


@pytest.fixture(scope="session")
def no_namespaces() -> str | None:
    return why_no_namespaces()


@pytest.fixture(scope="module")
def namespaces(no_namespaces: str | None) -> Iterator[Namespaces]:
    if no_namespaces is not None:
        pytest.skip(no_namespaces)
    made = Namespaces()
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def aside() -> Iterator[ThreadPoolExecutor]:
    """For what takes its time and needs no watching: it goes on while other tests run."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def a_name() -> str:
    """A name nobody else on this machine's loopback has, whatever runs beside the tests."""
    return f"bench {secrets.token_hex(4)}"
