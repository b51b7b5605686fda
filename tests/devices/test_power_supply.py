"""The power supply's driver over a real pty: limits, one question for a reading, a safe state that is read back."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from devices.simulators.instrument import Unplugged
from devices.simulators.line import Simulator
from devices.simulators.power_supply import SimulatedPowerSupply
from devices.simulators.scpi import Commands, Parameters
from gateway.errors import CallTimeout, DeviceError, DeviceUnavailable, OutOfRange


class Overheard(SimulatedPowerSupply):
    """Remembers every byte that it was sent."""

    def __init__(self) -> None:
        super().__init__(load_ohm=10.0)
        self.heard = bytearray()

    def receive(self, data: bytes) -> bytes:
        self.heard += data
        return super().receive(data)


@pytest.fixture
def simulated() -> Overheard:
    return Overheard()


@pytest.fixture
def supply(simulated: Overheard) -> Iterator[ScpiPowerSupply]:
    with Simulator(simulated) as simulator:
        options = PowerSupplyOptions(port=simulator.path, timeout_s=5, max_voltage=12.0, max_current=2.0)
        with ScpiPowerSupply("psu1", options) as opened:
            opened.query("*OPC?")
            simulated.heard.clear()
            yield opened


def test_setpoints_are_set_and_read_back(supply: ScpiPowerSupply, simulated: Overheard) -> None:
    supply.voltage = 3.3
    supply.set_current(0.5)
    assert (simulated.voltage, simulated.current) == (3.3, 0.5)
    assert (supply.voltage, supply.current) == (3.3, 0.5)
    supply.set_voltage(5)
    supply.current = 1
    assert (supply.voltage, supply.current) == (5.0, 1.0)


def test_measured_values_follow_the_setpoints_and_the_load(supply: ScpiPowerSupply) -> None:
    supply.voltage = 5.0
    supply.output = True
    assert supply.output is True
    assert (supply.measured_voltage, supply.measured_current, supply.measured_power) == (5.0, 0.5, 2.5)
    supply.current = 0.25
    assert (supply.measured_voltage, supply.measured_current) == (2.5, 0.25)
    supply.set_output(False)
    assert supply.output is False
    assert supply.measured_voltage == 0.0


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("voltage", b"VOLT?\n"),
        ("current", b"CURR?\n"),
        ("output", b"OUTP?\n"),
        ("measured_voltage", b"MEAS:VOLT?\n"),
        ("measured_current", b"MEAS:CURR?\n"),
        ("measured_power", b"MEAS:POW?\n"),
        ("max_voltage", b""),
        ("max_current", b""),
        ("state", b""),
    ],
)
def test_a_property_asks_the_supply_once_for_each_read(
    supply: ScpiPowerSupply, simulated: Overheard, name: str, question: bytes
) -> None:
    getattr(supply, name)
    assert simulated.heard == question + (b"SYST:ERR?\n" if question else b"")


@pytest.mark.parametrize("volts", [12.0001, -0.0001, math.inf, math.nan, 1e300, 10**400])
def test_a_voltage_outside_the_limits_is_refused_before_anything_is_sent(
    supply: ScpiPowerSupply, simulated: Overheard, volts: float
) -> None:
    with pytest.raises(OutOfRange, match=r"psu1\.voltage must be from 0 to 12 V"):
        supply.set_voltage(volts)
    with pytest.raises(OutOfRange):
        supply.voltage = volts
    assert simulated.heard == b""


def test_a_current_outside_the_limits_is_refused_before_anything_is_sent(
    supply: ScpiPowerSupply, simulated: Overheard
) -> None:
    for amperes in (2.0001, -1):
        with pytest.raises(OutOfRange, match=r"psu1\.current must be from 0 to 2 A"):
            supply.set_current(amperes)
        with pytest.raises(OutOfRange):
            supply.current = amperes
    assert simulated.heard == b""


def test_the_limits_themselves_are_allowed(supply: ScpiPowerSupply) -> None:
    supply.set_voltage(12)
    supply.set_voltage(0)
    supply.set_current(2)
    assert (supply.max_voltage, supply.max_current) == (12.0, 2.0)


@pytest.mark.parametrize("value", ["5", None, True, b"1", "1;OUTP ON"])
def test_what_is_no_number_is_never_sent(supply: ScpiPowerSupply, simulated: Overheard, value: object) -> None:
    with pytest.raises(TypeError):
        supply.set_voltage(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        supply.set_current(value)  # type: ignore[arg-type]
    assert simulated.heard == b""


@pytest.mark.parametrize("value", ["off", 0, 1, None])
def test_the_output_takes_true_or_false_only(supply: ScpiPowerSupply, simulated: Overheard, value: object) -> None:
    with pytest.raises(TypeError, match="must be True or False"):
        supply.set_output(value)  # type: ignore[arg-type]
    assert simulated.heard == b""


def test_without_limits_in_the_config_the_supplys_own_hold() -> None:
    with Simulator(SimulatedPowerSupply()) as simulator:
        with ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=5)) as supply:
            assert (supply.max_voltage, supply.max_current) == (32.0, 3.2)
            with pytest.raises(OutOfRange):
                supply.set_voltage(32.1)


def test_a_limit_in_the_config_above_the_supplys_own_does_not_help() -> None:
    with Simulator(SimulatedPowerSupply()) as simulator:
        options = PowerSupplyOptions(port=simulator.path, timeout_s=5, max_voltage=100.0)
        with ScpiPowerSupply("psu1", options) as supply, pytest.raises(DeviceError, match="-222") as caught:
            supply.set_voltage(50)
    assert caught.value.number == -222


def test_a_supply_that_does_not_tell_its_limit_says_what_to_configure() -> None:
    class Silent(SimulatedPowerSupply):
        def commands(self) -> Commands:
            return {name: handler for name, handler in super().commands().items() if "CURRent[:LEVel]" not in name}

    with Simulator(Silent()) as simulator:
        supply = ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=0.25))
        with pytest.raises(DeviceUnavailable, match="set `max_current` in its config"):
            supply.open()


def test_safe_means_output_off_and_zero_volts_any_number_of_times(
    supply: ScpiPowerSupply, simulated: Overheard
) -> None:
    supply.voltage = 5.0
    supply.current = 1.5
    supply.output = True
    for _ in range(2):
        supply.make_safe()
        assert (simulated.voltage, simulated.output, simulated.current) == (0.0, False, 1.5)


def test_the_safe_state_is_read_back(supply: ScpiPowerSupply, simulated: Overheard) -> None:
    supply.make_safe()
    assert simulated.heard.startswith(b"\nOUTP OFF\nVOLT 0\n")
    assert b"OUTP?\n" in simulated.heard
    assert b"VOLT?\n" in simulated.heard


def test_closing_makes_safe(simulated: Overheard) -> None:
    with Simulator(simulated) as simulator:
        with ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=5)) as supply:
            supply.set_voltage(5)
            supply.set_output(True)
        assert (simulated.voltage, simulated.output) == (0.0, False)


class Stuck(SimulatedPowerSupply):
    """Its output can't be switched off."""

    def commands(self) -> Commands:
        return {**super().commands(), "OUTPut[:STATe]": self._switch_on}

    def _switch_on(self, parameters: Parameters) -> None:
        self.output = True


