"""SCPI instruments by USBTMC: the drivers as they are, on a software instrument and pyusb's own API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from devices.multimeter import MultimeterOptions, ScpiMultimeter
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from devices.simulators.multimeter import SimulatedMultimeter
from devices.simulators.power_supply import SimulatedPowerSupply
from devices.usbtmc import TRANSFER, UsbTmcLine
from gateway.errors import CallTimeout, ConfigError, DeviceError, DeviceUnavailable
from hil.usb.in_process import Bus
from hil.usb.model import Endpoint, Interface, UsbModel
from hil.usb.tmc import COMING, TmcInstrument

RESOURCE = "usbtmc://1209:0002"


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    with bus.installed():
        yield bus


class Echo:
    """Says what it was told to say."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answers: dict[bytes, bytes] = {}

    def receive(self, message: bytes) -> bytes:
        self.heard.append(message)
        return self.answers.get(message, b"")


@pytest.fixture
def echo(bus: Bus) -> tuple[Echo, TmcInstrument]:
    echo = Echo()
    model = TmcInstrument(echo.receive, status=lambda: 0x50)
    bus.plug(model)
    return echo, model


@pytest.fixture
def line(echo: tuple[Echo, TmcInstrument]) -> Iterator[UsbTmcLine]:
    line = UsbTmcLine(RESOURCE, 0.3)
    line.open()
    yield line
    line.close()


def test_the_multimeters_driver_reads_by_usbtmc(bus: Bus) -> None:
    bus.plug(TmcInstrument(SimulatedMultimeter().receive, "DMM7"))
    meter = ScpiMultimeter("dmm1", MultimeterOptions(resource=f"{RESOURCE}/DMM7"))
    meter.open()
    assert "," in meter.identify()
    assert abs(meter.voltage_dc) < 1000.0
    assert len(meter.read(20)) == 20
    assert len(meter.waveform(2000)) == 2000
    meter.close()
    assert not bus.handles


def test_the_supplys_driver_sets_and_reads_back_and_is_made_safe(bus: Bus) -> None:
    model = TmcInstrument(SimulatedPowerSupply().receive)
    bus.plug(model)
    supply = ScpiPowerSupply("psu1", PowerSupplyOptions(resource=RESOURCE))
    supply.open()
    supply.set_voltage(3.5)
    assert supply.query_number("VOLT?") == 3.5
    with pytest.raises(DeviceError, match="-113"):
        supply.command("NONSENSE 1")
    supply.make_safe()
    assert supply.query_boolean("OUTP?") is False
    bus.unplug(model)
    with pytest.raises(DeviceUnavailable, match="is gone"):
        supply.set_voltage(1.0)
    bus.plug(model)
    supply.set_voltage(2.0)
    assert supply.query_number("VOLT?") == 2.0
    supply.close()


SIZES = [1, 51, 52, 500, 4096]
LONG = [TRANSFER, TRANSFER + 1, 3 * TRANSFER]


@pytest.mark.parametrize(
    ("size", "most"),
    [*((size, 64) for size in SIZES), *((size, most) for size in SIZES + LONG for most in (100_000, 1 << 30))],
)
def test_long_blocks_pass_in_pieces_of_any_size(
    echo: tuple[Echo, TmcInstrument], line: UsbTmcLine, size: int, most: int
) -> None:
    device, model = echo
    model.most = most
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    device.answers[b"CURV?\n"] = data + b"\n"
    line.write(b"CURV?\n")
    assert line.read_exactly(size, timeout_s=5.0) == data
    assert line.read_line(timeout_s=5.0, max_bytes=1) == b""
    line.write(data)
    assert device.heard[-1] == data


def test_an_answer_that_does_not_come_leaves_the_instrument_usable(
    echo: tuple[Echo, TmcInstrument], line: UsbTmcLine
) -> None:
    device, model = echo
    device.answers = {b"SLOW?\n": b"late\n", b"FAST?\n": b"soon\n"}
    model.mute = True
    line.write(b"SLOW?\n")
    begin = monotonic()
    with pytest.raises(CallTimeout, match="no complete answer within 0.1 s, 0 bytes came"):
        line.read_line(timeout_s=0.1, max_bytes=100)
    assert monotonic() - begin < 1.0
    clears = model.clears
    line.discard_input()
    assert model.clears == clears + 1
    model.say()
    line.write(b"FAST?\n")
    assert line.read_line(timeout_s=1.0, max_bytes=100) == b"soon"


