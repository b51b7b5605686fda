"""Ports: how they are opened and given back, what their loss looks like, and which one is meant."""

from __future__ import annotations

import errno
import os
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from serial import PortNotOpenError, SerialException, SerialTimeoutException, serialposix
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from gateway.channels import listen, open_channel, parse_url
from gateway.channels import ports as ports_module
from gateway.channels.port_names import Wanted, find_port
from gateway.channels.ports import SocketPort, drain, port_lost
from gateway.channels.serial import open_port
from gateway.errors import Ambiguous, ConfigError, LinkDown, Unreachable
from hil import End, PtyWire

TIOCGSERIAL = 0x541E


@pytest.fixture
def wire() -> Iterator[PtyWire]:
    with PtyWire() as wire:
        yield wire


# -------------------------------------------------------------------------------------------------------- loss


def by_text(text: str) -> SerialException:
    return SerialException(text)


@pytest.mark.parametrize(
    "error",
    [
        None,  # a read that gives nothing, or a hang-up
        by_text("device reports readiness to read but returned no data (device disconnected ...?)"),
        by_text("read failed: [Errno 5] Input/output error"),
        by_text("write failed: [Errno 5] Input/output error"),
        by_text("Could not configure port: (5, 'Input/output error')"),
        by_text("connection failed (reader thread died)"),
        by_text("connection failed (socket error): [Errno 104] Connection reset by peer"),
        by_text("socket disconnected"),
        PortNotOpenError(),
        SerialTimeoutException("Write timeout"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENXIO, "No such device or address"),
        OSError(errno.ENODEV, "No such device"),
        OSError(errno.ENOENT, "No such file or directory"),
        OSError(errno.EBADF, "Bad file descriptor"),
        termios.error(errno.EIO, "Input/output error"),
    ],
)
def test_every_way_in_which_a_lost_port_shows_itself_is_one_link_down(error: Exception | None) -> None:
    lost = port_lost("/dev/ttyUSB0", error)
    assert type(lost) is LinkDown
    assert str(lost) == "/dev/ttyUSB0 is gone: unplugged, or hung up"


def test_what_is_no_unplugging_says_what_it_is() -> None:
    error = OSError(errno.ETIMEDOUT, "Connection timed out")
    assert str(port_lost("socket://h:1", error)) == "socket://h:1 was lost: Connection timed out"


@pytest.mark.parametrize("framing", ["raw", "link"])
@pytest.mark.parametrize("use", ["send", "recv", "poll"])
def test_unplugging_is_found_by_every_use_of_a_channel(wire: PtyWire, framing: str, use: str) -> None:
    options = f"baudrate=12000000&framing={framing}"
    with closing(listen(wire.channel_url(End.B, options))):
        with closing(open_channel(wire.channel_url(End.A, options))) as channel:
            wire.unplug(End.A)
            with pytest.raises(LinkDown, match=f"{wire.by_id(End.A)} is gone: unplugged, or hung up"):
                if use == "send":
                    assert channel.poll(5.0)  # or the message could be queued before the loss is known
                    channel.send(b"x")
                else:
                    assert channel.poll(5.0)
                    channel.recv()


# ---------------------------------------------------------------------------------------------------- lines and speed


@pytest.mark.parametrize(
    ("query", "rate"),
    [
        ("", 11520.0),
        ("?baudrate=9600&parity=even", 9600 / 11),
        ("?baudrate=9600&parity=odd&stopbits=2", 800.0),
        ("?baudrate=921600&stopbits=2", 921600 / 11),
    ],
)
def test_a_byte_takes_as_many_bits_as_the_line_is_set_to(query: str, rate: float) -> None:
    assert parse_url(f"serial:///dev/ttyUSB0{query}").options.line_rate == pytest.approx(rate)


