"""A serial line on a real pty: exclusive, bounded, in time, and one error for every way a port goes away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.line import LineOptions, SerialLine
from devices.simulators.instrument import Unplugged
from devices.simulators.line import SimulatedLine, Simulator
from gateway.errors import CallTimeout, ConfigError, DeviceError, DeviceUnavailable
from tests.leftovers import Before


@pytest.fixture
def far_end() -> Iterator[SimulatedLine]:
    with SimulatedLine() as line:
        yield line


@pytest.fixture
def line(far_end: SimulatedLine) -> Iterator[SerialLine]:
    near = SerialLine(LineOptions(port=far_end.path, timeout_s=5.0))
    near.open()
    yield near
    near.close()


def test_a_line_is_cut_at_its_terminator_and_the_rest_stays(far_end: SimulatedLine, line: SerialLine) -> None:
    os.write(far_end.master, b"one\ntwo\nthr")
    assert line.read_line(timeout_s=5, max_bytes=100) == b"one"
    assert line.read_line(timeout_s=5, max_bytes=100) == b"two"
    os.write(far_end.master, b"ee\n")
    assert line.read_line(timeout_s=5, max_bytes=100) == b"three"


@pytest.mark.parametrize("terminator", [b"\n", b"\r\n", b"\r"])
def test_a_terminator_of_two_bytes_may_come_in_two_pieces(far_end: SimulatedLine, terminator: bytes) -> None:
    near = SerialLine(LineOptions(port=far_end.path), terminator=terminator)
    near.open()
    try:
        os.write(far_end.master, b"x" + terminator[:1])
        assert near.read_some(1, timeout_s=5) == b"x"
        reader = threading.Thread(target=os.write, args=(far_end.master, terminator[1:] + b"y" + terminator))
        reader.start()
        lines = [near.read_line(timeout_s=5, max_bytes=100) for _ in range(2)]
        reader.join()
        assert lines == [b"", b"y"]
    finally:
        near.close()


@pytest.mark.parametrize("data", [bytes(range(256)), b"\n\r\x00\x11\x13\xff" * 5])
def test_counted_bytes_are_whatever_they_are(far_end: SimulatedLine, line: SerialLine, data: bytes) -> None:
    os.write(far_end.master, data + b"rest")
    assert line.read_exactly(len(data), timeout_s=5) == data
    assert line.read_some(100, timeout_s=5) == b"rest"


def test_what_is_written_arrives_as_it_is(far_end: SimulatedLine, line: SerialLine) -> None:
    data = bytes(range(256)) * 30
    line.write(data)
    received = b""
    while len(received) < len(data):
        received += os.read(far_end.master, 4096)
    assert received == data


def test_a_line_without_an_end_is_refused_at_its_bound(far_end: SimulatedLine, line: SerialLine) -> None:
    os.write(far_end.master, b"\xfe" * 101)
    with pytest.raises(DeviceError, match="101 bytes without an end where at most 100 were due") as caught:
        line.read_line(timeout_s=5, max_bytes=100)
    assert caught.value.port == far_end.path


def test_a_line_of_just_the_bound_is_taken(far_end: SimulatedLine, line: SerialLine) -> None:
    os.write(far_end.master, b"x" * 100 + b"\n" + b"y" * 101 + b"\n")
    assert line.read_line(timeout_s=5, max_bytes=100) == b"x" * 100
    with pytest.raises(DeviceError):
        line.read_line(timeout_s=5, max_bytes=100)


def test_an_answer_that_does_not_end_in_time_says_how_much_came(far_end: SimulatedLine, line: SerialLine) -> None:
    os.write(far_end.master, b"1.2")
    begun = time.monotonic()
    with pytest.raises(CallTimeout, match=r"no complete answer within 0\.1 s, 3 bytes came") as caught:
        line.read_line(timeout_s=0.1, max_bytes=100)
    assert time.monotonic() - begun >= 0.1
    assert caught.value.received == 3
    with pytest.raises(CallTimeout):
        line.read_exactly(4, timeout_s=0.01)


@pytest.mark.parametrize(
    ("drop", "method"), [(b".", "read_line"), (b".", "read_until_quiet"), (b"\n", "read_until_quiet")]
)
def test_a_trickle_does_not_stretch_the_time(
    line: SerialLine, far_end: SimulatedLine, drop: bytes, method: str
) -> None:
    done = threading.Event()
    more = {"quiet_s": 5.0} if method == "read_until_quiet" else {}

    def trickle() -> None:
        while not done.wait(0.02):
            os.write(far_end.master, drop)

    talker = threading.Thread(target=trickle)
    talker.start()
    try:
        with pytest.raises(CallTimeout):
            getattr(line, method)(timeout_s=0.2, max_bytes=100_000, **more)
    finally:
        done.set()
        talker.join()


def test_reading_what_is_there_waits_for_the_first_byte_only(far_end: SimulatedLine, line: SerialLine) -> None:
    assert line.read_some(10, timeout_s=0) == b""
    os.write(far_end.master, b"abc")
    assert line.read_some(2, timeout_s=5) == b"ab"
    assert line.read_some(10, timeout_s=5) == b"c"


def test_silence_after_a_terminator_ends_data_that_contains_it(far_end: SimulatedLine, line: SerialLine) -> None:
    os.write(far_end.master, b"a\nb\n\nc\n")
    assert line.read_until_quiet(timeout_s=5, quiet_s=0.05, max_bytes=100) == b"a\nb\n\nc"


def test_data_without_silence_is_bounded(far_end: SimulatedLine, line: SerialLine) -> None:
    os.write(far_end.master, b"a\n" * 60)
    with pytest.raises(DeviceError, match="at most"):
        line.read_until_quiet(timeout_s=5, quiet_s=0.05, max_bytes=100)


def test_discarded_input_is_gone(far_end: SimulatedLine, line: SerialLine) -> None:
    os.write(far_end.master, b"old\nolder\n")
    assert line.read_line(timeout_s=5, max_bytes=100) == b"old"
    line.discard_input()
    os.write(far_end.master, b"new\n")
    assert line.read_line(timeout_s=5, max_bytes=100) == b"new"


def test_a_read_that_waits_is_cancelled_from_another_thread(line: SerialLine) -> None:
    threading.Thread(target=line.cancel).start()
    assert line.read_some(10, timeout_s=60) == b""


def test_a_cancel_ends_the_next_read_when_none_waits(line: SerialLine, far_end: SimulatedLine) -> None:
    line.cancel()
    assert line.read_some(10, timeout_s=60) == b""
    os.write(far_end.master, b"x")
    assert line.read_some(10, timeout_s=5) == b"x"


def test_a_port_is_ours_alone(far_end: SimulatedLine, line: SerialLine) -> None:
    second = SerialLine(LineOptions(port=far_end.path))
    with pytest.raises(DeviceUnavailable, match="another program holds it") as caught:
        second.open()
    assert caught.value.port == far_end.path
    line.close()
    second.open()
    second.close()


def test_closing_twice_is_closing(line: SerialLine) -> None:
    line.close()
    line.close()
    with pytest.raises(DeviceUnavailable, match="is not open"):
        line.write(b"x")
    line.cancel()


def test_a_missing_port_says_so_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="there is no such port; plug the device in"):
        SerialLine(LineOptions(port=str(tmp_path / "ttyUSB0"))).open()


def test_a_file_that_is_no_port_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeviceUnavailable, match="check that `port` is a serial port"):
        SerialLine(LineOptions(port=str(tmp_path / "file"))).open()


@pytest.mark.parametrize("options", [{"parity": "even"}, {"bytesize": 7}])
def test_what_a_port_can_not_do_is_an_error_of_the_config(far_end: SimulatedLine, options: dict[str, object]) -> None:
    # A pty has eight bits and no parity. The C library accepts a setting of which any part could be made, so that only
    # the second opening, which changes nothing else, is refused: by a termios.error, which is no OSError.
    plain = SerialLine(LineOptions(port=far_end.path))
    plain.open()
    plain.close()
    with pytest.raises(ConfigError, match="can't be set to 9600 baud"):
        SerialLine(LineOptions(port=far_end.path, **options)).open()  # type: ignore[arg-type]
    plain.open()
    plain.close()


def test_an_unusual_baud_rate_is_set(far_end: SimulatedLine) -> None:
    line = SerialLine(LineOptions(port=far_end.path, baudrate=250_000))
    line.open()
    os.write(far_end.master, b"x")
    assert line.read_some(1, timeout_s=5) == b"x"
    line.close()


def test_a_port_that_takes_nothing_is_a_timeout(far_end: SimulatedLine) -> None:
    near = SerialLine(LineOptions(port=far_end.path, timeout_s=0.05))
    near.open()
    with pytest.raises(CallTimeout, match=r"took nothing for 0\.05 s"):
        near.write(b"x" * 100_000)
    near.close()


@pytest.mark.parametrize("operation", ["read", "write", "discard"])
def test_every_operation_on_an_unplugged_port_is_one_error(
    far_end: SimulatedLine, line: SerialLine, operation: str
) -> None:
    far_end.close()
    calls = {
        "read": lambda: line.read_line(timeout_s=5, max_bytes=10),
        "write": lambda: line.write(b"x"),
        "discard": line.discard_input,
    }
    with pytest.raises(DeviceUnavailable, match=r"is gone .* plug it back in") as caught:
        calls[operation]()
    assert caught.value.port == far_end.path
    line.close()


class Leaving:
    """Pulls the plug at the first byte."""

    def receive(self, data: bytes) -> bytes:
        if data:
            raise Unplugged
        return b""


def test_a_read_that_waits_ends_when_the_port_is_unplugged() -> None:
    with Simulator(Leaving()) as simulator:
        line = SerialLine(LineOptions(port=simulator.path))
        line.open()
        line.write(b"x")
        with pytest.raises(DeviceUnavailable):
            line.read_line(timeout_s=30, max_bytes=10)
        line.close()


def test_no_descriptor_is_left_behind(far_end: SimulatedLine, tmp_path: Path) -> None:
    before = Before()
    line = SerialLine(LineOptions(port=far_end.path))
    for _ in range(3):
        line.open()
        line.close()
        with pytest.raises(DeviceUnavailable):
            SerialLine(LineOptions(port=str(tmp_path / "none"))).open()
    assert before.added() == []


def test_the_time_on_the_wire_follows_from_the_baud_rate() -> None:
    assert SerialLine(LineOptions(port="x", baudrate=9600)).transfer_s(960) == pytest.approx(1.0)