def test_the_status_byte_can_be_read_while_an_answer_is_due(echo: tuple[Echo, TmcInstrument], line: UsbTmcLine) -> None:
    device, _ = echo
    device.answers[b"X?\n"] = b"1\n"
    line.write(b"X?\n")
    assert [line.read_status() for _ in range(130)] == [0x50] * 130
    assert line.read_line(timeout_s=1.0, max_bytes=10) == b"1"


def test_a_read_that_waits_can_be_interrupted(echo: tuple[Echo, TmcInstrument], line: UsbTmcLine) -> None:
    caught: list[BaseException] = []

    def read() -> None:
        try:
            line.read_line(timeout_s=30.0, max_bytes=10)
        except DeviceError as error:
            caught.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    line.interrupt(DeviceError("stopped", number=None, text=""))
    reader.join(5.0)
    assert [str(error) for error in caught] == ["stopped"]
    line.resume()


@pytest.mark.parametrize(
    "transfer",
    [b"", b"\x02\x01", b"\x02\x99\x66\0" + bytes(8), b"\x01\x02\xfd\0" + bytes(8), bytes(12)],
    ids=["empty", "short", "other-tag", "other-kind", "zeros"],
)
def test_what_is_no_answer_is_refused_and_cleared_away(
    echo: tuple[Echo, TmcInstrument], line: UsbTmcLine, transfer: bytes
) -> None:
    device, model = echo
    device.answers[b"X?\n"] = b"1\n"
    model.send(COMING, transfer)
    line.write(b"Y\n")
    with pytest.raises(DeviceError, match="answered with no message"):
        line.read_line(timeout_s=1.0, max_bytes=10)
    line.write(b"X?\n")
    assert line.read_line(timeout_s=1.0, max_bytes=10) == b"1"


def test_a_stall_is_an_error_and_no_end(echo: tuple[Echo, TmcInstrument], line: UsbTmcLine) -> None:
    device, model = echo
    device.answers[b"X?\n"] = b"1\n"
    model.halt(COMING)
    line.write(b"X?\n")
    with pytest.raises(DeviceError, match="stalled"):
        line.read_line(timeout_s=1.0, max_bytes=10)
    line.discard_input()
    line.write(b"X?\n")
    assert line.read_line(timeout_s=1.0, max_bytes=10) == b"1"


def test_the_kernels_driver_gets_it_back(bus: Bus, echo: tuple[Echo, TmcInstrument]) -> None:
    place = (bus.plugs[0].address, 0)
    bus.grabbed.add(place)
    line = UsbTmcLine(RESOURCE, 0.3)
    line.open()
    assert not bus.grabbed
    line.close()
    assert bus.grabbed == {place}
    bus.grabbed.clear()
    line.open()
    line.close()
    assert not bus.grabbed, "what no driver had is given to none"


def test_what_can_not_be_opened_says_why(bus: Bus) -> None:
    with pytest.raises(DeviceUnavailable, match="no USB device is 1209:0002"):
        UsbTmcLine(RESOURCE, 0.3).open()
    bus.plug(UsbModel(pid=0x0002, interfaces=(Interface(0, 0xFF, 0, 0, (Endpoint(0x81),)),)))
    with pytest.raises(ConfigError, match="no USBTMC instrument: it has no interface of that class"):
        UsbTmcLine(RESOURCE, 0.3).open()
    bus.forbidden = True
    with pytest.raises(ConfigError, match="gateway udev 1209:0002"):
        UsbTmcLine(RESOURCE, 0.3).open()
    assert not bus.handles
    with pytest.raises(ConfigError, match="is no usbtmc://VID:PID/SERIAL"):
        UsbTmcLine("usbtmc://1", 0.3)


def test_a_driver_takes_a_port_or_a_resource() -> None:
    for options, said in (
        ({}, "missing key 'port', or 'resource'"),
        ({"port": "/dev/ttyS0", "resource": RESOURCE}, "keep one of them"),
        ({"resource": "usbtmc://12"}, "must be such as usbtmc://"),
        ({"resource": ""}, "must be such as usbtmc://"),
    ):
        with pytest.raises(ValueError, match=said):
            MultimeterOptions(**options)