def test_a_supply_that_does_not_go_safe_is_reported() -> None:
    with Simulator(Stuck()) as simulator:
        supply = ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=5))
        supply.open()
        with pytest.raises(DeviceError, match=r"psu1 did not go safe: output on, setpoint 0 V.*switch it off by hand"):
            supply.make_safe()
        with pytest.raises(DeviceError, match="did not go safe"):
            supply.close()
        assert supply.state == "closed"


def test_an_old_error_does_not_hide_that_the_supply_is_safe(
    supply: ScpiPowerSupply, simulated: Overheard, caplog: pytest.LogCaptureFixture
) -> None:
    simulated.receive(b"OUTP ON;FOO\n")
    with caplog.at_level(logging.WARNING):
        supply.make_safe()
    assert "psu1 is safe, but reported -113 Undefined header;FOO" in caplog.text
    assert simulated.output is False


def test_a_supply_that_is_gone_can_not_be_made_safe_and_says_so(tmp_path: Path, simulated: Overheard) -> None:
    with Simulator(simulated, link=tmp_path / "psu") as simulator:
        supply = ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=5))
        supply.open()
        supply.set_voltage(5)
        simulator.unplug()
        with pytest.raises(DeviceUnavailable):
            supply.make_safe()
        simulator.replug()
        supply.make_safe()
        assert simulated.voltage == 0
        supply.close()


def test_a_closed_supply_was_made_safe_when_it_was_closed(supply: ScpiPowerSupply) -> None:
    supply.close()
    with pytest.raises(DeviceUnavailable, match="psu1 is closed"):
        supply.make_safe()


def test_a_safe_command_goes_out_while_the_supply_is_silent(simulated: Overheard) -> None:
    class Mute:
        """Obeys, and stops answering once it is told."""

        silent = False

        def receive(self, data: bytes) -> bytes:
            said = simulated.receive(data)
            return b"" if self.silent else said

    mute = Mute()
    with Simulator(mute) as simulator:
        supply = ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=0.25))
        supply.open()
        supply.set_voltage(5)
        supply.set_output(True)
        mute.silent = True
        with pytest.raises(CallTimeout):
            supply.make_safe()
        assert (simulated.voltage, simulated.output) == (0.0, False)
        mute.silent = False
        supply.make_safe()
        supply.close()


def test_a_supply_unplugged_in_the_middle_of_a_measurement_is_unavailable() -> None:
    class Leaving(SimulatedPowerSupply):
        def measured(self) -> tuple[float, float]:
            raise Unplugged

    with Simulator(Leaving()) as simulator:
        supply = ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=30))
        supply.open()
        with pytest.raises(DeviceUnavailable, match="is gone"):
            _ = supply.measured_voltage
        assert supply.state == "faulty"
        with pytest.raises(DeviceUnavailable, match="no such port"):
            supply.close()
        assert supply.state == "closed"


def test_an_overload_is_infinity() -> None:
    class Overloaded(SimulatedPowerSupply):
        def measured(self) -> tuple[float, float]:
            return 9.9e37, -9.9e37

    with Simulator(Overloaded()) as simulator:
        with ScpiPowerSupply("psu1", PowerSupplyOptions(port=simulator.path, timeout_s=5)) as supply:
            assert (supply.measured_voltage, supply.measured_current) == (math.inf, -math.inf)
