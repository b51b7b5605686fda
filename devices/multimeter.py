"""A SCPI multimeter (SCPI-99 volume 4, class DIGITAL MULTIMETER; tried with the simulator only).

MEAS:VOLT:DC?                    configure, trigger and read one value
CONF:VOLT:DC 10, CONF?           configure only, and what is configured: "VOLT:DC 1.0E+1,1.0E-5"
SAMP:COUN 100, READ?             trigger and read many values of the configured function
FORM REAL,64, FORM:BORD NORM     as IEEE 754 doubles, big-endian, in a block; FORM ASC as text
"""

from __future__ import annotations

import re
import struct
from typing import Annotated, Any, Final

from msgspec import Meta

from devices import scpi
from devices.bounds import count_between, number_between
from devices.scpi_instrument import ScpiInstrument, ScpiOptions
from gateway.errors import DeviceError, OutOfRange
from gateway.service.exposure import exposed

FUNCTIONS: Final = {
    "voltage_dc": "VOLT:DC",
    "voltage_ac": "VOLT:AC",
    "current_dc": "CURR:DC",
    "resistance": "RES",
}
"""Our name of a function -> the instrument's."""
MAX_READINGS: Final = 10_000
MAX_SAMPLES: Final = 1_000_000
HIGHEST_RANGE: Final = 1e12
READING_BYTES: Final = 32
"""Room for one value in text, with its comma."""
DOUBLE_BYTES: Final = 8

_CONFIGURED: Final = re.compile(r"(?P<function>[A-Z]+(:[A-Z]+)?) (?P<range>[^,]+)(,.*)?")
_NAMES: Final = {scpi_name: name for name, scpi_name in FUNCTIONS.items()} | {
    "VOLT": "voltage_dc",
    "CURR": "current_dc",
}


