"""A SCPI power supply with one output (SCPI-99 volume 4, class DCPSUPPLY; tried with the simulator only).

VOLT, CURR      setpoints      MEAS:VOLT? MEAS:CURR? MEAS:POW?   what is measured at the output
OUTP            the output
"""

from __future__ import annotations

import logging
from typing import Annotated, Final

from msgspec import Meta

from devices import scpi
from devices.bounds import number_between
from devices.scpi_instrument import ScpiInstrument, ScpiOptions
from gateway.errors import CallTimeout, DeviceError, DeviceUnavailable
from gateway.service.exposure import exposed

SAFE_SETPOINT: Final = 0.01
"""Volts up to which a setpoint that was read back counts as 0: some supplies don't go lower."""

log = logging.getLogger(__name__)


class PowerSupplyOptions(ScpiOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `scpi-power-supply`. No client can exceed the two limits."""

    max_voltage: Annotated[float, Meta(ge=0)] | None = None
    """Highest setpoint in V; without it, what the supply says it can do (`VOLT? MAX`)."""
    max_current: Annotated[float, Meta(ge=0)] | None = None
    """Highest current limit in A; without it, what the supply says it can do (`CURR? MAX`)."""


class ScpiPowerSupply(ScpiInstrument):
    """A power supply. Every property asks the supply once when it is read; nothing is cached but the two limits.

    Safe condition: output off, setpoint 0 V.
    """

    Options = PowerSupplyOptions
    safe_state = "output off, setpoint 0 V"
    options: PowerSupplyOptions
    idn_patterns = ("*power supply*", "*powersupply*", "*,psu*")
    adopted_as = "psu"

    def __init__(self, name: str, options: PowerSupplyOptions) -> None:
        super().__init__(name, options)
        self._max_voltage = 0.0
        self._max_current = 0.0

    @property
    @exposed(unit="V")
    def voltage(self) -> float:
        """The voltage setpoint. Set it as with `set_voltage`."""
        return self.query_number("VOLT?")

    @voltage.setter
    def voltage(self, volts: float) -> None:
        self.set_voltage(volts)

    @exposed(access="control", unit="V")
    def set_voltage(self, volts: float) -> None:
        """Set the voltage setpoint. Raises OutOfRange, before anything is sent, below 0 or above `max_voltage`."""
        with self._reaching():
            number = number_between(f"{self.name}.voltage", volts, 0.0, self._max_voltage, "V")
        self.command(f"VOLT {scpi.format_number(number)}")

    @property
    @exposed(unit="A")
    def current(self) -> float:
        """The current limit. Set it as with `set_current`."""
        return self.query_number("CURR?")

    @current.setter
    def current(self, amperes: float) -> None:
        self.set_current(amperes)

    @exposed(access="control", unit="A")
    def set_current(self, amperes: float) -> None:
        """Set the current limit. Raises OutOfRange, before anything is sent, below 0 or above `max_current`."""
        with self._reaching():
            number = number_between(f"{self.name}.current", amperes, 0.0, self._max_current, "A")
        self.command(f"CURR {scpi.format_number(number)}")

    @property
    @exposed
    def output(self) -> bool:
        """Whether the output is on. Set it as with `set_output`."""
        return self.query_boolean("OUTP?")

    @output.setter
    def output(self, on: bool) -> None:
        self.set_output(on)

    @exposed(access="control")
    def set_output(self, on: bool) -> None:
        """Switch the output on or off. Raises TypeError unless `on` is a bool: "off" must not mean on."""
        if not isinstance(on, bool):
            raise TypeError(f"{self.name}.output must be True or False, not {type(on).__name__}")
        self.command("OUTP ON" if on else "OUTP OFF")

    @property
    @exposed(unit="V")
    def measured_voltage(self) -> float:
        """The voltage at the output."""
        return self.query_number("MEAS:VOLT?")

    @property
    @exposed(unit="A")
    def measured_current(self) -> float:
        """The current out of the output."""
        return self.query_number("MEAS:CURR?")

    @property
    @exposed(unit="W")
    def measured_power(self) -> float:
        """The power out of the output, as the supply measures it."""
        return self.query_number("MEAS:POW?")

    @property
    @exposed(unit="V")
    def max_voltage(self) -> float:
        """The highest setpoint allowed, from the gateway's config or from the supply. Does not talk to the supply."""
        return self._max_voltage

    @property
    @exposed(unit="A")
    def max_current(self) -> float:
        """The highest current limit allowed, as `max_voltage`."""
        return self._max_current

    @exposed(access="control")
    def make_safe(self) -> None:
        """Output off, setpoint 0 V, both read back; idempotent. The current limit stays as it is.

        Goes out before anything else, also while an answer is still due. Raises DeviceError when the supply then still
        says otherwise, CallTimeout when it says nothing, DeviceUnavailable when it is closed or gone.
        """
        reported = self._command_at_once("OUTP OFF", "VOLT 0")
        output, setpoint = self.query_boolean("OUTP?"), self.query_number("VOLT?")
        if output or not abs(setpoint) <= SAFE_SETPOINT:
            raise DeviceError(
                f"{self.name} did not go safe: output {'on' if output else 'off'}, setpoint {setpoint:g} V, reporting "
                f"{', '.join(map(str, reported)) or 'nothing'}; switch it off by hand",
                device=self.name,
                number=reported[0].number if reported else None,
                text=reported[0].text if reported else "",
            )
        if reported:
            log.warning("%s is safe, but reported %s", self.name, ", ".join(map(str, reported)))

    def _connect(self) -> None:
        super()._connect()
        self._max_voltage = self._limit("max_voltage", self.options.max_voltage, "VOLT? MAX")
        self._max_current = self._limit("max_current", self.options.max_current, "CURR? MAX")

    def _limit(self, option: str, configured: float | None, message: str) -> float:
        if configured is not None:
            return configured
        try:
            return self.parse(message, scpi.parse_number, self._exchange.ask_text(message.encode("ascii")))
        except (CallTimeout, DeviceError) as unknown:
            raise DeviceUnavailable(
                f"{self.name} does not tell its limit ({unknown}); set `{option}` in its config", device=self.name
            ) from unknown
