"""The real-time wire: real tty descriptors, paced, damaged, unplugged. Times are checked from below only."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
import serial

from hil.faults import Bytes, Delay, Drop, End, FaultPlan, Flip, HangUp, Insert, Seconds, Unplug
from hil.lane import PACKET
from hil.pty_wire import PtyWire
from hil.quirks import Quirk
from tests.leftovers import Before

A, B = End.A, End.B
NOISE = random.Random(1).randbytes(100_000)


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    deadline, pause = monotonic() + timeout, threading.Event()
    while not condition():
        assert monotonic() < deadline, f"not within {timeout:g} s: {what}"
        pause.wait(0.002)


@pytest.fixture
def open_port() -> Iterator[Callable[..., serial.Serial]]:
    """Opens ends of wires."""
    with contextlib.ExitStack() as stack:

        def make(wire: PtyWire, end: End, baud: int = 115200, **settings: object) -> serial.Serial:
            port = serial.Serial(wire.port(end), baudrate=baud, timeout=10, **settings)
            stack.callback(port.close)
            return port

        yield make


@pytest.fixture
def make_wire() -> Iterator[Callable[..., PtyWire]]:
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **settings: stack.enter_context(PtyWire(*arguments, **settings))


Make = Callable[..., PtyWire]
Open = Callable[..., serial.Serial]


# ------------------------------------------------------------------------------------------------------------ carrying


def test_bytes_pass_unchanged_in_both_directions_and_are_counted(make_wire: Make, open_port: Open) -> None:
    wire = make_wire()
    a, b = open_port(wire, A), open_port(wire, B)
    for source, target in ((a, b), (b, a)):
        thread = threading.Thread(target=source.write, args=(NOISE,))
        thread.start()
        assert target.read(len(NOISE)) == NOISE
        thread.join()
    assert [wire.sent(end) for end in End] == [len(NOISE)] * 2
    assert [wire.delivered(end) for end in End] == [len(NOISE)] * 2


@pytest.mark.parametrize(("baud", "bits"), [(9600, None), (115200, None), (115200, 12), (921600, None)])
def test_a_paced_wire_takes_the_time_of_its_bytes(
    make_wire: Make, open_port: Open, baud: int, bits: int | None
) -> None:
    wire = make_wire(baud, bits=bits)
    a, b = open_port(wire, A), open_port(wire, B)
    size = baud // 50  # 0.2 s at ten bits a byte
    begin = monotonic()
    a.write(NOISE[:size])
    assert b.read(size) == NOISE[:size]
    assert monotonic() - begin >= size * (bits or 10) / baud


def test_a_paced_wire_is_not_slower_than_its_speed_by_much(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(115200)
    a, b = open_port(wire, A), open_port(wire, B)
    begin = monotonic()
    a.write(NOISE[:5760])
    b.read(5760)
    assert monotonic() - begin < 10 * 0.5


def test_no_byte_is_early(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(9600)
    a, b = open_port(wire, A), open_port(wire, B)
    pause = threading.Event()
    for size in (1, 7, 30):
        pause.wait(0.01)  # an idle line saves nothing up
        begin = monotonic()
        a.write(bytes(size))
        b.read(size)
        assert monotonic() - begin >= size * 10 / 9600


def test_the_directions_do_not_slow_each_other(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(57600)
    a, b = open_port(wire, A), open_port(wire, B)
    begin = monotonic()
    a.write(bytes(1152))
    b.write(bytes(1152))
    a.read(1152)
    b.read(1152)
    assert 0.2 <= monotonic() - begin < 0.2 * 10


def test_a_wire_follows_what_the_owner_sets(make_wire: Make, open_port: Open) -> None:
    wire = make_wire("follow")
    a, b = open_port(wire, A, 9600), open_port(wire, B, 9600)
    for baud, stopbits, bits in ((9600, 1, 10), (250_000, 1, 10), (19200, 2, 11)):
        for port in (a, b):
            port.baudrate, port.stopbits = baud, stopbits
        size = baud // 100
        begin = monotonic()
        a.write(NOISE[:size])
        assert b.read(size) == NOISE[:size]
        took = monotonic() - begin
        assert size * bits / baud <= took < 10 * size * bits / baud + 1


def test_two_ends_at_different_speeds_hear_noise(make_wire: Make, open_port: Open) -> None:
    wire = make_wire("follow")
    a, b = open_port(wire, A, 115200), open_port(wire, B, 57600)
    a.write(bytes(400))
    heard = b.read(200)
    assert len(heard) == 200
    assert len(set(heard)) > 20
    assert wire.sent(A) == 400
    b.baudrate = 115200
    b.timeout = 0.2
    wait_until(lambda: not b.read(1000), "the line is quiet")
    a.write(b"now you hear me")
    assert b.read(15) == b"now you hear me"


def test_an_adapter_keeps_a_short_message_for_its_latency(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(latency_s=0.05)
    a, b = open_port(wire, A), open_port(wire, B)
    begin = monotonic()
    a.write(b"x")
    assert b.read(1) == b"x"
    assert monotonic() - begin >= 0.05
    begin = monotonic()
    heard = wire.record()
    a.write(bytes(PACKET + 3))
    b.read(PACKET + 3)
    assert monotonic() - begin >= 0.05
    assert wire.delivered(B) == 1 + PACKET + 3
    came = [entry for entry in heard if not entry.sent]
    assert [len(entry.data) for entry in came] == [PACKET, 3]
    assert came[1].at_s - came[0].at_s >= 0.045


def test_a_reader_who_takes_nothing_stops_the_line_and_loses_nothing(make_wire: Make, open_port: Open) -> None:
    wire = make_wire()
    a, b = open_port(wire, A), open_port(wire, B)
    thread = threading.Thread(target=a.write, args=(NOISE,))
    thread.start()
    wait_until(lambda: wire.delivered(B) > 4000, "the reader's buffer fills")
    thread.join(0.2)
    assert thread.is_alive()
    assert b.read(len(NOISE)) == NOISE
    thread.join()
    assert wire.overruns == 0


def test_without_flow_control_a_slow_reader_loses_bytes(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(flow_control=False)
    a, b = open_port(wire, A), open_port(wire, B)
    a.write(NOISE)
    wait_until(lambda: wire.sent(A) == len(NOISE), "all is taken")
    b.timeout = 0.3
    heard = b.read(len(NOISE))
    assert 4000 < len(heard) < len(NOISE)
    assert len(heard) + wire.overruns == len(NOISE)


def test_the_tap_hears_what_was_sent_and_what_arrived(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(faults=FaultPlan(script=(Flip(where=Bytes(0), mask=0x20, sender=A),)))
    a, b = open_port(wire, A), open_port(wire, B)
    heard = wire.record()
    a.write(b"Abc")
    assert b.read(3) == b"abc"
    b.write(b"ok")
    assert a.read(2) == b"ok"
    assert (wire.delivered(A), wire.sent(A)) == (2, 3)
    assert b"".join(entry.data for entry in heard if entry.sent and entry.end is A) == b"Abc"
    assert b"".join(entry.data for entry in heard if not entry.sent and entry.end is B) == b"abc"
    assert [entry.at_s for entry in heard] == sorted(entry.at_s for entry in heard)


# -------------------------------------------------------------------------------------------------------------- faults


def test_random_faults_are_those_that_the_seed_gives(make_wire: Make, open_port: Open) -> None:
    plan = FaultPlan(seed=4, drop=0.01, flip=0.01, duplicate=0.01, burst=0.001)

    def damaged() -> bytes:
        wire = make_wire(faults=plan)
        a, b = open_port(wire, A), open_port(wire, B)
        a.write(NOISE[:10_000])
        wait_until(lambda: wire.sent(A) == 10_000, "all is taken")
        b.timeout = 0.2
        return b.read(20_000)

    once = damaged()
    assert once == damaged()
    assert once != NOISE[:10_000]
    assert 9_700 < len(once) < 10_300


def test_a_delay_holds_the_bytes_behind_it(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(faults=FaultPlan(script=(Delay(where=Bytes(2), by_s=0.2, sender=A),)))
    a, b = open_port(wire, A), open_port(wire, B)
    begin = monotonic()
    a.write(b"abcd")
    assert b.read(2) == b"ab"
    assert b.read(2) == b"cd"
    assert monotonic() - begin >= 0.2


def test_a_delayed_write_that_is_overtaken_comes_last(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(faults=FaultPlan(script=(Delay(where=Bytes(0, 3), by_s=0.3, overtaken=True, sender=A),)))
    a, b = open_port(wire, A), open_port(wire, B)
    a.write(b"abc")
    wait_until(lambda: wire.sent(A) == 3, "the first write is taken")
    a.write(b"de")
    assert b.read(5) == b"deabc"


def test_one_direction_can_be_mute_and_then_not(make_wire: Make, open_port: Open) -> None:
    wire = make_wire()
    a, b = open_port(wire, A), open_port(wire, B)
    wire.mute(A)
    a.write(b"lost")
    b.write(b"heard")
    assert a.read(5) == b"heard"
    wait_until(lambda: wire.sent(A) == 4, "it was written")
    wire.mute(A, mute=False)
    a.write(b"again")
    assert b.read(5) == b"again"


def test_a_span_of_time_can_be_mute(make_wire: Make, open_port: Open) -> None:
    wire = make_wire()
    a, b = open_port(wire, A), open_port(wire, B)
    wire.inflict(FaultPlan(script=(Drop(where=Seconds(0.0, 0.3), sender=A),)))
    end = monotonic() + 0.3
    sent = b""
    pause = threading.Event()
    while monotonic() < end + 0.2:
        byte = b"-" if monotonic() < end else b"+"
        a.write(byte)
        sent += byte
        pause.wait(0.02)
    b.timeout = 0.2
    heard = b.read(len(sent))
    assert heard.count(b"+") == sent.count(b"+") > 0
    assert heard.count(b"-") < sent.count(b"-") / 2  # those that the wire took a moment later


def test_noise_comes_on_a_silent_line(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(faults=FaultPlan(script=(Insert(where=Seconds(0.05), data=b"~~", sender=A),)))
    b = open_port(wire, B)
    b.write(b"")
    wire.insert(A, b"!")
    assert sorted(b.read(3)) == sorted(b"~~!")


# ---------------------------------------------------------------------------------------------------------- the plug


def test_an_unplugged_port_ends_a_read_and_its_names_vanish(make_wire: Make, open_port: Open) -> None:
    wire = make_wire()
    a, b = open_port(wire, A), open_port(wire, B)
    raised: list[Exception] = []

    def read() -> None:
        try:
            a.read(1)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    node, by_id = wire.port(A), wire.by_id(A)
    assert os.path.realpath(node) == os.path.realpath(by_id)
    wire.unplug(A)
    thread.join(5)
    assert isinstance(raised[0], serial.SerialException)
    assert (os.path.lexists(node), os.path.lexists(by_id), wire.plugged(A), wire.plugged(B)) == (False,) * 3 + (True,)
    with pytest.raises(serial.SerialException) as missing:
        serial.Serial(node)
    assert missing.value.errno == errno.ENOENT
    b.write(b"to nobody")
    wait_until(lambda: wire.sent(B) == 9, "the other end goes on")


def test_a_port_comes_back_under_another_name_and_is_found_by_id(make_wire: Make, open_port: Open) -> None:
    wire = make_wire()
    b = open_port(wire, B)
    wire.unplug(A)
    b.write(b"lost")
    wait_until(lambda: wire.sent(B) == 4, "it was written")
    wire.replug(A, "ttyA1")
    assert Path(wire.port(A)).name == "ttyA1"
    assert Path(wire.by_id(A)).exists()
    with serial.Serial(wire.by_id(A), timeout=5) as again:
        b.write(b"hello")
        assert again.read(5) == b"hello"
        again.write(b"there")
        assert b.read(5) == b"there"


def test_a_hang_up_loses_the_owner_and_keeps_the_name(make_wire: Make, open_port: Open) -> None:
    wire = make_wire()
    a = open_port(wire, A)
    name = wire.port(A)
    wire.hang_up(A)
    with pytest.raises(serial.SerialException):
        a.read(1)
    assert wire.plugged(A)
    assert wire.port(A) == name
    assert open_port(wire, A).is_open


def test_plugs_are_pulled_and_put_back_as_the_plan_says(make_wire: Make, open_port: Open) -> None:
    pull = Unplug(where=Bytes(5), sender=A, end=A, away_s=0.2, name="ttyA7")
    wire = make_wire(faults=FaultPlan(script=(pull,)))
    a, b = open_port(wire, A), open_port(wire, B)
    a.write(b"12345 67890")
    assert b.read(5) == b"12345"
    wait_until(lambda: not wire.plugged(A), "the plug is pulled")
    wait_until(lambda: wire.plugged(A), "the plug is back")
    assert Path(wire.port(A)).name == "ttyA7"
    b.timeout = 0.1
    assert b.read(6) == b""
    wire.inflict(FaultPlan(script=(HangUp(where=Seconds(0.0), end=B),)))
    with pytest.raises(serial.SerialException):
        b.read(1)


def test_the_ports_are_in_the_folder_that_is_given(make_wire: Make, tmp_path: Path) -> None:
    wire = make_wire(folder=tmp_path, names=("ttyUSB0", "ttyACM0"))
    assert wire.port(A) == str(tmp_path / "ttyUSB0")
    assert wire.by_id(B) == str(tmp_path / "by-id" / "usb-hil-B-if00")
    wire.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "by-id"]
    assert list((tmp_path / "by-id").iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- the wire


def test_what_a_pty_can_not_do_is_declared(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(9600)
    a = open_port(wire, A)
    with pytest.raises(OSError, match="ioctl"):
        assert a.cts is None
    assert Quirk.NO_MODEM_LINES in wire.quirks
    with pytest.raises(Exception, match="Invalid argument"):
        a.parity = serial.PARITY_EVEN
    assert Quirk.NO_PARITY in wire.quirks
    a.parity = serial.PARITY_NONE
    begin = monotonic()
    a.write(bytes(960))
    a.flush()
    assert monotonic() - begin < 1
    assert Quirk.FLUSH_DOES_NOT_WAIT in wire.quirks
    assert Quirk.NO_FAULTS not in wire.quirks


def test_closing_frees_everything_and_is_final(make_wire: Make) -> None:
    before = Before()
    wire = PtyWire()
    folder = Path(wire.port(A)).parent
    wire.close()
    wire.close()
    assert not folder.exists()
    assert before.added() == []
    with pytest.raises(RuntimeError, match="closed"):
        wire.unplug()


def test_an_idle_wire_costs_no_time(make_wire: Make, open_port: Open) -> None:
    wire = make_wire(115200, latency_s=0.016)
    a, b = open_port(wire, A), open_port(wire, B)
    a.write(b"x")
    b.read(1)
    wire.delivered(B)
    stat = Path(f"/proc/self/task/{wire._thread.native_id}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", "it sleeps")
    ticks = stat.read_text().rpartition(")")[2].split()[11:13]
    select.select([], [], [], 0.3)
    assert stat.read_text().rpartition(")")[2].split()[11:13] == ticks


@pytest.mark.parametrize("wrong", [{"baud": 0}, {"bits": 0}, {"latency_s": -1.0}, {"latency_s": 60.0}], ids=repr)
def test_a_wire_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wire"):
        PtyWire(**wrong)  # type: ignore[arg-type]
