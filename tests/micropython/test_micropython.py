"""The MicroPython library in a real MicroPython: golden vectors, our client, a stock one, a gateway, and faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest

import gateway
from gateway.errors import (
    AccessDenied,
    DeviceError,
    DeviceUnavailable,
    LinkDown,
    OutcomeUnknown,
    OutOfRange,
)
from gateway.server.bridge import Host
from gateway.server.registry import GatewayService
from hil import End, FaultPlan, PtyWire
from tests.micropython.conftest import LIBRARY
from tests.server.bridged import wait_until

HERE = Path(__file__).parent
EXAMPLE = LIBRARY / "examples" / "unix" / "main.py"
Run = Callable[..., "subprocess.Popen[str]"]
FAST = "baudrate=3000000"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Bench:
    """A board at one end of a wire."""

    def __init__(self, stack: ExitStack, run: Run, framing: str = "link", **wire: Any) -> None:
        self.stack, self.framing, self._run = stack, framing, run
        self.wire = stack.enter_context(PtyWire(**wire))
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        self.process = self._run(EXAMPLE, self.wire.port(End.B), self.framing)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self.process

    def restart(self) -> None:
        self.process.kill()
        self.process.wait()
        self.start()

    @property
    def url(self) -> str:
        return self.wire.channel_url(End.A, f"{FAST}&framing={self.framing}")

    def connect(self) -> gateway.Connection:
        conn = gateway.connect(self.url, config={"sync_request_timeout": 20})
        return self.stack.enter_context(closing(conn))


def output_of(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


# -- by itself ---------------------------------------------------------------------------------------------------------


def test_the_golden_vectors_hold_in_micropython(run: Run) -> None:
    said = json.loads(output_of(run(HERE / "vectors.py", str(HERE.parent / "vectors"), heap="8m")))
    assert said["brine"]["wrong"] == []
    assert said["brine"]["same"] >= 70
    unheld = ("NotImplemented", "...", "slice", "frozenset", "(", "j", "10000", "-1000", "99999", "complex", "10**")
    assert [value for value in said["brine"]["refused"] if not any(each in value for each in unheld)] == []
    assert said["exchanges"]["wrong"] == []
    assert len(said["exchanges"]["good"]) >= 6
    assert said["refused"] == []


def test_the_parts_of_a_chip_are_served_and_made_safe(run: Run) -> None:
    assert output_of(run(HERE / "fake_chip.py")).splitlines()[-1] == "safe"


def test_a_micropython_without_pins_says_so(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("from instrument_board import Board\nBoard().pwm('heater', 4)\n")
    said, _ = run(script).communicate(timeout=30)
    assert "this MicroPython has no machine.P" in said


# -- our client --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["link", "raw"])
def test_functions_and_properties(stack: ExitStack, run: Run, framing: str) -> None:
    bench = Bench(stack, run, framing)
    board = bench.connect().root.board
    assert board.add(2, 3) == 5
    assert board.add(a=-(2**70), b=1) == 1 - 2**70
    assert (board.level, board.count(), board.count(), board.counted) == (0.0, 1, 2, 2)
    board.level = 2.5
    assert board.level == 2.5
    assert board.echo("grün" * 100) == "grün" * 100
    with pytest.raises(OutOfRange, match="level must be from 0.0 to 5.0"):
        board.level = 5.1
    with pytest.raises(OutOfRange):
        board.level = float("nan")
    with pytest.raises(DeviceError, match="it smokes"):
        board.fail()
    with pytest.raises(TypeError, match="a must be of type int"):
        board.add("1", 2)
    with pytest.raises(TypeError, match="b is missing"):
        board.add(1)
    with pytest.raises(AccessDenied, match="'reboot' is not exposed for read"):
        board.reboot()
    assert "count" in dir(board)


STOCK = """
import os, sys, rpyc
from rpyc.core.stream import PipeStream

port = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
import tty
tty.setraw(port)
conn = rpyc.connect_stream(PipeStream(os.fdopen(os.dup(port), "rb", 0), os.fdopen(port, "wb", 0)))
board = conn.root.board
print(board.add(2, 3), board.count(), board.level)
for wrong in (lambda: board.add(1, "2"), lambda: board.nope):
    try:
        wrong()
    except Exception as error:
        print(type(error).__name__, error.code)