def drops_lines(path: str) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        return bool(termios.tcgetattr(fd)[2] & termios.HUPCL)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("query", "drops"),
    [
        ("", True),
        ("&dtr_at_close=off&rts_at_close=off", True),
        ("&dtr_at_close=keep", False),
        ("&rts_at_close=keep", False),
        ("&dtr_at_close=on&rts_at_close=on", False),
    ],
)
def test_the_driver_lowers_the_lines_at_the_last_close_only_where_both_may_fall(
    wire: PtyWire, query: str, drops: bool
) -> None:
    # So a process that is killed leaves them as the URL says as well.
    open_port(parse_url(wire.channel_url(End.A, f"framing=raw{query}")), 1.0).close()
    assert drops_lines(wire.port(End.A)) is drops


class LineCalls:
    """Notes which lines of a port are set, in pyserial and here, by the system call that sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, bool]] = []
        self.low_latency_asked = False
        self._real = serialposix.fcntl.ioctl
        monkeypatch.setattr(serialposix.fcntl, "ioctl", self)
        monkeypatch.setattr(ports_module, "ioctl", self)

    def __call__(self, fd: Any, request: int, argument: Any = 0, *rest: Any) -> Any:
        if request in (termios.TIOCMBIS, termios.TIOCMBIC):
            lines = {termios.TIOCM_DTR: "dtr", termios.TIOCM_RTS: "rts"}
            self.made.append((lines[struct.unpack("I", argument)[0]], request == termios.TIOCMBIS))
        self.low_latency_asked |= request == TIOCGSERIAL
        return self._real(fd, request, argument, *rest)


@pytest.mark.parametrize(
    ("query", "at_open", "at_close"),
    [
        ("", [("dtr", True), ("rts", True)], []),
        ("&dtr=off&rts=off", [("dtr", False), ("rts", False)], []),
        ("&dtr=keep", [("rts", True)], []),
        ("&rts=keep", [("dtr", True)], []),
        ("&rtscts=on", [("dtr", True)], []),
        ("&dtr=keep&rts=keep&dtr_at_close=keep&rts_at_close=keep", [], []),
        ("&dtr=keep&rts=keep&dtr_at_close=on", [], [("dtr", True), ("rts", False)]),
        ("&dtr=keep&rts=keep&rts_at_close=keep", [], [("dtr", False)]),
    ],
)
def test_the_lines_are_set_as_the_url_says_at_opening_and_at_closing(
    wire: PtyWire,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    at_open: list[tuple[str, bool]],
    at_close: list[tuple[str, bool]],
) -> None:
    calls = LineCalls(monkeypatch)
    port = open_port(parse_url(wire.channel_url(End.A, f"framing=raw{query}")), 1.0)
    opened, calls.made = calls.made, []
    # A pty refuses to set a line, and pyserial gives up at the first refusal: so what is to be set comes first only.
    assert opened == at_open[:1]
    port.close()
    assert calls.made == at_close


def test_an_adapter_is_asked_to_hold_nothing_back(wire: PtyWire, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = LineCalls(monkeypatch)
    open_port(parse_url(wire.channel_url(End.A, "framing=raw")), 1.0).close()
    assert calls.low_latency_asked


def test_a_port_is_opened_for_this_process_alone(wire: PtyWire) -> None:
    url = parse_url(wire.channel_url(End.A, "framing=raw"))
    with closing(open_port(url, 1.0)):
        with pytest.raises(Unreachable, match="another program has the port open; close that one"):
            open_port(url, 1.0)
    open_port(url, 1.0).close()


class HeldPort(SocketPort):
    """A port whose output flow control holds."""

    def __init__(self) -> None:
        import socket

        self.other, ours = socket.socketpair()
        super().__init__(ours, "held")
        self.dropped = False

    def unsent(self) -> int:
        return 0 if self.dropped else 7

    def discard_output(self) -> None:
        self.dropped = True


def test_what_flow_control_holds_back_is_dropped_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports_module, "DRAIN_S", 0.05)
    port = HeldPort()
    before = time.monotonic()
    drain(port)
    assert port.dropped
    assert 0.05 <= time.monotonic() - before < 3
    port.close()
    port.other.close()


# ---------------------------------------------------------------------------------------------------- which is meant


def info(device: str, vid: int | None = None, pid: int | None = None, serial_number: str | None = None) -> ListPortInfo:
    found = ListPortInfo(device)
    found.vid, found.pid, found.serial_number = vid, pid, serial_number
    return found


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[ListPortInfo]:
    """What pyserial finds on this machine."""
    there: list[ListPortInfo] = [
        info("/dev/ttyS0"),
        info("/dev/ttyUSB0", 0x0403, 0x6001, "A50285BI"),
        info("/dev/ttyACM0", 0x2341, 0x0043, "75833353035"),
        info("/dev/ttyACM1", 0x2341, 0x0043, "95735353032"),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: there)
    return there


@pytest.mark.parametrize(
    ("wanted", "device"),
    [
        (Wanted("A50285BI"), "/dev/ttyUSB0"),
        (Wanted("75833353035", vid=0x2341), "/dev/ttyACM0"),
        (Wanted(vid=0x0403), "/dev/ttyUSB0"),
        (Wanted(pid=0x6001), "/dev/ttyUSB0"),
        (Wanted(vid=0x0403, pid=0x6001), "/dev/ttyUSB0"),
    ],
)
def test_the_one_port_that_is_meant_is_found(plugged: list[ListPortInfo], wanted: Wanted, device: str) -> None:
    assert find_port(wanted) == device


def test_none_that_is_meant_is_one_error_that_lists_what_is_there(plugged: list[ListPortInfo]) -> None:
    with pytest.raises(Unreachable) as caught:
        find_port(Wanted("A5", vid=0x0403))
    assert str(caught.value) == (
        "no serial port has serial number A5, vid 0403; is it plugged in? There is: /dev/ttyACM0 (2341:0043, "
        "serial_number=75833353035); /dev/ttyACM1 (2341:0043, serial_number=95735353032); /dev/ttyS0; "
        "/dev/ttyUSB0 (0403:6001, serial_number=A50285BI)"
    )
    plugged.clear()
    with pytest.raises(Unreachable, match="There is: no serial port at all"):
        find_port(Wanted("A5"))


def test_several_that_are_meant_are_one_error_that_lists_them(plugged: list[ListPortInfo]) -> None:
    with pytest.raises(Ambiguous) as caught:
        find_port(Wanted(vid=0x2341))
    assert str(caught.value) == (
        "2 serial ports have vid 2341: /dev/ttyACM0 (2341:0043, serial_number=75833353035); /dev/ttyACM1 (2341:0043, "
        "serial_number=95735353032); name one by its path, or add serial_number, vid or pid"
    )


def test_a_long_list_of_ports_is_cut(plugged: list[ListPortInfo]) -> None:
    plugged[:] = [info(f"/dev/ttyUSB{n}") for n in range(50)]
    with pytest.raises(Unreachable, match=r"/dev/ttyUSB7; and 42 more$"):
        find_port(Wanted("A5"))


def test_a_device_is_found_again_under_another_name(wire: PtyWire, plugged: list[ListPortInfo]) -> None:
    url = "serial://?serial_number=A50285BI&framing=raw"
    plugged[:] = [info(wire.port(End.A), 0x0403, 0x6001, "A50285BI")]
    with closing(open_channel(url)) as channel:
        wire.unplug(End.A)
        with pytest.raises(LinkDown, match=r"ttyA0 \(serial number A50285BI\) is gone"):
            channel.recv()
    plugged.clear()
    with pytest.raises(Unreachable, match="no serial port has serial number A50285BI"):
        open_channel(url)
    wire.replug(End.A, name="ttyACM1")
    assert wire.port(End.A).endswith("ttyACM1")
    plugged[:] = [info(wire.port(End.A), 0x0403, 0x6001, "A50285BI")]
    open_channel(url).close()


def test_a_folder_is_no_port(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, Unreachable)):
        open_channel(f"serial://{tmp_path}")
