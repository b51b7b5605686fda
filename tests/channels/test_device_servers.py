"""socket:// and rfc2217://: a serial port behind a device server, with both framings, its settings and its loss."""

from __future__ import annotations

import random
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from time import monotonic
from typing import Any

import pytest
import serial
from serial.rfc2217 import PortManager

from gateway.channels import Channel, Listener, listen, open_channel, open_trunk
from gateway.errors import LimitExceeded, LinkDown, NotFound, Unreachable
from hil import End, PtyWire, Rfc2217Wire, SocketWire

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:serial.rfc2217")
FAST = "baudrate=3000000"
LATE = 3.0


@pytest.fixture(params=[SocketWire, Rfc2217Wire])
def wire(request: pytest.FixtureRequest) -> Iterator[PtyWire]:
    """End A is behind a device server."""
    with request.param() as wire:
        yield wire


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def accept(listener: Listener, timeout: float = 5.0) -> Channel:
    deadline = monotonic() + timeout
    while monotonic() < deadline:
        select.select([listener.fileno()], [], [], max(0.0, deadline - monotonic()))
        channel = listener.accept()
        if channel is not None:
            return channel
    pytest.fail(f"no channel within {timeout} s")


@pytest.mark.parametrize("framing", ["link", "raw"])
@pytest.mark.parametrize("server", [End.A, End.B], ids=["client-behind-it", "server-behind-it"])
def test_messages_pass_whole_in_both_framings_and_roles(
    wire: PtyWire, stack: ExitStack, framing: str, server: End
) -> None:
    options = f"{FAST}&framing={framing}"
    listener = stack.enter_context(closing(listen(wire.channel_url(server, options))))
    client = stack.enter_context(closing(open_channel(wire.channel_url(server.other, options))))
    every = bytes(range(256)) * 20 + random.Random(1).randbytes(20_000)
    client.send(every)
    served = stack.enter_context(closing(accept(listener)))
    assert served.recv_within(10) == every
    served.send(every[::-1])
    assert client.recv_within(10) == every[::-1]
    assert listener.local_only


def test_several_channels_share_the_port_behind_a_server(wire: PtyWire, stack: ExitStack) -> None:
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, FAST))))
    trunk = stack.enter_context(closing(open_trunk(wire.channel_url(End.A, FAST))))
    for message in (b"one", b"two"):
        here = stack.enter_context(closing(trunk.open(10.0)))
        here.send(message)
        assert stack.enter_context(closing(accept(listener))).recv_within(5) == message


def test_a_raw_line_behind_a_server_has_one_channel(wire: PtyWire, stack: ExitStack) -> None:
    trunk = stack.enter_context(closing(open_trunk(wire.channel_url(End.A, f"{FAST}&framing=raw"))))
    assert trunk.channels_at_most == 1
    stack.enter_context(closing(trunk.open(5.0)))
    with pytest.raises(LimitExceeded):
        trunk.open(5.0)


@pytest.mark.parametrize("framing", ["link", "raw"])
def test_a_server_whose_port_is_unplugged_is_link_down_and_comes_back(
    wire: PtyWire, stack: ExitStack, framing: str
) -> None:
    options = f"{FAST}&framing={framing}"
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, options))))
    with closing(open_channel(wire.channel_url(End.A, options))) as here:
        here.send(b"x")
        served = stack.enter_context(closing(accept(listener)))
        assert served.recv_within(5) == b"x"
        before = monotonic()
        wire.unplug(End.A)
        with pytest.raises(LinkDown, match=rf"{wire.address(End.A)} is gone"):
            here.recv_within(10)
        assert monotonic() - before < 0.2 * LATE
    wire.replug(End.A)
    if framing == "raw":
        served.close()
    with closing(open_channel(wire.channel_url(End.A, options))) as again:
        again.send(b"back")
        assert stack.enter_context(closing(accept(listener))).recv_within(5) == b"back"


def test_a_serving_end_behind_a_server_comes_back_by_itself(wire: PtyWire, stack: ExitStack) -> None:
    listener = stack.enter_context(closing(listen(wire.channel_url(End.A, FAST))))
    trunk = stack.enter_context(closing(open_trunk(wire.channel_url(End.B, FAST))))
    old = stack.enter_context(closing(trunk.open(5.0)))
    old.send(b"x")
    assert stack.enter_context(closing(accept(listener))).recv_within(5) == b"x"
    wire.unplug(End.A)
    wire.replug(End.A)
    with pytest.raises(LinkDown):
        old.recv_within(10)
    here = stack.enter_context(closing(trunk.open(10.0)))
    here.send(b"back")
    assert stack.enter_context(closing(accept(listener))).recv_within(5) == b"back"


@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
def test_a_server_that_is_not_there_says_so(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match=f"can't reach the device server at 127.0.0.1:{port}: connection refused"):
            open_channel(f"{scheme}://127.0.0.1:{port}", timeout=2)
    with pytest.raises(NotFound, match="no host of that name"):
        open_channel(f"{scheme}://no-such-host.invalid:1", timeout=2)


def test_what_knows_no_rfc_2217_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"rfc2217://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"{where}: the device server does not do as RFC 2217 says"):
            open_channel(where, timeout=0.3)


def test_only_a_server_on_this_machine_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.channels import parse_url
    from gateway.channels.socket_port import is_here

    here = {"127.0.0.1": True, "localhost": True, "[::1]": True, "10.0.0.7": False, "bench3": False}
    assert {host: is_here(parse_url(f"socket://{host}:1")) for host in here} == here


class LoopServer:
    """A device server of pyserial's own making; its port has modem lines, unlike a pty."""

    def __init__(self) -> None:
        self.port: Any = serial.serial_for_url("loop://", timeout=0.05)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._server.getsockname()[1]}"
        self.left = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._server.accept()
        with client:
            client.settimeout(5)
            outgoing = client.makefile("wb", buffering=0)
            manager = PortManager(self.port, outgoing)
            while data := client.recv(1024):
                for byte in manager.filter(data):
                    outgoing.write(b"".join(manager.escape(byte)))
            outgoing.close()
        self.left.set()

    def close(self) -> None:
        self._thread.join(10)
        self._server.close()
        self.port.close()


@pytest.mark.parametrize(
    ("query", "open_levels", "closed_levels"),
    [
        ("", (True, True), (True, True)),
        ("&dtr=off&rts=off", (False, False), (False, False)),
        ("&dtr=off&dtr_at_close=on&rts_at_close=off", (False, True), (True, False)),
    ],
)
def test_speed_and_lines_reach_the_port_at_the_server(
    query: str, open_levels: tuple[bool, bool], closed_levels: tuple[bool, bool]
) -> None:
    server = LoopServer()
    try:
        channel = open_channel(f"{server.url}?framing=raw&baudrate=57600&stopbits=2{query}")
        assert (server.port.baudrate, server.port.stopbits) == (57600, 2)
        assert (server.port.dtr, server.port.rts) == open_levels
        channel.close()
        assert server.left.wait(10)
        assert (server.port.dtr, server.port.rts) == closed_levels
    finally:
        server.close()


def test_lines_that_are_kept_are_not_touched_at_the_server() -> None:
    server = LoopServer()
    server.port.dtr = server.port.rts = False
    try:
        open_channel(f"{server.url}?framing=raw&dtr=keep&rts=keep").close()
        assert server.left.wait(10)
        assert (server.port.dtr, server.port.rts) == (False, False)
    finally:
        server.close()
