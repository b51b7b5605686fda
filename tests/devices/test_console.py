"""The console over a real pty: raw bytes, a history that needs no reader, a port that comes back by itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devices.console import ConsoleOptions, SerialConsole
from devices.simulators.console import BANNER, HELP, PROMPT, ConsoleBoard
from devices.simulators.line import SimulatedLine, Simulator
from gateway.errors import CallTimeout, DeviceUnavailable, OutOfRange


@pytest.fixture
def far_end() -> Iterator[SimulatedLine]:
    with SimulatedLine() as line:
        yield line


@pytest.fixture
def console(far_end: SimulatedLine) -> Iterator[SerialConsole]:
    with SerialConsole("con1", ConsoleOptions(port=far_end.path, history_bytes=1024, timeout_s=5)) as opened:
        yield opened


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Poll until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.005)


def test_a_board_answers_to_what_is_typed() -> None:
    with Simulator(ConsoleBoard()) as simulator:
        with SerialConsole("con1", ConsoleOptions(port=simulator.path)) as console:
            console.write(b"help\r")
            assert console.read_until(HELP + PROMPT).endswith(b"help\r\n" + HELP + PROMPT)
            console.write(b"reboot\r")
            assert console.read_until(PROMPT) == b"reboot\r\n" + BANNER + PROMPT


@pytest.mark.parametrize("data", [bytes(range(256)), b"\x00\x11\x13\r\n\xff"])
def test_bytes_pass_as_they_are_in_both_directions(far_end: SimulatedLine, console: SerialConsole, data: bytes) -> None:
    console.write(data)
    assert os.read(far_end.master, 4096) == data
    os.write(far_end.master, data)
    received = b""
    while len(received) < len(data):
        received += console.read(timeout_s=5)
    assert received == data


def test_a_read_gives_at_most_what_was_asked_for_and_each_byte_once(
    far_end: SimulatedLine, console: SerialConsole
) -> None:
    os.write(far_end.master, b"abcdef")
    until(lambda: console.history()[1] == b"abcdef")
    assert [console.read(4, 5), console.read(4, 5), console.read(4, 0)] == [b"abcd", b"ef", b""]


def test_a_read_waits_for_the_first_byte_and_no_longer_than_it_was_told(
    far_end: SimulatedLine, console: SerialConsole
) -> None:
    begun = time.monotonic()
    assert console.read(timeout_s=0.1) == b""
    assert time.monotonic() - begun >= 0.1
    talker = threading.Timer(0.05, os.write, (far_end.master, b"x"))
    talker.start()
    assert console.read(timeout_s=30) == b"x"
    talker.join()


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_pattern_is_found_however_it_is_cut(far_end: SimulatedLine, console: SerialConsole, cut: int) -> None:
    text = b"..=> ok=> "
    os.write(far_end.master, text[:cut])
    until(lambda: len(console.history()[1]) == cut)
    talker = threading.Timer(0.02, os.write, (far_end.master, text[cut:]))
    talker.start()
    assert console.read_until(b"=> ", timeout_s=30) == b"..=> "
    assert console.read_until(b"=> ", timeout_s=30) == b"ok=> "
    talker.join()


def test_a_pattern_is_taken_literally(far_end: SimulatedLine, console: SerialConsole) -> None:
    os.write(far_end.master, b"aab a.*b")
    assert console.read_until(b"a.*b", timeout_s=30) == b"aab a.*b"


def test_a_pattern_that_does_not_come_leaves_all_to_be_read_and_shows_the_end(
    far_end: SimulatedLine, console: SerialConsole
) -> None:
    os.write(far_end.master, b"login: ")
    until(lambda: console.history()[0] + len(console.history()[1]) == 7)
    with pytest.raises(CallTimeout, match=r"con1: no b'# ' within 0\.05 s; the last that came is b'login: '") as caught:
        console.read_until(b"# ", timeout_s=0.05)
    assert caught.value.tail == b"login: "
    assert console.read(timeout_s=5) == b"login: "


def test_history_is_kept_while_nobody_reads_and_a_late_reader_catches_up(
    far_end: SimulatedLine, console: SerialConsole
) -> None:
    os.write(far_end.master, b"boot\n")
    until(lambda: console.history() == (0, b"boot\n"))
    os.write(far_end.master, b"more\n")
    until(lambda: console.history(since=5) == (5, b"more\n"))
    assert console.history() == (0, b"boot\nmore\n")
    assert console.history(since=10) == (10, b"")
    assert console.read(timeout_s=5) == b"boot\nmore\n"
    assert console.history() == (0, b"boot\nmore\n")


def test_history_is_bounded_and_shows_what_was_missed(far_end: SimulatedLine, console: SerialConsole) -> None:
    for index in range(10):
        os.write(far_end.master, b"%d" % index * 300)
    until(lambda: sum(map(int, (console.history()[0], len(console.history()[1])))) == 3000)
    offset, data = console.history(since=100)
    assert (offset, len(data)) == (3000 - 1024, 1024)
    assert data == b"6" * 124 + b"7" * 300 + b"8" * 300 + b"9" * 300
    assert console.read(10, 5) == b"6" * 10


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        pytest.param("write", ("text",), TypeError, id="text"),
        pytest.param("write", (bytes(1024 * 1024 + 1),), OutOfRange, id="much"),
        pytest.param("read", (0,), OutOfRange, id="none"),
        pytest.param("read", (10**9,), OutOfRange, id="too-many"),
        pytest.param("read", (1, -1), OutOfRange, id="past"),
        pytest.param("read", (1, 61), OutOfRange, id="long"),
        pytest.param("read", (1, "1"), TypeError, id="text-for-time"),
        pytest.param("read_until", ("x",), TypeError, id="text-pattern"),
        pytest.param("read_until", (b"",), OutOfRange, id="empty-pattern"),
        pytest.param("read_until", (bytes(2000),), OutOfRange, id="long-pattern"),
        pytest.param("history", (-1,), OutOfRange, id="before-all"),
        pytest.param("history", (1,), OutOfRange, id="after-all"),
        pytest.param("history", (0.0,), TypeError, id="fraction"),
    ],
)
def test_what_a_caller_gives_is_checked(
    console: SerialConsole, method: str, arguments: tuple[object, ...], error: type[Exception]
) -> None:
    with pytest.raises(error, match="con1"):
        getattr(console, method)(*arguments)


def test_a_reader_that_waits_is_told_when_the_port_vanishes_and_what_came_stays(tmp_path: Path) -> None:
    with Simulator(ConsoleBoard(), link=tmp_path / "board") as simulator:
        console = SerialConsole("con1", ConsoleOptions(port=simulator.path, reopen_s=0.02))
        console.open()
        console.write(b"echo 1\r")
        console.read_until(b"1\r\n1\r\n" + PROMPT)
        unplugging = threading.Timer(0.05, simulator.unplug)
        unplugging.start()
        with pytest.raises(DeviceUnavailable, match=r"con1 is waiting for its port: .* is gone"):
            console.read(timeout_s=30)
        unplugging.join()
        assert console.state == "faulty"
        with pytest.raises(DeviceUnavailable):
            console.write(b"x")
        with pytest.raises(DeviceUnavailable):
            console.read_until(b"x", timeout_s=30)
        offset, data = console.history()
        assert data.endswith(b"1\r\n" + PROMPT)
        simulator.replug()
        until(lambda: console.state == "open")
        console.write(b"echo 2\r")
        assert b"2" in console.read_until(b"2\r\n")
        assert console.history(since=offset + len(data))[0] == offset + len(data)
        console.close()


def test_a_board_that_is_plugged_in_later_is_found(tmp_path: Path) -> None:
    console = SerialConsole("con1", ConsoleOptions(port=str(tmp_path / "board"), reopen_s=0.02))
    with pytest.raises(DeviceUnavailable, match="no such port"):
        console.open()
    assert console.state == "faulty"
    with pytest.raises(DeviceUnavailable, match=r"con1 is waiting for its port: .* no such port"):
        console.write(b"x")
    with pytest.raises(DeviceUnavailable):
        console.open()
    with Simulator(ConsoleBoard(), link=tmp_path / "board"):
        until(lambda: console.state == "open")
        console.write(b"echo here\r")
        assert console.read_until(b"here\r\nhere\r\n")
        console.close()
    assert console.state == "closed"


def test_closing_wakes_a_reader_that_waits(console: SerialConsole) -> None:
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            console.read(timeout_s=60)
        except DeviceUnavailable as closed:
            failures.append(closed)

    waiting = threading.Thread(target=wait)
    waiting.start()
    console.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert "con1 is closed" in str(failures[0])


def test_closing_ends_the_thread_at_once_and_frees_the_port(far_end: SimulatedLine, console: SerialConsole) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        console.close()
        console.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "console-con1"]
        console.open()
        console.open()
        assert len([thread for thread in threading.enumerate() if thread.name == "console-con1"]) == 1
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_what_came_is_still_there_after_closing_and_opening(far_end: SimulatedLine, console: SerialConsole) -> None:
    os.write(far_end.master, b"before")
    until(lambda: console.history()[1] == b"before")
    console.close()
    assert console.history() == (0, b"before")
    console.open()
    os.write(far_end.master, b"after")
    until(lambda: console.history() == (0, b"beforeafter"))


def test_a_line_that_takes_nothing_is_a_timeout(far_end: SimulatedLine) -> None:
    with SerialConsole("con1", ConsoleOptions(port=far_end.path, timeout_s=0.05)) as console:
        with pytest.raises(CallTimeout, match="took nothing"):
            console.write(bytes(100_000))
        os.write(far_end.master, b"still heard")
        assert console.read_until(b"heard", timeout_s=30) == b"still heard"


def test_safe_is_what_the_console_is_in_every_state(console: SerialConsole) -> None:
    console.make_safe()
    console.close()
    console.make_safe()
    assert "Does nothing" in (SerialConsole.make_safe.__doc__ or "")


def test_a_console_says_where_it_is(console: SerialConsole, far_end: SimulatedLine) -> None:
    assert console.identify() == f"serial console on {far_end.path} at 115200 baud"
