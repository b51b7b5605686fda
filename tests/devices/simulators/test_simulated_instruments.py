"""The simulated instruments behave as instruments do: measured values follow what was set."""

from __future__ import annotations

import struct

import pytest

from devices.simulators.console import BANNER, BELL, HELP, MAX_LINE, PROMPT, ConsoleBoard
from devices.simulators.multimeter import NOISE, SOURCE, SimulatedMultimeter
from devices.simulators.power_supply import SimulatedPowerSupply


def ask(instrument: SimulatedPowerSupply | SimulatedMultimeter, message: str) -> str:
    return instrument.receive(message.encode() + b"\n").decode().strip()


def test_a_supply_is_at_zero_until_its_output_is_on() -> None:
    supply = SimulatedPowerSupply(load_ohm=10)
    ask(supply, "VOLT 5")
    assert ask(supply, "MEAS:VOLT?;CURR?;POW?") == ";".join(["+0.00000000E+00"] * 3)
    ask(supply, "OUTP ON")
    assert [float(part) for part in ask(supply, "MEAS:VOLT?;CURR?;POW?").split(";")] == [5.0, 0.5, 2.5]


def test_a_supply_limits_its_current_by_lowering_its_voltage() -> None:
    supply = SimulatedPowerSupply(load_ohm=2)
    ask(supply, "VOLT 12;CURR 1.5;:OUTP ON")
    assert supply.measured() == (3.0, 1.5)
    supply.load_ohm = 100.0
    assert supply.measured() == pytest.approx((12.0, 0.12))


def test_a_supply_tells_its_limits_and_refuses_more() -> None:
    supply = SimulatedPowerSupply()
    assert float(ask(supply, "VOLT? MAX")) == 32.0
    assert float(ask(supply, "CURR? MIN")) == 0.0
    ask(supply, "*CLS;VOLT 33")
    assert ask(supply, "SYST:ERR?;:VOLT?") == '-222,"Data out of range";+0.00000000E+00'


def test_reset_switches_a_supply_off() -> None:
    supply = SimulatedPowerSupply()
    ask(supply, "VOLT 5;CURR 2;:OUTP ON;*RST")
    assert (supply.voltage, supply.current, supply.output) == (0.0, 1.0, False)


@pytest.mark.parametrize("function", SOURCE)
def test_readings_vary_within_the_bound(function: str) -> None:
    meter = SimulatedMultimeter()
    values = [float(ask(meter, f"MEAS:{function}?")) for _ in range(200)]
    assert len(set(values)) > 100
    assert all(abs(value / SOURCE[function] - 1) <= NOISE for value in values)


def test_the_same_seed_gives_the_same_readings() -> None:
    readings = [
        [meter.reading() for _ in range(20)] for meter in [SimulatedMultimeter(seed=seed) for seed in (7, 7, 8)]
    ]
    assert readings[0] == readings[1]
    assert readings[0] != readings[2]


def test_a_source_beyond_the_range_is_an_overload() -> None:
    meter = SimulatedMultimeter()
    assert float(ask(meter, "CONF:VOLT:DC 1;:READ?")) == 9.9e37
    assert abs(float(ask(meter, "CONF:VOLT:DC AUTO;:READ?")) - 5) < 0.1


def test_a_meter_tells_what_it_is_configured_for() -> None:
    meter = SimulatedMultimeter()
    assert ask(meter, "CONF?") == '"VOLT:DC +1.000000E+01,+1.000000E-05"'
    assert ask(meter, "CONF:RES 3000;:CONF?;:FUNC?") == '"RES +1.000000E+04,+1.000000E-02";"RES"'
    assert ask(meter, 'FUNC "CURR:DC";:FUNC?') == '"CURR:DC"'
    ask(meter, '*CLS;:FUNC "DIOD";:CONF:RES 1E9')
    assert ask(meter, "SYST:ERR?;ERR?") == '-224,"Illegal parameter value";-222,"Data out of range"'


@pytest.mark.parametrize(("order", "code"), [("NORM", ">"), ("SWAP", "<")])
def test_a_binary_answer_is_a_block_of_doubles_in_the_chosen_order(order: str, code: str) -> None:
    meter = SimulatedMultimeter()
    answer = meter.receive(f"FORM REAL,64;:FORM:BORD {order};:SAMP:COUN 12;:READ?\n".encode())
    assert answer[:4] == b"#296"
    assert answer[-1:] == b"\n"
    values = struct.unpack(f"{code}12d", answer[4:-1])
    assert all(abs(value - 5) < 0.1 for value in values)


def test_a_text_answer_has_as_many_values_as_samples_were_asked_for() -> None:
    meter = SimulatedMultimeter()
    assert len(ask(meter, "SAMP:COUN 7;:READ?").split(",")) == 7
    assert ask(meter, "FORM?;SAMP:COUN?") == "ASC,9;7"
    assert ask(meter, "FORM REAL,32;*CLS;FORM:BORD?") == "NORM"


def test_a_board_boots_with_a_banner_and_a_prompt() -> None:
    board = ConsoleBoard()
    assert board.receive(b"") == BANNER + PROMPT
    assert board.receive(b"") == b""


def test_a_board_echoes_what_is_typed_and_runs_it() -> None:
    now = [100.0]
    board = ConsoleBoard(clock=lambda: now[0])
    board.receive(b"")
    assert board.receive(b"help\r") == b"help\r\n" + HELP + PROMPT
    now[0] = 112.5
    assert board.receive(b"uptime\n") == b"uptime\r\n12.5 s\r\n" + PROMPT
    assert board.receive(b"echo a  b\r\n") == b"echo a  b\r\na  b\r\n" + PROMPT
    assert board.receive(b"\r") == b"\r\n" + PROMPT
    assert board.receive(b"make tea\r") == b"make tea\r\nunknown command: make\r\n" + PROMPT
    assert board.receive(b"reboot\r") == b"reboot\r\n" + BANNER + PROMPT
    assert board.receive(b"uptime\r").endswith(b"0.0 s\r\n" + PROMPT)


def test_backspace_erases_and_never_more_than_was_typed() -> None:
    board = ConsoleBoard()
    board.receive(b"")
    assert board.receive(b"\bxy\x7f\b\b") == b"xy\b \b\b \b"
    assert board.receive(b"echo 1\r").endswith(b"\r\n1\r\n" + PROMPT)


def test_a_board_bounds_its_line_and_rings() -> None:
    board = ConsoleBoard()
    board.receive(b"")
    assert board.receive(b"x" * (MAX_LINE + 2)) == b"x" * MAX_LINE + BELL * 2
