"""Wires of other kinds: over TCP, with settings or without, and of real ports; and an instrument at the far end."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import serial

from devices.simulators.instrument import Unplugged
from gateway.channels import parse_url
from hil.faults import End, FaultPlan
from hil.instrument import SimulatedInstrument
from hil.pty_wire import PtyWire
from hil.quirks import Quirk
from hil.wires import KINDS, RealWire, Rfc2217Wire, SocketWire
from tests.leftovers import Before

A, B = End.A, End.B
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's rfc2217
DATA = bytes(range(256)) * 4 + random.Random(1).randbytes(20_000)


@contextlib.contextmanager
def opened(wire: Any, end: End, baud: int = 115200) -> Iterator[Any]:
    port = serial.serial_for_url(wire.address(end), baudrate=baud, timeout=10)
    try:
        yield port
    finally:
        port.close()


def connected(wire: Any) -> socket.socket:
    """A connection to the served end, without pyserial."""
    host, port = wire.address(A).partition("://")[2].split(":")
    return socket.create_connection((host, int(port)), timeout=5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_passes_over_every_kind_of_wire(kind: str) -> None:
    with KINDS[kind]() as wire, opened(wire, A) as a, opened(wire, B) as b:
        for source, target in ((a, b), (b, a)):
            thread = threading.Thread(target=source.write, args=(DATA,))
            thread.start()
            assert target.read(len(DATA)) == DATA
            thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_wire_is_paced_and_takes_faults(kind: str) -> None:
    with KINDS[kind](9600) as wire, opened(wire, A) as a, opened(wire, B) as b:
        heard = wire.record()
        a.write(bytes(96))
        assert b.read(96) == bytes(96)
        assert wire.delivered(B) == 96
        sent = next(entry.at_s for entry in heard if entry.sent)
        assert heard[-1].at_s - sent >= 0.09
        wire.inflict(FaultPlan(flip=1.0))
        b.write(bytes(10))
        assert 0 not in a.read(10)


@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_a_served_port_that_is_unplugged_ends_its_client_and_serves_again(kind: str) -> None:
    with KINDS[kind]() as wire, opened(wire, B) as b:
        assert Quirk.NO_EOF not in wire.quirks
        with connected(wire) as client:
            client.sendall(b"x")
            assert b.read(1) == b"x"
            wire.unplug(A)
            while client.recv(4096):  # up to its end: RFC 2217 has said hello
                pass
        with connected(wire) as client:
            assert client.recv(1) == b""  # the port is not there
        wire.replug(A, "ttyA1")
        with connected(wire) as client:
            client.sendall(b"again")
            assert b.read(5) == b"again"


def test_a_port_is_served_to_one_client_at_a_time() -> None:
    with SocketWire() as wire, opened(wire, A) as a, opened(wire, B) as b:
        a.write(b"1")
        assert b.read(1) == b"1"
        with connected(wire) as second:
            assert second.recv(1) == b""
        a.write(b"2")
        assert b.read(1) == b"2"


def test_settings_reach_the_port_by_rfc2217_and_not_over_a_plain_socket() -> None:
    with Rfc2217Wire("follow") as wire, opened(wire, A, 57600) as a, opened(wire, B, 57600) as b:
        assert Quirk.NO_SETTINGS not in wire.quirks
        a.write(b"understood")
        assert b.read(10) == b"understood"
        a.baudrate = 9600
        a.write(bytes(200))
        b.timeout = 1
        assert set(b.read(200)) != {0}
    with SocketWire("follow") as wire, opened(wire, A, 57600) as a, opened(wire, B, 57600) as b:
        assert Quirk.NO_SETTINGS in wire.quirks
        a.write(bytes(200))
        assert set(b.read(200)) != {0}


def test_what_a_pty_lacks_is_said_over_rfc2217() -> None:
    with Rfc2217Wire() as wire, opened(wire, A) as a, opened(wire, B) as b:
        assert {Quirk.NO_MODEM_LINES, Quirk.NO_PARITY} <= wire.quirks
        with pytest.raises(ValueError, match="parity"):
            a.parity = serial.PARITY_EVEN
        assert (a.cts, a.dsr, a.ri, a.cd) == (False,) * 4
        a.rts = a.dtr = False
        a.write(b"still there")
        assert b.read(11) == b"still there"


@pytest.mark.parametrize("kind", KINDS)
def test_the_gateway_understands_the_url_of_a_wire(kind: str) -> None:
    with KINDS[kind]() as wire:
        url = parse_url(wire.channel_url(A, "framing=raw"))
        assert url.scheme == {"pty": "serial"}.get(kind, kind)
        assert parse_url(wire.channel_url(B)).path == wire.by_id(B)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_a_wire_frees_everything(kind: str) -> None:
    before = Before()
    wire = KINDS[kind]()
    wire.close()
    wire.close()
    assert before.added() == []


# ---------------------------------------------------------------------------------------------------------- real ports


def test_two_ports_that_are_joined_are_a_real_wire_with_the_quirks_that_are_found() -> None:
    with PtyWire() as cable:
        wire = RealWire(cable.port(A), cable.port(B))
        assert wire.quirks == {Quirk.REAL, Quirk.NO_FAULTS, Quirk.NO_EOF, Quirk.NO_MODEM_LINES}
        assert [wire.address(end) for end in End] == [cable.port(A), cable.port(B)]
        assert wire.channel_url(A, "baudrate=9600") == f"serial://{cable.port(A)}?baudrate=9600"
        wire.close()


@pytest.mark.parametrize("mute", End)
def test_ports_that_are_not_joined_both_ways_are_refused(mute: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.wires.PROBE_S", 0.2)
    with PtyWire() as cable:
        cable.mute(mute)
        with pytest.raises(ValueError, match="not joined"):
            RealWire(cable.port(A), cable.port(B))


# ------------------------------------------------------------------------------------------------------- an instrument


class Parrot:
    """Says everything twice; b"!" makes it leave, b"?" makes it fail."""

    def receive(self, data: bytes) -> bytes:
        if b"!" in data:
            raise Unplugged
        if b"?" in data:
            raise ZeroDivisionError("its own bug")
        return data * 2


def test_an_instrument_answers_at_the_far_end_and_what_it_got_is_counted() -> None:
    with SimulatedInstrument(Parrot()) as line, serial.Serial(line.port, timeout=10) as port:
        port.write(b"abc")
        assert port.read(6) == b"abcabc"
        assert line.received == 3


def test_an_instruments_plug_can_be_pulled_from_both_sides() -> None:
    with SimulatedInstrument(Parrot()) as line:
        with serial.Serial(line.port, timeout=10) as port:
            line.unplug()
            with pytest.raises(serial.SerialException):
                port.read(1)
        line.replug("ttyA1")
        with serial.Serial(line.port, timeout=10) as port:
            port.write(b"!")
            with pytest.raises(serial.SerialException):
                port.read(1)
            assert not line.wire.plugged(A)


def test_an_instrument_can_be_mute() -> None:
    with SimulatedInstrument(Parrot()) as line, serial.Serial(line.port, timeout=0.1) as port:
        line.mute()
        port.write(b"abc")
        assert port.read(6) == b""
        assert line.received == 3
        line.mute(mute=False)
        port.write(b"de")
        assert port.read(4) == b"dede"


def test_a_bug_of_the_instrument_is_told_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError, match="its own bug"):
        with SimulatedInstrument(Parrot()) as line, serial.Serial(line.port, timeout=10) as port:
            port.write(b"?")
            assert line.received == 1
