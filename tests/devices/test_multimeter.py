"""The multimeter's driver over a real pty."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator

import numpy
import pytest

from devices.multimeter import MultimeterOptions, ScpiMultimeter
from devices.simulators.instrument import Unplugged
from devices.simulators.line import Simulator
from devices.simulators.multimeter import NOISE, SOURCE, SimulatedMultimeter
from devices.simulators.scpi import Commands, definite_block, quoted
from gateway.errors import DeviceError, DeviceUnavailable, OutOfRange


class Overheard(SimulatedMultimeter):
    """Remembers every byte that it was sent, and may say something else than readings."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = bytearray()
        self.instead: bytes | None = None

    def receive(self, data: bytes) -> bytes:
        self.heard += data
        return super().receive(data)

    def _read(self) -> str | bytes:
        return super()._read() if self.instead is None else self.instead


@pytest.fixture
def simulated() -> Overheard:
    return Overheard()


@pytest.fixture
def meter(simulated: Overheard) -> Iterator[ScpiMultimeter]:
    with Simulator(simulated) as simulator:
        with ScpiMultimeter("dmm1", MultimeterOptions(port=simulator.path, baudrate=115_200, timeout_s=5)) as opened:
            opened.query("*OPC?")
            simulated.heard.clear()
            yield opened


def near(value: float, source: float) -> bool:
    return abs(value / source - 1) <= NOISE * 1.001


@pytest.mark.parametrize(
    ("name", "question", "source"),
    [
        ("voltage_dc", b"MEAS:VOLT:DC?\n", SOURCE["VOLT:DC"]),
        ("voltage_ac", b"MEAS:VOLT:AC?\n", SOURCE["VOLT:AC"]),
        ("current_dc", b"MEAS:CURR:DC?\n", SOURCE["CURR:DC"]),
        ("resistance", b"MEAS:RES?\n", SOURCE["RES"]),
    ],
)
def test_a_reading_asks_the_meter_once_and_is_near_the_source(
    meter: ScpiMultimeter, simulated: Overheard, name: str, question: bytes, source: float
) -> None:
    value = getattr(meter, name)
    assert simulated.heard == question + b"SYST:ERR?\n"
    assert near(value, source)
    assert meter.function == name
    assert getattr(meter, name) != value


def test_function_and_range_are_each_one_question(meter: ScpiMultimeter, simulated: Overheard) -> None:
    assert meter.function == "voltage_dc"
    assert meter.range == 10.0
    assert simulated.heard == b"CONF?\nSYST:ERR?\n" * 2


def test_function_and_range_are_set(meter: ScpiMultimeter) -> None:
    meter.function = "resistance"
    assert (meter.function, meter.range) == ("resistance", 10_000.0)
    meter.range = 90_000.0
    assert meter.range == 100_000.0
    meter.configure("current_dc", 1)
    assert (meter.function, meter.range) == ("current_dc", 1.0)
    meter.configure("current_dc")
    assert near(meter.read()[0], SOURCE["CURR:DC"])


@pytest.mark.parametrize("function", ["", "VOLT:DC", "voltage", "voltage_dc;*RST", None, 3])
def test_an_unknown_function_is_refused_before_anything_is_sent(
    meter: ScpiMultimeter, simulated: Overheard, function: str
) -> None:
    with pytest.raises(OutOfRange, match="dmm1 can measure voltage_dc, voltage_ac, current_dc, resistance"):
        meter.configure(function)
    assert simulated.heard == b""


@pytest.mark.parametrize("upper_end", [0, -1, math.nan, math.inf])
def test_an_impossible_range_is_refused_before_anything_is_sent(
    meter: ScpiMultimeter, simulated: Overheard, upper_end: float
) -> None:
    with pytest.raises(OutOfRange, match=r"dmm1\.range"):
        meter.configure("voltage_dc", upper_end)
    assert simulated.heard == b""


def test_a_range_that_the_meter_does_not_have_is_its_own_error(meter: ScpiMultimeter) -> None:
    with pytest.raises(DeviceError, match="-222 Data out of range") as caught:
        meter.configure("voltage_ac", 10_000)
    assert caught.value.number == -222
    assert near(meter.voltage_ac, SOURCE["VOLT:AC"])


def test_a_function_set_at_the_front_panel_that_we_do_not_know_says_so() -> None:
    class Panel(SimulatedMultimeter):
        def commands(self) -> Commands:
            return {**super().commands(), "CONFigure?": lambda _: quoted("TEMP 1,2")}

    with Simulator(Panel()) as simulator:
        with ScpiMultimeter("dmm1", MultimeterOptions(port=simulator.path, timeout_s=5)) as meter:
            with pytest.raises(DeviceError, match="configured for 'TEMP 1,2', which this driver does not know"):
                _ = meter.function


