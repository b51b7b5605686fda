"""Asking who is there, and where not to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.simulators.console import ConsoleBoard
from devices.simulators.line import Simulator
from devices.simulators.multimeter import IDENTITY, SimulatedMultimeter
from gateway.hardware import Hardware
from gateway.hardware.probe import MAX_ANSWER, Answer, ask, ask_socket, holders, identity_in, reason_not_to_ask
from hil.faults import End
from hil.instrument import SimulatedInstrument
from tests.hardware.machine import Machine

LIMIT_S = 30.0


@pytest.mark.parametrize(
    ("data", "identity"),
    [
        (b"KEITHLEY,2000,1,A01\n", "KEITHLEY,2000,1,A01"),
        (b"late 1.0\r\nKEITHLEY,2000,1,A01\r\n", "KEITHLEY,2000,1,A01"),
        (b"ACME,PS-1,7,1.0,extra\r", "ACME,PS-1,7,1.0,extra"),
        (b"KEITHLEY,2000,1,A01", None),
        (b"KEITHLEY,2000,1\n", None),
        (b"\xff\xfe,,,\x80abc\n", None),
        (b",,,,,,,,,\n", None),
        (b"*IDN?\n", None),
        (b"A" * 300 + b",,,\n", None),
        (b"\x1b[2J,b,c,defg\n", None),
        (b"", None),
    ],
)
def test_an_identity_is_a_whole_line_of_four_printable_fields(data: bytes, identity: str | None) -> None:
    assert identity_in(data) == identity


@given(st.binary(max_size=MAX_ANSWER))
def test_no_bytes_are_anything_but_a_printable_identity_or_none(data: bytes) -> None:
    identity = identity_in(data)
    assert identity is None or identity.isprintable()


@pytest.fixture
def meter() -> Iterator[str]:
    with Simulator(SimulatedMultimeter()) as simulator:
        yield simulator.path


def test_an_instrument_on_a_serial_line_is_asked(meter: str) -> None:
    assert ask(Hardware(port=meter), [9600], limit_s=LIMIT_S) == Answer(IDENTITY, 9600)


def test_the_speed_is_found_where_the_wrong_one_gives_noise() -> None:
    with SimulatedInstrument(SimulatedMultimeter(), baud="follow") as instrument:
        subprocess.run(["stty", "-F", instrument.wire.port(End.B), "57600"], check=True)
        found = ask(Hardware(port=instrument.port), [9600, 115_200, 57_600], limit_s=6.0)
    assert found == Answer(IDENTITY, 57_600)


def test_one_that_says_nothing_or_something_else_is_given_up_in_time() -> None:
    with Simulator(ConsoleBoard()) as board:
        began = monotonic()
        assert ask(Hardware(port=board.path), limit_s=0.3) == "no answer to *IDN?"
        assert monotonic() - began < 10


def test_a_port_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    assert isinstance(ask(Hardware(port=str(tmp_path / "ttyUSB0"))), str)


def test_a_file_that_is_no_port_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no serial port" in str(ask(Hardware(port=str(tmp_path / "file"))))


def test_what_another_program_has_open_is_not_asked_and_the_program_is_named(meter: str) -> None:
    script = "import sys; held = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, meter], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"open\n"
        (named,) = holders(meter)
        assert named.endswith(f"({holder.pid})")
        assert ask(Hardware(port=meter), [9600]) == f"in use by {named}"
        holder.stdin.close()
    assert holders(meter) == []
    assert isinstance(ask(Hardware(port=meter), [9600], limit_s=LIMIT_S), Answer)


def test_a_port_with_a_lock_file_is_not_asked_unless_its_program_is_gone(machine: Machine) -> None:
    port = Hardware(port=machine.tty("ttyUSB0"))
    lock = machine.root / "run/lock/LCK..ttyUSB0"
    lock.parent.mkdir(parents=True)
    lock.write_text("      4711\n")
    assert reason_not_to_ask(port, machine.root) == ""
    (machine.root / "proc/4711").mkdir()
    (machine.root / "proc/4711/comm").write_text("minicom\n")
    assert reason_not_to_ask(port, machine.root) == f"locked by minicom ({lock})"
    lock.write_bytes(b"\xff\xff")
    assert reason_not_to_ask(port, machine.root) == f"locked ({lock})"


def test_the_kernels_console_is_not_asked(machine: Machine) -> None:
    port = Hardware(port=machine.uart("ttyAMA0", kind=32))
    assert reason_not_to_ask(port, machine.root) == ""
    (machine.root / "sys/class/tty/console").mkdir()
    (machine.root / "sys/class/tty/console/active").write_text("tty0 ttyAMA0\n")
    assert reason_not_to_ask(port, machine.root) == "the kernel's console is on it"


def test_a_usb_device_without_a_port_is_not_asked() -> None:
    assert reason_not_to_ask(Hardware(port="/dev/bus/usb/001/002", kind="usb")) == "it has no port that could be asked"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_port_that_this_user_may_not_open_is_not_asked(machine: Machine) -> None:
    port = Path(machine.tty("ttyUSB0"))
    port.chmod(0)
    assert reason_not_to_ask(Hardware(port=str(port)), machine.root).startswith("this user may not open it")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (b"ACME,PS-1,7,1.0\n", Answer("ACME,PS-1,7,1.0")),
        (b"", "no answer to *IDN?"),
        (b"x" * 2 * MAX_ANSWER, "it answers *IDN? with something else"),
    ],
)
def test_a_socket_is_asked(said: bytes, found: Answer | str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                assert peer.recv(100) == b"*IDN?\n"
                peer.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        assert ask_socket("127.0.0.1", server.getsockname()[1], limit_s=10.0) == found
        thread.join()


def test_a_socket_that_is_silent_or_not_there_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ask_socket("127.0.0.1", server.getsockname()[1], limit_s=0.1) == "no answer to *IDN?"
        port = server.getsockname()[1]
    assert str(ask_socket("127.0.0.1", port)).startswith("no connection: ")
