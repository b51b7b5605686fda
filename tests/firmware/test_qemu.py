"""Real firmware on a Cortex-M in QEMU: by a gateway, by our client, by a stock rpyc, and when things go wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic

import pytest

import gateway
from firmware_bridge.host import opened
from gateway.errors import (
    AccessDenied,
    DeviceError,
    DeviceUnavailable,
    LinkDown,
    NotLeased,
    OutcomeUnknown,
    OutOfRange,
    ProtocolError,
)
from gateway.server.bridge import Host
from gateway.server.reception import Reception
from gateway.server.registry import GatewayService
from hil import End, FaultPlan, PtyWire
from hil.qemu import QemuBoard
from tests.server.bridged import wait_until

DEAD_MAN_MS = 2000
LATE = 10
"""A machine that stands still for a moment is no failure: bounds of time are this much wider than what is meant."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def board(stack: ExitStack, images: Path) -> QemuBoard:
    return stack.enter_context(QemuBoard(images / "link.elf"))


def connect(stack: ExitStack, url: str) -> gateway.Connection:
    return stack.enter_context(closing(gateway.connect(url, config={"sync_request_timeout": 20})))


class Served:
    """A gateway in front of a board, and a client of it."""

    def __init__(self, stack: ExitStack, url: str) -> None:
        self.host = Host("board", url)
        stack.callback(self.host.close)
        self.host.start()
        service = GatewayService({}, hosts=[self.host])
        stack.callback(service.keeper.close)
        service.keeper.start()
        introduce = Reception(service.keeper).introduce
        server = stack.enter_context(gateway.Server(service, "tcp://127.0.0.1:0", strict=True, introduce=introduce))
        assert self.host.wait_up(10)
        self.url = server.url
        self.conn = connect(stack, server.url)
        self.board = self.conn.root.board


@pytest.fixture
def served(stack: ExitStack, board: QemuBoard) -> Served:
    return Served(stack, board.url)


def test_the_build_is_small_and_says_so(build_images: Callable[..., tuple[Path, str]]) -> None:
    _, printed = build_images()
    found = re.findall(r"(\w+)\.elf: (\d+) bytes of flash, (\d+) of them the library; (\d+) bytes of RAM", printed)
    sizes = {name: (int(flash), int(library), int(ram)) for name, flash, library, ram in found}
    assert sizes.keys() == {"link", "plain", "raw"}, printed
    flash, library, ram = sizes["link"]
    assert flash <= 12 * 1024
    assert ram <= 3 * 1024
    assert 4000 < library < flash
    assert sizes["plain"][1] <= 8 * 1024, "the link and the protocol alone"
    assert sizes["raw"][1] < sizes["plain"][1]


# -- our own client, with nothing between ------------------------------------------------------------------------------


def test_a_board_that_does_not_describe_itself_can_be_called(stack: ExitStack, images: Path) -> None:
    board = stack.enter_context(QemuBoard(images / "plain.elf"))
    root = connect(stack, board.url).root
    root.board.set_pins(5)
    assert root.board.pins == 5
    board.wait_for("pins 5")
    assert set(dir(root.board)) >= {"set_pins", "pins", "set_pwm"}
    with pytest.raises(AttributeError, match="'describe' is not exposed"):
        root.describe()


def test_every_function_does_what_it_says(stack: ExitStack, board: QemuBoard) -> None:
    device = connect(stack, board.url).root.board
    device.set_pins(0b10100101)
    assert device.pins == 0b10100101
    board.wait_for("pins 165")
    device.set_pwm(3, 0.25)
    board.wait_for("pwm 250")
    device.set_pwm(channel=0, duty=1)
    board.wait_for("pwm 1000")
    assert [device.count(), device.count(), device.counted] == [1, 2, 2]
    assert device.add(-5, 1000) == 995
    first = device.ramp
    wait_until(lambda: device.ramp != first, "it rises")
    assert 0 <= first < 3300
    device.busy(5)
    with pytest.raises(DeviceError, match="fault is hang, reset or overrun"):
        device.fault("smoke")


def test_what_is_not_permitted_is_refused_before_anything_is_done(stack: ExitStack, board: QemuBoard) -> None:
    device = connect(stack, board.url).root.board
    before = len(board.told)
    with pytest.raises(OutOfRange, match="channel must be from 0 to 3"):
        device.set_pwm(4, 0.5)
    with pytest.raises(OutOfRange, match="duty must be from 0.0 to 1.0"):
        device.set_pwm(0, 1.01)
    with pytest.raises(TypeError, match="duty must be of type float"):
        device.set_pwm(0, "half")
    with pytest.raises(AccessDenied, match="'reboot' is not exposed"):
        device.reboot()
    assert len(board.told) == before


