"""A simulator on a pty: users come and go, the plug is pulled and put back, nothing is lost behind a full line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import serial

from devices.simulators.instrument import Unplugged
from devices.simulators.line import Simulator
from devices.simulators.power_supply import IDENTITY, SimulatedPowerSupply
from tests.leftovers import Before


class Parrot:
    """Says everything again, many times over."""

    def __init__(self, times: int = 1) -> None:
        self.times = times

    def receive(self, data: bytes) -> bytes:
        return data * self.times


class Bomb:
    """Leaves at once."""

    def receive(self, data: bytes) -> bytes:
        raise Unplugged


def ask(path: str, message: bytes) -> bytes:
    with serial.Serial(path, timeout=5, exclusive=True) as port:
        port.write(message)
        return port.read_until()


def test_pyserial_opens_the_port_and_the_instrument_answers() -> None:
    with Simulator(SimulatedPowerSupply()) as simulator:
        assert ask(simulator.path, b"*IDN?\n") == IDENTITY.encode() + b"\n"


def test_users_come_and_go_and_the_instrument_stays_as_it_was() -> None:
    with Simulator(SimulatedPowerSupply()) as simulator:
        assert ask(simulator.path, b"VOLT 3;*OPC?\n") == b"1\n"
        assert float(ask(simulator.path, b"VOLT?\n")) == 3.0


def test_bytes_pass_as_they_are() -> None:
    with Simulator(Parrot()) as simulator, serial.Serial(simulator.path, timeout=5) as port:
        port.write(bytes(range(256)))
        assert port.read(256) == bytes(range(256))


def test_an_answer_larger_than_the_line_holds_arrives_whole() -> None:
    with Simulator(Parrot(times=500)) as simulator, serial.Serial(simulator.path, timeout=10) as port:
        port.write(b"0123456789" * 40)
        assert port.read(200_000) == b"0123456789" * 20_000


def test_an_unplugged_port_is_gone_and_comes_back_under_its_link(tmp_path: Path) -> None:
    link = tmp_path / "psu"
    with Simulator(SimulatedPowerSupply(), link=link) as simulator:
        assert simulator.path == str(link)
        with serial.Serial(simulator.path, timeout=5) as port:
            simulator.unplug()
            assert simulator.gone.is_set()
            assert not os.path.lexists(link)
            with pytest.raises(serial.SerialException):
                port.read(1)
        simulator.unplug()
        simulator.replug()
        assert ask(simulator.path, b"*OPC?\n") == b"1\n"
    assert not os.path.lexists(link)


def test_an_instrument_may_pull_its_own_plug() -> None:
    simulator = Simulator(Bomb())
    assert simulator.gone.wait(5)
    simulator.close()


def test_nothing_is_left_behind() -> None:
    before = Before()
    for _ in range(3):
        with Simulator(Parrot()) as simulator:
            simulator.unplug()
            simulator.replug()
    assert before.added() == []
