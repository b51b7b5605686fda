"""A simulated power supply: one output, into a resistor.

output off         0 V, 0 A
constant voltage   the setpoint, as long as setpoint / load is within the current limit
constant current   the current limit, and limit * load volts
"""

from __future__ import annotations

from devices.simulators.scpi import Commands, Parameters, ScpiEngine, boolean, fixed, limit, number

IDENTITY = "Instrument Gateway,Simulated Power Supply,SIM-PS-1,1.0"
MAX_VOLTAGE = 32.0
MAX_CURRENT = 3.2
DEFAULT_CURRENT = 1.0


class SimulatedPowerSupply(ScpiEngine):
    """Wakes up with the output off, 0 V and 1 A."""

    def __init__(self, *, load_ohm: float = 10.0, identity: str = IDENTITY) -> None:
        self.load_ohm = load_ohm
        self.reset()
        super().__init__(identity)

    def reset(self) -> None:
        self.voltage = 0.0
        self.current = DEFAULT_CURRENT
        self.output = False

    def commands(self) -> Commands:
        return {
            "[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]": self._set_voltage,
            "[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]?": self._get_voltage,
            "[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]": self._set_current,
            "[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]?": self._get_current,
            "OUTPut[:STATe]": self._set_output,
            "OUTPut[:STATe]?": lambda _: "1" if self.output else "0",
            "MEASure[:SCALar]:VOLTage[:DC]?": lambda _: fixed(self.measured()[0]),
            "MEASure[:SCALar]:CURRent[:DC]?": lambda _: fixed(self.measured()[1]),
            "MEASure[:SCALar]:POWer[:DC]?": lambda _: fixed(self.measured()[0] * self.measured()[1]),
        }

    def measured(self) -> tuple[float, float]:
        """Volts and amperes at the output."""
        if not self.output:
            return 0.0, 0.0
        current = min(self.voltage / self.load_ohm, self.current)
        return current * self.load_ohm, current

    def _set_voltage(self, parameters: Parameters) -> None:
        self.voltage = number(parameters, lowest=0.0, highest=MAX_VOLTAGE, default=0.0, unit="V")

    def _get_voltage(self, parameters: Parameters) -> str:
        return limit(parameters, self.voltage, lowest=0.0, highest=MAX_VOLTAGE)

    def _set_current(self, parameters: Parameters) -> None:
        self.current = number(parameters, lowest=0.0, highest=MAX_CURRENT, default=DEFAULT_CURRENT, unit="A")

    def _get_current(self, parameters: Parameters) -> str:
        return limit(parameters, self.current, lowest=0.0, highest=MAX_CURRENT)

    def _set_output(self, parameters: Parameters) -> None:
        self.output = boolean(parameters)
