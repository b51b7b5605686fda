"""A simulated multimeter at a source that is known: readings vary, but by less than `NOISE` of the source's value.

The noise comes from a seeded generator: the same seed gives the same readings in the same order.
"""

from __future__ import annotations

import math
import random
import struct
from typing import Final

from devices.simulators.scpi import (
    Commands,
    Handler,
    Parameters,
    ScpiEngine,
    ScpiError,
    definite_block,
    fixed,
    number,
    quoted,
    string,
    word,
)

IDENTITY: Final = "Instrument Gateway,Simulated Multimeter,SIM-DMM-1,1.0"
SOURCE: Final = {"VOLT:DC": 5.0, "VOLT:AC": 1.2, "CURR:DC": 0.25, "RES": 4700.0}
"""What is at the terminals, in V, V, A and Ohm."""
RANGES: Final = {
    "VOLT:DC": (0.1, 1.0, 10.0, 100.0, 1000.0),
    "VOLT:AC": (0.1, 1.0, 10.0, 100.0, 750.0),
    "CURR:DC": (0.01, 0.1, 1.0, 3.0),
    "RES": (100.0, 1e3, 1e4, 1e5, 1e6),
}
SPELLINGS: Final = {"VOLT:DC": "VOLTage[:DC]", "VOLT:AC": "VOLTage:AC", "CURR:DC": "CURRent[:DC]", "RES": "RESistance"}
OVERRANGE: Final = 1.2
"""A range can be exceeded up to this factor; beyond, a reading is the overload number."""
OVERLOAD: Final = 9.9e37
NOISE: Final = 0.01
"""Bound of noise and ripple together, relative to the source."""
RIPPLE_PERIOD: Final = 50
"""Samples in one period of the ripple."""
MAX_SAMPLES: Final = 1_000_000


class SimulatedMultimeter(ScpiEngine):
    """Wakes up at DC voltage with automatic range, one sample, text format."""

    def __init__(self, *, seed: int = 1, identity: str = IDENTITY) -> None:
        self._random = random.Random(seed)
        self._ticks = 0
        self.reset()
        super().__init__(identity)

    def reset(self) -> None:
        self.function = "VOLT:DC"
        self.range: float | None = None
        self.samples = 1
        self.binary = False
        self.swapped = False

    def commands(self) -> Commands:
        table: Commands = {
            "CONFigure?": lambda _: quoted(f"{self.function} {self._range():+.6E},{self._range() * 1e-6:+.6E}"),
            "READ?": lambda _: self._read(),
            "ABORt": lambda _: None,
            "SAMPle:COUNt": self._set_samples,
            "SAMPle:COUNt?": lambda _: str(self.samples),
            "FORMat[:DATA]": self._set_format,
            "FORMat[:DATA]?": lambda _: "REAL,64" if self.binary else "ASC,9",
            "FORMat:BORDer": self._set_byte_order,
            "FORMat:BORDer?": lambda _: "SWAP" if self.swapped else "NORM",
            "[SENSe:]FUNCtion[:ON]": self._set_function,
            "[SENSe:]FUNCtion[:ON]?": lambda _: quoted(self.function),
        }
        for function, spelling in SPELLINGS.items():
            table[f"CONFigure[:SCALar]:{spelling}"] = self._configure(function)
            table[f"MEASure[:SCALar]:{spelling}?"] = self._measure(function)
        return table

    def reading(self) -> float:
        """The next reading of the function: the source, with ripple and noise; the overload number beyond the range."""
        self._ticks += 1
        source = SOURCE[self.function]
        if source > OVERRANGE * self._range():
            return OVERLOAD
        ripple = 0.5 * math.sin(2 * math.pi * self._ticks / RIPPLE_PERIOD)
        return source * (1 + NOISE * (ripple + self._random.uniform(-0.5, 0.5)))

    def _range(self) -> float:
        """The range in use; the automatic one is the smallest that holds the source."""
        if self.range is not None:
            return self.range
        return next(end for end in RANGES[self.function] if end >= SOURCE[self.function])

    def _configure(self, function: str) -> Handler:
        def configure(parameters: Parameters) -> None:
            ranges = RANGES[function]
            if parameters and parameters[0].upper() not in (b"AUTO", b"DEF", b"DEFAULT"):
                due = number(parameters[:1], lowest=0.0, highest=ranges[-1])
                self.range = next(end for end in ranges if end >= due)
            else:
                self.range = None
            self.function, self.samples = function, 1

        return configure

    def _measure(self, function: str) -> Handler:
        configure = self._configure(function)

        def measure(parameters: Parameters) -> str:
            configure(parameters)
            return fixed(self.reading())

        return measure

    def _read(self) -> str | bytes:
        values = [self.reading() for _ in range(self.samples)]
        if not self.binary:
            return ",".join(fixed(value) for value in values)
        return definite_block(struct.pack(f"{'<' if self.swapped else '>'}{len(values)}d", *values))

    def _set_samples(self, parameters: Parameters) -> None:
        self.samples = int(number(parameters, lowest=1, highest=MAX_SAMPLES, default=1))

    def _set_format(self, parameters: Parameters) -> None:
        choice = word(parameters[:1], "ASCii", "REAL")
        if choice == "REAL" and parameters[1:] not in ([], [b"64"]):
            raise ScpiError(-224)
        self.binary = choice == "REAL"

    def _set_byte_order(self, parameters: Parameters) -> None:
        self.swapped = word(parameters, "NORMal", "SWAPped") == "SWAPped"

    def _set_function(self, parameters: Parameters) -> None:
        function = string(parameters).upper()
        if function not in SOURCE:
            raise ScpiError(-224)
        self.function, self.range = function, None