def test_an_overload_is_infinity(meter: ScpiMultimeter) -> None:
    meter.configure("voltage_dc", 0.1)
    assert meter.read(2) == [math.inf, math.inf]
    assert numpy.isinf(meter.waveform(3)).all()


@pytest.mark.parametrize("n", [1, 7, 2000])
def test_many_readings_come_as_a_list_of_floats(meter: ScpiMultimeter, n: int) -> None:
    values = meter.read(n)
    assert len(values) == n
    assert all(type(value) is float and near(value, SOURCE["VOLT:DC"]) for value in values)


@pytest.mark.parametrize("n", [1, 50, 20_000])
def test_a_waveform_comes_as_an_array(meter: ScpiMultimeter, n: int) -> None:
    values = meter.waveform(n)
    assert isinstance(values, numpy.ndarray)
    assert values.shape == (n,)
    assert values.dtype == numpy.dtype("=f8")
    assert values.flags.writeable
    assert numpy.abs(values / SOURCE["VOLT:DC"] - 1).max() <= NOISE


def test_without_numpy_a_waveform_comes_as_a_list(meter: ScpiMultimeter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    values = meter.waveform(10)
    assert isinstance(values, list)
    assert len(values) == 10
    assert all(type(value) is float and near(value, SOURCE["VOLT:DC"]) for value in values)


def test_a_waveform_is_the_same_numbers_whichever_way_it_comes(
    meter: ScpiMultimeter, simulated: Overheard, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [1.5, -2.25, 9.9e37, -9.9e37, 9.91e37, 1e-300, float.fromhex("0x0.0a0a0a0a0a0a0p-1022")]
    simulated.instead = definite_block(struct.pack(">7d", *sent))
    due = [1.5, -2.25, math.inf, -math.inf, math.nan, *sent[5:]]
    assert numpy.array_equal(meter.waveform(7), due, equal_nan=True)
    monkeypatch.setitem(sys.modules, "numpy", None)
    values = meter.waveform(7)
    assert [value for value in values if not math.isnan(value)] == [value for value in due if not math.isnan(value)]
    assert math.isnan(values[4])


def test_after_a_waveform_readings_are_text_again(meter: ScpiMultimeter, simulated: Overheard) -> None:
    meter.waveform(5)
    assert len(meter.read(3)) == 3
    assert simulated.binary is False


def test_after_a_waveform_that_failed_readings_are_text_again(meter: ScpiMultimeter, simulated: Overheard) -> None:
    simulated.instead = b"#15abcde"
    with pytest.raises(DeviceError, match=r"0\.625 readings where 3 were due"):
        meter.waveform(3)
    simulated.instead = None
    assert near(meter.read()[0], SOURCE["VOLT:DC"])


@pytest.mark.parametrize("said", [b"1,2", b"1,2,3,4", b"1,2,x", b"", b"1,2,"])
def test_another_number_of_readings_than_asked_for_is_an_error(
    meter: ScpiMultimeter, simulated: Overheard, said: bytes
) -> None:
    simulated.instead = said
    with pytest.raises(DeviceError):
        meter.read(3)


@pytest.mark.parametrize("n", [0, -1, 10_001, 10**30])
def test_a_number_of_readings_out_of_bounds_is_refused_before_anything_is_sent(
    meter: ScpiMultimeter, simulated: Overheard, n: int
) -> None:
    with pytest.raises(OutOfRange):
        meter.read(n)
    with pytest.raises(OutOfRange):
        meter.waveform(n * 1000)
    with pytest.raises(TypeError):
        meter.read(1.5)  # type: ignore[arg-type]
    assert simulated.heard == b""


def test_safe_means_nothing_is_being_measured(meter: ScpiMultimeter, simulated: Overheard) -> None:
    meter.make_safe()
    meter.make_safe()
    assert simulated.heard.startswith(b"\nABOR\nSYST:ERR?\n")


def test_a_meter_left_in_binary_format_is_brought_back_at_open(simulated: Overheard) -> None:
    simulated.binary = True
    with Simulator(simulated) as simulator:
        with ScpiMultimeter("dmm1", MultimeterOptions(port=simulator.path, timeout_s=5)) as meter:
            assert len(meter.read(2)) == 2


def test_a_meter_unplugged_in_the_middle_of_a_waveform_is_unavailable() -> None:
    class Leaving(SimulatedMultimeter):
        def _read(self) -> str | bytes:
            raise Unplugged

    with Simulator(Leaving()) as simulator:
        meter = ScpiMultimeter("dmm1", MultimeterOptions(port=simulator.path, timeout_s=30))
        meter.open()
        with pytest.raises(DeviceUnavailable):
            meter.waveform(10)
        assert meter.state == "faulty"
        with pytest.raises(DeviceUnavailable, match="no such port"):
            meter.close()
        assert meter.state == "closed"