conn.ping()
sys.stdout.flush()
os._exit(0)  # its close waits for an end of file, which a tty does not have
"""


@pytest.mark.interop
def test_a_stock_client_talks_to_it_in_plain_frames(stack: ExitStack, run: Run) -> None:
    pytest.importorskip("rpyc")
    bench = Bench(stack, run, "raw")
    done = subprocess.run(
        [sys.executable, "-c", STOCK, bench.wire.port(End.A)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["5 1 0.0", "TypeError type-error", "AttributeError access-denied"]


# -- through a gateway -------------------------------------------------------------------------------------------------


def test_a_gateway_serves_it_and_finds_it_again_after_a_reset(stack: ExitStack, run: Run) -> None:
    bench = Bench(stack, run)
    host = Host("stage", bench.url)
    stack.callback(host.close)
    host.start()
    service = GatewayService({}, hosts=[host])
    server = stack.enter_context(gateway.Server(service, "tcp://127.0.0.1:0", strict=True))
    assert host.wait_up(10)
    root = stack.enter_context(closing(gateway.connect(server.url))).root
    described = root.describe("stage")
    assert (described["driver"], described["identity"]) == ("UnixExample", "firmware 1.0.0, unix")
    rows = {row["name"]: row for row in described["members"]}
    assert (rows["level"]["unit"], rows["level"]["settable"], rows["level"]["doc"]) == (
        "V",
        True,
        "A voltage that is kept.\n\nlevel: 0.0 to 5.0",
    )
    assert rows["add"]["signature"] == "(a: int, b: int) -> int"
    stage = root.stage
    assert [stage.count(), stage.count()] == [1, 2]
    bench.restart()
    deadline = monotonic() + 20
    while True:
        try:
            assert stage.count() == 1
            break
        except (DeviceUnavailable, OutcomeUnknown):
            assert monotonic() < deadline
            Event().wait(0.005)


# -- safety and faults -------------------------------------------------------------------------------------------------

HOLD = """
import sys
import gateway

board = gateway.connect(sys.argv[1]).root.board
board.level = 4.0
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_the_dead_man_makes_it_safe(stack: ExitStack, run: Run) -> None:
    bench = Bench(stack, run)
    host = subprocess.Popen(
        [sys.executable, "-c", HOLD, bench.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == "holding\n"
        Event().wait(2.5)  # an idle host is there: it answers when it is asked
        os.kill(host.pid, signal.SIGSTOP)
        Event().wait(2.5)
    finally:
        host.kill()
        host.communicate()
    board = bench.connect().root.board
    assert board.level == 0.0
    assert board.safes >= 2


def test_it_is_safe_as_soon_as_the_host_leaves(stack: ExitStack, run: Run) -> None:
    bench = Bench(stack, run)
    with closing(gateway.connect(bench.url)) as conn:
        conn.root.board.level = 3.0
        safes = conn.root.board.safes
    board = bench.connect().root.board
    assert (board.level, board.safes > safes) == (0.0, True)


@pytest.mark.slow
def test_no_call_runs_twice_over_a_line_with_faults(stack: ExitStack, run: Run) -> None:
    bench = Bench(stack, run, faults=FaultPlan(seed=3, flip=1e-3))
    board = bench.connect().root.board
    done = unknown = 0
    for _ in range(300):
        try:
            board.count()
            done += 1
        except (LinkDown, OutcomeUnknown):
            unknown += 1
            board = bench.connect().root.board
    assert done >= 250
    assert done <= board.counted <= done + unknown


def test_a_restart_in_the_middle_of_a_call_is_an_error(stack: ExitStack, run: Run) -> None:
    bench = Bench(stack, run)
    conn = bench.connect()
    count = gateway.async_(conn.root.board.count)
    assert conn.root.board.add(1, 1) == 2
    os.kill(bench.process.pid, signal.SIGSTOP)
    waiting = count()
    bench.restart()
    with pytest.raises(LinkDown):
        waiting.value  # noqa: B018
    wait_until(lambda: bench.process.poll() is None, "it runs")
    with pytest.raises(LinkDown):
        conn.root.board.add(1, 1)
    assert bench.connect().root.board.counted == 0
