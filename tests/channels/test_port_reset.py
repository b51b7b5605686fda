"""Resetting a board by the control lines of its port: which lines move, in which order, and what ports can't do it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from time import monotonic
from typing import Any

import pytest
import serial
from serial.rfc2217 import PortManager

from gateway.channels import open_trunk
from gateway.channels.port_reset import SEQUENCES
from gateway.config.sections import RESETS
from gateway.errors import ConfigError, Unreachable
from hil import End, PtyWire

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:serial.rfc2217")


class LineServer:
    """A device server whose port has control lines: a `loop://` of pyserial's that notes how they move."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, bool]] = []
        self.moved = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_for(self, *moves: tuple[str, bool]) -> bool:
        """Whether the lines have moved just so in the end, within five seconds."""
        with self.moved:
            return self.moved.wait_for(lambda: tuple(self.moves[-len(moves) :]) == moves, 5.0)

    def close(self) -> None:
        self._listener.close()
        self._thread.join(5.0)

    def _run(self) -> None:
        port = serial.serial_for_url("loop://", timeout=0.1)
        noted = self._noted

        class Noting(type(port)):  # type: ignore[misc]
            """The levels as a client asked for them."""

            def __setattr__(self, name: str, value: Any) -> None:
                if name in ("dtr", "rts", "break_condition"):
                    noted(name, bool(value))
                super().__setattr__(name, value)

        port.__class__ = Noting
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with closing(connection):
            manager = PortManager(port, Sender(connection))
            while data := connection.recv(4096):
                list(manager.filter(data))

    def _noted(self, line: str, level: bool) -> None:
        with self.moved:
            self.moves.append((line, level))
            self.moved.notify_all()


class Sender:
    """What PortManager writes to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)


@pytest.fixture
def server() -> Iterator[LineServer]:
    with closing(LineServer()) as made:
        yield made


@pytest.mark.parametrize(
    ("how", "options", "moves"),
    [
        ("dtr", "", [("dtr", False), ("dtr", True)]),
        ("dtr", "?dtr=off", [("dtr", True), ("dtr", False)]),
        ("rts", "", [("rts", False), ("rts", True)]),
        ("esp32", "", [("dtr", False), ("rts", True), ("rts", False), ("dtr", True), ("rts", True)]),
        ("break", "", [("break_condition", True), ("break_condition", False)]),
    ],
)
def test_the_lines_move_as_the_table_says(
    server: LineServer, how: str, options: str, moves: list[tuple[str, bool]]
) -> None:
    with closing(open_trunk(server.url + options)) as trunk:
        trunk.reset(how, 5.0)
        assert server.wait_for(*moves), server.moves


def test_the_config_and_the_channels_know_the_same_ways() -> None:
    assert set(RESETS) == set(SEQUENCES)


def test_a_port_that_is_not_there_is_said_so_in_time() -> None:
    begin = monotonic()
    with closing(open_trunk("serial:///dev/no-such-port")) as trunk, pytest.raises(Unreachable, match="no such port"):
        trunk.reset("dtr", 0.2)
    assert monotonic() - begin < 5


@pytest.mark.parametrize("how", ["dtr", "rts", "esp32"])
def test_a_port_without_control_lines_says_so(how: str) -> None:
    with (
        PtyWire() as wire,
        closing(open_trunk(wire.channel_url(End.A, "baudrate=3000000"))) as trunk,
        pytest.raises(ConfigError, match="has no control lines"),
    ):
        trunk.reset(how, 5.0)


def test_an_unknown_way_is_refused_before_anything_is_done(server: LineServer) -> None:
    with closing(open_trunk(server.url)) as trunk:
        with pytest.raises(ConfigError, match="there are: dtr, rts, esp32, break"):
            trunk.reset("hammer", 5.0)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:1", "serial:///dev/null?framing=raw"])
def test_what_has_no_link_over_a_port_can_not_be_reset(url: str) -> None:
    with closing(open_trunk(url)) as trunk, pytest.raises(ConfigError, match="serial port, with framing=link"):
        trunk.reset("dtr", 1.0)