class MultimeterOptions(ScpiOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `scpi-multimeter`."""

    reading_s: Annotated[float, Meta(gt=0, le=10)] = 0.05
    """Time the instrument may take for one reading; `read` and `waveform` wait `timeout_s` plus this for each."""


class ScpiMultimeter(ScpiInstrument):
    """A multimeter. Every property asks the instrument once when it is read. A reading beyond the range is `inf`.

    Safe condition: it drives nothing, so that no measurement is running.
    """

    Options = MultimeterOptions
    options: MultimeterOptions
    idn_patterns = ("*multimeter*", "*,dmm*")
    adopted_as = "dmm"

    @property
    @exposed
    def function(self) -> str:
        """What `read` and `waveform` measure: `voltage_dc`, `voltage_ac`, `current_dc` or `resistance`.

        Setting it is as `configure` with automatic range; reading one of the four properties sets it too.
        """
        return self._configured()[0]

    @function.setter
    def function(self, function: str) -> None:
        self.configure(function)

    @property
    @exposed
    def range(self) -> float:
        """The upper end of the measuring range, in the unit of `function`. Setting it ends automatic range."""
        return self._configured()[1]

    @range.setter
    def range(self, upper_end: float) -> None:
        self.configure(self.function, upper_end)

    @exposed(access="control")
    def configure(self, function: str, upper_end: float | None = None) -> None:
        """Choose what to measure and the range whose upper end is at least `upper_end`; automatic range without it.

        Raises OutOfRange for an unknown function or a range that is not above 0, before anything is sent; DeviceError
        for a range that the instrument does not have.
        """
        if not isinstance(function, str) or function not in FUNCTIONS:
            raise OutOfRange(f"{self.name} can measure {', '.join(FUNCTIONS)}", function=str(function)[:40])
        if upper_end is None:
            self.command(f"CONF:{FUNCTIONS[function]}")
            return
        number = number_between(f"{self.name}.range", upper_end, 1e-12, HIGHEST_RANGE, "the function's unit")
        self.command(f"CONF:{FUNCTIONS[function]} {scpi.format_number(number)}")

    @property
    @exposed(unit="V")
    def voltage_dc(self) -> float:
        """One reading of DC voltage."""
        return self.query_number("MEAS:VOLT:DC?")

    @property
    @exposed(unit="V")
    def voltage_ac(self) -> float:
        """One reading of AC voltage, RMS."""
        return self.query_number("MEAS:VOLT:AC?")

    @property
    @exposed(unit="A")
    def current_dc(self) -> float:
        """One reading of DC current."""
        return self.query_number("MEAS:CURR:DC?")

    @property
    @exposed(unit="Ohm")
    def resistance(self) -> float:
        """One reading of resistance, with two wires."""
        return self.query_number("MEAS:RES?")

    @exposed(access="read")
    def read(self, n: int = 1) -> list[float]:
        """`n` readings (1 to 10 000) of the configured function, as text over the line.

        Raises OutOfRange for another `n`, DeviceError when another number of readings comes.
        """
        count = count_between(f"{self.name}: n", n, 1, MAX_READINGS)
        with self._lock:
            self.command(f"SAMP:COUN {count}")
            size = count * READING_BYTES
            allowed_s = self._sampling_s(count) + 2 * self._line.transfer_s(size)
            answer = self.query("READ?", timeout_s=allowed_s, max_bytes=size)
        values = self.parse("READ?", scpi.parse_numbers, answer)
        self._check_count(len(values), count)
        return values

    @exposed(access="read")
    def waveform(self, n: int = 1000) -> Any:
        """`n` samples (1 to 1 000 000) of the configured function, binary over the line.

        A one-dimensional numpy array of float64 where numpy is installed on the gateway, otherwise a list of floats.
        Raises as `read`.
        """
        count = count_between(f"{self.name}: n", n, 1, MAX_SAMPLES)
        with self._lock:
            self.command("FORM REAL,64", "FORM:BORD NORM", f"SAMP:COUN {count}")
            try:
                data = self.query_block("READ?", max_bytes=count * DOUBLE_BYTES, timeout_s=self._sampling_s(count))
            finally:
                self.command("FORM ASC")
        self._check_count(len(data) / DOUBLE_BYTES, count)
        return _doubles(data)

    @exposed(access="control")
    def make_safe(self) -> None:
        """Stop a running measurement (`ABOR`). A multimeter drives nothing: there is no more to make safe. Idempotent.

        Raises CallTimeout when the instrument does not react, DeviceUnavailable when it is closed or gone.
        """
        self._command_at_once("ABOR")

    def _connect(self) -> None:
        super()._connect()
        # A waveform that broke off may have left the binary format.
        self._exchange.tell(b"FORM ASC")

    def _configured(self) -> tuple[str, float]:
        answer = self.query_string("CONF?")
        match = _CONFIGURED.fullmatch(answer)
        name = _NAMES.get(match["function"]) if match else None
        if match is None or name is None:
            raise DeviceError(
                f"{self.name} is configured for {answer[:80]!r}, which this driver does not know; call configure()",
                device=self.name,
                number=None,
                text=answer[:80],
            )
        return name, self.parse("CONF?", scpi.parse_number, match["range"])

    def _sampling_s(self, count: int) -> float:
        return self.options.timeout_s + count * self.options.reading_s

    def _check_count(self, actual: float, due: int) -> None:
        if actual != due:
            raise DeviceError(
                f"{self.name} sent {actual:g} readings where {due} were due", device=self.name, number=None, text=""
            )


def _doubles(data: bytes) -> Any:
    try:
        import numpy
    except ImportError:
        return [scpi.from_scpi(value) for (value,) in struct.iter_unpack(">d", data)]
    values = numpy.frombuffer(data, dtype=">f8").astype("=f8")
    values[values == scpi.OVERLOAD] = numpy.inf
    values[values == -scpi.OVERLOAD] = -numpy.inf
    values[values == scpi.NOT_A_NUMBER] = numpy.nan
    return values