def test_many_threads_share_the_one_stream(stack: ExitStack, board: QemuBoard) -> None:
    device = connect(stack, board.url).root.board
    wrong: list[object] = []

    def ask(mine: int) -> None:
        wrong.extend(number for number in range(100) if device.add(mine, number) != mine + number)

    threads = [threading.Thread(target=ask, args=(1000 * each,)) for each in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_it_says_of_itself_is_typed_without_a_gateway(board: QemuBoard, stack: ExitStack) -> None:
    with opened(board.url) as found:
        assert (found.name, found.driver, found.safe_state) == (
            "board",
            "ExampleBoard",
            "all pins low, all duty cycles 0",
        )
        assert found.identity == "firmware 1.0.0, lm3s6965evb"
        members = {member.name: member for member in found.members}
        assert members["set_pwm"].signature == "(channel: int, duty: float) -> None"
        assert (members["ramp"].unit, members["ramp"].kind, members["ramp"].access) == ("mV", "property", "read")
        assert found.device.add(2, 3) == 5
    service = stack.enter_context(gateway.Server(gateway.Service, "tcp://127.0.0.1:0"))
    with pytest.raises(ProtocolError, match="does not describe itself as a board does"), opened(service.url):
        pass


# -- a stock client ----------------------------------------------------------------------------------------------------

STOCK = """
import os
import sys
import rpyc
from rpyc.core.stream import SocketStream

url = sys.argv[1]
if sys.argv[2] == "raw":
    import socket
    host, port = url.rsplit("/", 1)[1].split(":")
    conn = rpyc.connect_stream(SocketStream(socket.create_connection((host, int(port)))))
else:
    host, port = url.rsplit("/", 1)[1].split(":")
    conn = rpyc.connect(host, int(port))
board = conn.root.board
print(board.add(2, 3), board.ramp >= 0, board.counted)
assert conn.root.get_service_name()
print("add" in dir(board), type(board.add).__name__, board == board, hash(board) is not None)
for wrong in (lambda: board.add(1, "2"), lambda: board.nope, lambda: board.add([1], 2)):
    try:
        print(wrong())
    except Exception as error:
        print(type(error).__name__, getattr(error, "code", ""))
if sys.argv[2] == "raw":
    board.set_pwm(3, 0.25)
    board.set_pins(levels=7)
    print(board.pins, [board.count() for _ in range(20)][-1])
    assert rpyc.async_(board.add)(1, 2).value == 3
    conn.ping()
    sys.stdout.flush()
    os._exit(0)  # its close waits for an end of file, which a board does not send
"""


def stock(*words: str) -> str:
    pytest.importorskip("rpyc")
    done = subprocess.run(
        [sys.executable, "-c", STOCK, *words], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.interop
def test_a_stock_client_talks_to_the_board_itself_in_plain_frames(stack: ExitStack, images: Path) -> None:
    board = stack.enter_context(QemuBoard(images / "raw.elf"))
    board.wait_for("safe")
    said = stock(board.url, "raw").splitlines()
    assert said[0] == "5 True 0"
    assert said[1].startswith("True ")
    assert said[2:5] == ["TypeError type-error", "AttributeError access-denied", "TypeError bad-request"]
    assert said[5] == "7 20"
    board.wait_for("pwm 250")
    again = stock(board.url, "raw").splitlines()  # the next one, after the first is gone
    assert again[0] == "5 True 20"


@pytest.mark.interop
def test_a_stock_client_talks_to_the_board_through_the_gateway(served: Served) -> None:
    said = stock(served.url, "gateway").splitlines()
    assert said[0] == "5 True 0"
    assert said[2:4] == ["TypeError type-error", "AttributeError access-denied"]


# -- through a gateway -------------------------------------------------------------------------------------------------


def test_the_board_describes_itself(served: Served) -> None:
    described = served.conn.root.describe("board")
    assert (described["driver"], described["identity"]) == ("ExampleBoard", "firmware 1.0.0, lm3s6965evb")
    assert described["safe_state"] == "all pins low, all duty cycles 0"
    members = {row["name"]: row for row in described["members"]}
    assert members["set_pwm"]["signature"] == "(channel: int, duty: float) -> None"
    assert (members["ramp"]["unit"], members["ramp"]["kind"]) == ("mV", "property")
    assert served.board.add(2, 3) == 5


def test_control_takes_a_lease_whose_end_makes_it_safe(served: Served, board: QemuBoard) -> None:
    with pytest.raises(NotLeased):
        served.board.set_pins(1)
    with served.conn.lease("board") as leased:
        leased["board"].set_pins(1)
        assert served.board.pins == 1
    board.wait_for("safe", after=2)
    wait_until(lambda: served.board.pins == 0, "the pins are low")


def test_a_reset_in_the_middle_of_a_call_is_an_error_and_the_board_is_back_soon(
    served: Served, board: QemuBoard
) -> None:
    with served.conn.lease("board") as leased:
        leased["board"].set_pins(3)
        waiting = gateway.async_(leased["board"].busy)(8000)
        wait_until(lambda: served.host._session is not None and not waiting.ready, "it is under way")
        threading.Event().wait(0.1)
        before, begin = len(board.told), monotonic()
        board.reset()
        with pytest.raises(OutcomeUnknown):
            waiting.value  # noqa: B018
        told = monotonic() - begin
        ran = board.wait_for("safe", after=before)
        until_it_answers(served)
        back = monotonic() - ran.at_s
        print(f"reset in mid-call: error after {told:.3f} s, first good call {back:.3f} s after the board ran")
        assert told < 0.5 * LATE
        assert back < 1.0 * LATE
        assert served.board.counted == 0
    (absence,) = served.conn.root.host_info("board")["absences"]
    assert "began anew" in absence["why"]


def until_it_answers(served: Served) -> None:
    deadline = monotonic() + 20
    while True:
        try:
            served.board.add(1, 1)
            return
        except (DeviceUnavailable, OutcomeUnknown):
            assert monotonic() < deadline
            threading.Event().wait(0.002)


@pytest.mark.slow
def test_a_board_that_hangs_is_noticed_and_one_that_comes_back_is_found(served: Served, board: QemuBoard) -> None:
    board.stop()
    wait_until(lambda: not served.host.is_up, "the silence was noticed", within_s=30)
    with pytest.raises(DeviceUnavailable):
        served.board.add(1, 1)
    board.go_on()
    until_it_answers(served)


def test_faults_of_the_firmware_itself(served: Served, board: QemuBoard) -> None:
    with served.conn.lease("board") as leased:
        before = len(board.told)
        with pytest.raises(OutcomeUnknown):
            leased["board"].fault("reset")
        board.wait_for("safe", after=before)
        until_it_answers(served)
        leased["board"].fault("overrun")
        until_it_answers(served)  # what was lost was sent again
        assert served.board.overruns >= 1


def test_another_image_is_another_board_to_the_gateway(
    stack: ExitStack, images: Path, build_images: Callable[..., tuple[Path, str]]
) -> None:
    other, _ = build_images("-DFIRMWARE=2.0.0")
    wire = stack.enter_context(PtyWire())
    with QemuBoard(images / "link.elf", wire.port(End.B)):
        served = Served(stack, wire.channel_url(End.A, "baudrate=3000000"))
        assert served.conn.root.describe("board")["identity"] == "firmware 1.0.0, lm3s6965evb"
    with QemuBoard(other / "link.elf", wire.port(End.B)):
        until_it_answers(served)
        wait_until(
            lambda: served.conn.root.describe("board")["identity"] == "firmware 2.0.0, lm3s6965evb", "it is told anew"
        )


# -- the dead man ------------------------------------------------------------------------------------------------------

HOLD = """
import sys
import gateway

board = gateway.connect(sys.argv[1]).root.board
board.set_pins(255)
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_the_outputs_are_safe_when_the_host_is_stopped(stack: ExitStack, board: QemuBoard) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOLD, board.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == "holding\n"
        board.wait_for("pins 255")
        threading.Event().wait(2.5)  # an idle host is there: it answers when it is asked
        before = len(board.told)
        assert before == 2
        begin = monotonic()
        os.kill(host.pid, signal.SIGSTOP)
        safe = board.wait_for("safe", 20, after=before)
        took_ms = (safe.at_s - begin) * 1000
        print(f"dead man: outputs safe {took_ms:.0f} ms after the host was stopped")
        assert took_ms >= DEAD_MAN_MS - 600  # it is not safe too early: what it heard last was just before
        assert took_ms <= (DEAD_MAN_MS + 50) * 2
    finally:
        host.kill()
        host.communicate()


def test_the_outputs_are_safe_as_soon_as_the_host_leaves_or_begins_anew(stack: ExitStack, board: QemuBoard) -> None:
    conn = gateway.connect(board.url)
    conn.root.board.set_pins(1)
    board.wait_for("pins 1")
    conn.close()
    board.wait_for("safe 0", 1, after=2)  # long before the dead man


# -- a line with faults ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_call_runs_twice_over_a_line_that_damages_bytes(stack: ExitStack, images: Path) -> None:
    wire = stack.enter_context(PtyWire(baud=921600, faults=FaultPlan(seed=5, flip=1e-3)))
    stack.enter_context(QemuBoard(images / "link.elf", wire.port(End.B)))
    device = connect(stack, wire.channel_url(End.A, "baudrate=921600")).root.board
    done = unknown = 0
    for _ in range(400):
        try:
            device.count()
            done += 1
        except (LinkDown, OutcomeUnknown):
            unknown += 1
            device = connect(stack, wire.channel_url(End.A, "baudrate=921600")).root.board
    assert done >= 350
    assert done <= device.counted <= done + unknown
    assert wire.sent(End.A) > 400 * 20


def test_noise_on_the_line_does_not_stop_the_board(stack: ExitStack, images: Path) -> None:
    board = stack.enter_context(QemuBoard(images / "link.elf"))
    board.wait_for("safe")
    with socket.create_connection(board.address) as sock:
        sock.sendall(b"\x7e" * 5000 + bytes(range(256)) * 50)
    device = connect(stack, board.url).root.board
    assert device.add(1, 2) == 3
