"""Safe states: declared or the driver's, before all that waits, proven by reading back, and told where they fail."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

import gateway
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from devices.simulators.line import Simulator
from devices.simulators.power_supply import SimulatedPowerSupply
from gateway.config.common import DeviceCommon
from gateway.errors import DeviceUnavailable, EmergencyStop, GatewayError, LinkDown, OutcomeUnknown, OutOfRange
from gateway.limits import Limits
from gateway.server.bridge import Host
from gateway.server.reception import Reception
from gateway.server.registry import GatewayService
from gateway.server.safety import Outcome, SafeReport
from tests.server.kept import PATIENCE_S, Bench, Box, until

LONG_S = 10.0
"""A read that takes so long must not hold a safe state up."""
FREE = DeviceCommon(lease=False)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bench(stack: ExitStack) -> Bench:
    return Bench(stack, box1=FREE, box2=FREE)


def secured(bench: Bench, name: str = "box1", why: str = "test") -> SafeReport:
    report = bench.keeper.safety.secure_now(bench.keeper.stations[name], why, PATIENCE_S)
    assert report is not None
    return report


class Busy:
    """Somebody who is in a device for long."""

    def __init__(self, conn: gateway.Connection, call: str, seconds: float = LONG_S, name: str = "box1") -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(getattr(conn.root, name), call, seconds), daemon=True)
        self._thread.start()

    def _run(self, device: Any, call: str, seconds: float) -> None:
        try:
            getattr(device, call)(seconds)
        except GatewayError as error:
            self.error = error

    def ended(self) -> BaseException | None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.error


class Mute(Box):
    """A box whose level nothing measures."""

    def note(self, what: str, value: Any) -> Any:
        if what == "get":
            raise DeviceUnavailable("nothing measures it")
        return super().note(what, value)


# -- what is done -----------------------------------------------------------------------------------------------------


def test_without_a_declared_safe_state_the_driver_s_is_used(bench: Bench) -> None:
    bench.box1.volts, bench.box1.on = 5.0, True
    report = secured(bench, why="because")
    assert (report.outcome, report.why, report.detail) == (Outcome.VERIFIED, "because", "")
    assert (bench.box1.volts, bench.box1.on) == (0.0, False)
    assert bench.box1.what() == ["safe"]


def test_a_declared_safe_state_is_set_in_its_order_and_read_back(stack: ExitStack) -> None:
    bench = Bench(stack, Box("box1"), box1=DeviceCommon(safe={"output": True, "level": 1.5}))
    assert secured(bench).outcome is Outcome.VERIFIED
    assert bench.box1.what() == ["output True", "set 1.5", "get"]
    assert bench.keeper.stations["box1"].safe_state == "output = True, level = 1.5"


def test_what_is_read_back_as_something_else_has_failed(stack: ExitStack) -> None:
    bench = Bench(stack, Box("box1"), box1=DeviceCommon(safe={"output": False, "level": 0}))
    bench.box1.obeys, bench.box1.volts, bench.box1.on = False, 5.0, True
    report = secured(bench)
    assert report.outcome is Outcome.FAILED
    assert report.detail == "output was set to False and is True; level was set to 0 and is 5.0"


def test_one_property_that_can_t_be_set_keeps_no_other_from_being_set(stack: ExitStack) -> None:
    class Stuck(Box):
        def note(self, what: str, value: Any) -> Any:
            if what == "output False":
                raise DeviceUnavailable("the switch is stuck")
            return super().note(what, value)

    bench = Bench(stack, Stuck("box1"), box1=DeviceCommon(safe={"output": False, "level": 0}))
    bench.box1.volts = 5.0
    report = secured(bench)
    assert report.outcome is Outcome.FAILED
    assert "output can't be set: DeviceUnavailable: the switch is stuck" in report.detail
    assert bench.box1.volts == 0.0


def test_what_was_set_and_can_t_be_read_back_was_sent(stack: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(stack, Mute("box1"), box1=DeviceCommon(lease=False, safe={"output": False, "level": 0}))
    bench.connect().root.box1.set_level(5.0)
    report = secured(bench)
    assert report.outcome is Outcome.SENT
    assert report.detail == "level can't be read back: DeviceUnavailable: nothing measures it"
    assert bench.box1.volts == 0.0
    assert [each.levelname for each in caplog.records if "safe state sent" in each.message] == ["WARNING"]
    bench.connect().root.box1.set_level(1.0)  # it goes on: there is nothing that could be tried again
    assert bench.connect().root.test_safe("box1")["outcome"] == "sent"


def test_what_is_wrong_counts_more_than_what_is_unknown(stack: ExitStack) -> None:
    bench = Bench(stack, Mute("box1"), box1=DeviceCommon(safe={"output": False, "level": 0}))
    bench.box1.on, bench.box1.obeys = True, False
    report = secured(bench)
    assert report.outcome is Outcome.FAILED
    assert "output was set to False and is True; level can't be read back" in report.detail


def test_a_device_without_a_safe_state_is_left_alone(stack: ExitStack) -> None:
    class Lamp(Box):
        safe_state = ""

    bench = Bench(stack, Lamp("box1"))
    assert bench.keeper.safety.secure(bench.keeper.stations["box1"], "test") is None
    bench.connect().root.box1.set_level(1.0)


def test_how_it_went_is_told_logged_and_shown(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    told: list[SafeReport] = []
    bench.keeper.safety.told = told.append
    with caplog.at_level(logging.INFO, "gateway.server.safety"):
        report = secured(bench)
    assert told == [report]
    assert "box1: safe state verified (test)" in caplog.text
    shown = bench.connect().root.describe("box1")["made_safe"]
    assert (shown["outcome"], shown["why"]) == ("verified", "test")


def test_one_who_can_t_be_told_does_not_change_how_it_went(bench: Bench) -> None:
    def told(report: SafeReport) -> None:
        raise RuntimeError("no")

    bench.keeper.safety.told = told
    assert secured(bench).outcome is Outcome.VERIFIED


# -- against what is going on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["listen", "work"])
def test_it_overtakes_the_queue_and_breaks_a_long_call_off(bench: Bench, call: str) -> None:
    conn, other = bench.connect(), bench.connect()
    long = Busy(conn, call)
    assert bench.box1.entered.wait(PATIENCE_S)
    waiting = [gateway.async_(other.root.box1.set_level)(float(n)) for n in range(5)]
    until(lambda: bench.keeper.stations["box1"].lane.waiting == 5)
    begin = time.monotonic()
    assert secured(bench).outcome is Outcome.VERIFIED
    assert time.monotonic() - begin < LONG_S / 2
    error = long.ended()
    assert isinstance(error, OutcomeUnknown)
    assert "box1: the call was broken off (test)" in str(error)
    for result in waiting:
        result.wait()
    assert bench.box1.what() == [call, "safe", "set 0", "set 1", "set 2", "set 3", "set 4"]
    assert bench.box1.most_inside == 1


def test_a_device_works_again_after_it(bench: Bench) -> None:
    conn = bench.connect()
    for _ in range(20):
        secured(bench)
        conn.root.box1.set_level(1.0)
        assert conn.root.box1.level == 1.0


def test_two_reasons_at_once_make_it_safe_once_while_the_first_waits(bench: Bench) -> None:
    bench.box1.heeds = False
    long = Busy(bench.connect(), "listen")
    assert bench.box1.entered.wait(PATIENCE_S)
    station = bench.keeper.stations["box1"]
    errands = [bench.keeper.safety.secure(station, why) for why in ("one", "two", "three")]
    assert errands[0] is errands[1] is errands[2] is not None
    bench.box1.let_go_of_it()
    assert errands[0].result(PATIENCE_S).outcome is Outcome.VERIFIED
    assert long.ended() is None
    assert bench.box1.what() == ["listen", "safe"]


def test_many_reasons_from_many_threads_leave_it_safe_and_usable(bench: Bench) -> None:
    conn, station = bench.connect(), bench.keeper.stations["box1"]
    stop = threading.Event()
    errors: list[BaseException] = []

    def drive() -> None:
        while not stop.is_set():
            try:
                conn.root.box1.work(0.002)
            except OutcomeUnknown:
                pass
            except BaseException as error:
                errors.append(error)
                return

    def secure() -> None:
        for _ in range(50):
            bench.keeper.safety.secure_now(station, "test", PATIENCE_S)

    driver = threading.Thread(target=drive)
    threads = [threading.Thread(target=secure) for _ in range(4)]
    for thread in (driver, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    driver.join()
    assert errors == []
    assert bench.box1.most_inside == 1
    conn.root.box1.work(0.0)
    assert station.waits is None


def test_a_reader_may_finish_where_there_is_no_hurry(bench: Bench) -> None:
    long = Busy(bench.connect(), "listen", 0.02)
    assert bench.box1.entered.wait(PATIENCE_S)
    errand = bench.keeper.safety.secure(bench.keeper.stations["box1"], "released", patience_s=PATIENCE_S)
    assert errand is not None
    assert errand.result(PATIENCE_S).outcome is Outcome.VERIFIED
    assert long.ended() is None


# -- where it fails ---------------------------------------------------------------------------------------------------


def test_a_driver_that_hangs_is_reported_soon_and_made_safe_when_it_comes_back(bench: Bench) -> None:
    reports: list[SafeReport] = []
    bench.keeper.safety.told = reports.append
    bench.box1.heeds = False
    long = Busy(bench.connect(), "listen", PATIENCE_S)
    assert bench.box1.entered.wait(PATIENCE_S)
    bench.keeper.safety.secure(bench.keeper.stations["box1"], "test")
    until(lambda: reports)
    assert (reports[0].outcome, reports[0].detail) == (
        Outcome.FAILED,
        "box1.listen hangs; switch box1 off by hand",
    )
    assert reports[0].took_s < PATIENCE_S / 2
    other = bench.connect()
    bench.box1.let_go_of_it()
    assert long.ended() is None
    until(lambda: len(reports) > 1)
    assert reports[1].outcome is Outcome.VERIFIED
    other.root.box1.set_level(1.0)
    assert bench.box1.what() == ["listen", "safe", "set 1"]


def test_a_device_that_could_not_be_made_safe_is_not_controlled_until_it_is(bench: Bench) -> None:
    box, conn = bench.box1, bench.connect()
    box.fails = True
    assert secured(bench).outcome is Outcome.FAILED
    with pytest.raises(DeviceUnavailable, match="could not be made safe") as refused:
        conn.root.box1.set_level(1.0)
    assert refused.value.state == "unsafe"
    assert conn.root.box1.count() == 0
    box.fails = False
    until(lambda: not bench.keeper.stations["box1"].owed)  # it is tried again by itself
    conn.root.box1.set_level(1.0)
    assert box.what() == ["count", "safe", "set 1"]


def test_the_same_failure_again_and_again_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    told: list[SafeReport] = []
    bench.keeper.safety.told = told.append
    bench.box1.fails = True
    for _ in range(3):
        secured(bench)
    assert len(told) == 1
    assert caplog.text.count("safe state failed") == 1
    bench.box1.fails = False


# -- the emergency stop -----------------------------------------------------------------------------------------------


def test_the_emergency_stop_latches_until_it_is_reset_with_a_reason(bench: Bench) -> None:
    conn = bench.connect()
    root = conn.root
    root.box1.set_level(5.0)
    assert root.estop_state() is None
    reports = root.estop("smoke")
    assert {report["device"]: report["outcome"] for report in reports} == {"box1": "verified", "box2": "verified"}
    state = root.estop_state()
    assert state is not None
    assert state["why"] == "smoke"
    for control in (lambda: root.box1.set_level(1.0), lambda: setattr(root.box2, "level", 1.0)):
        with pytest.raises(EmergencyStop, match="emergency stop since .*smoke"):
            control()
    assert root.box1.level == 0.0
    with pytest.raises(OutOfRange, match="needs a reason"):
        root.estop_reset(" ")
    root.estop_reset("it was the kettle")
    root.box1.set_level(1.0)
    assert root.estop_state() is None


def test_a_second_stop_keeps_the_first_reason_and_makes_all_safe_again(bench: Bench) -> None:
    root = bench.connect().root
    root.estop("first")
    root.estop("second")
    assert root.estop_state()["why"] == "first"
    assert bench.box1.what() == ["safe", "safe"]


def test_a_call_that_has_begun_sends_nothing_more_after_the_stop(bench: Bench) -> None:
    bench.box1.heeds = False
    long = Busy(bench.connect(), "work", PATIENCE_S)
    assert bench.box1.entered.wait(PATIENCE_S)
    errands = bench.keeper.safety.stop("the test", "now")
    bench.box1.let_go_of_it()
    assert isinstance(long.ended(), EmergencyStop)
    assert all(errand.result(PATIENCE_S).outcome is Outcome.VERIFIED for errand in errands)
    assert bench.box1.what() == ["work", "safe"]


def test_the_stop_overtakes_full_queues_and_blocked_reads(stack: ExitStack) -> None:
    names = [f"box{number}" for number in range(1, 6)]
    limits = Limits(pending_calls=8)
    bench = Bench(stack, *(Box(name) for name in names), limits=limits, **dict.fromkeys(names, FREE))
    longs, others = [], []
    for name in names:
        longs.append(Busy(bench.connect(), "listen", LONG_S, name))
        box = bench.boxes[name]
        assert box.entered.wait(PATIENCE_S)
        conn, second = bench.connect(), bench.connect()
        device = getattr(conn.root, name)
        others += [gateway.async_(device.set_level)(1.0) for _ in range(limits.pending_calls)]
        lane = bench.keeper.stations[name].lane
        until(lambda lane=lane: lane.waiting == limits.pending_calls)
        with pytest.raises(gateway.errors.Busy):
            getattr(second.root, name).count()
    root = bench.connect().root
    begin = time.monotonic()
    reports = root.estop("now")
    took = time.monotonic() - begin
    commanded = max(
        bench.boxes[name].done[-1][0] if bench.boxes[name].what()[-1:] == ["safe"] else 1e9 for name in names
    )
    print(
        f"emergency stop with full queues: all commanded after {commanded - begin:.3f} s, reported after {took:.3f} s"
    )
    assert [report["outcome"] for report in reports] == ["verified"] * 5
    assert commanded - begin < 2.0
    for result in others:
        result.wait()
        assert isinstance(result.failure, EmergencyStop)
    for long in longs:
        assert isinstance(long.ended(), OutcomeUnknown)


def test_the_stop_overtakes_the_caller_s_own_calls(stack: ExitStack) -> None:
    limits = Limits(pending_calls=4)
    bench = Bench(stack, limits=limits, box1=FREE, box2=FREE)
    holder, conn = bench.connect(), bench.connect()
    with holder.lease("box2"):
        box1, root = conn.root.box1, conn.root
        waits = gateway.async_(root.lease)("box2", wait_s=20)  # holds the turn of the root's calls
        reads = [gateway.async_(box1.listen)(LONG_S) for _ in range(3)]
        assert bench.box1.entered.wait(PATIENCE_S)
        assert {report["outcome"] for report in root.estop("now")} == {"verified"}
        assert not waits.ready
    reads[0].wait()
    assert isinstance(reads[0].failure, OutcomeUnknown)
    conn.close()  # the others would be waited for to their end: reading is allowed, and so is waiting for a lease
    for result in (waits, *reads[1:]):
        with suppress(LinkDown):
            result.wait()


def test_a_device_that_does_not_answer_keeps_no_other_from_being_made_safe(bench: Bench) -> None:
    bench.box1.heeds = False
    bench.box2.volts = 5.0
    long = Busy(bench.connect(), "listen", PATIENCE_S)
    assert bench.box1.entered.wait(PATIENCE_S)
    reports = {report["device"]: report for report in bench.connect().root.estop("now")}
    assert reports["box2"]["outcome"] == "verified"
    assert reports["box1"]["outcome"] == "failed"
    assert bench.box2.volts == 0.0
    bench.box1.let_go_of_it()
    long.ended()


def test_safe_states_can_be_tried_by_whoever_disturbs_nobody(bench: Bench) -> None:
    holder, other = bench.connect(), bench.connect()
    assert other.root.test_safe("box1")["outcome"] == "verified"
    with holder.lease("box1"):
        assert holder.root.test_safe("box1")["outcome"] == "verified"
        with pytest.raises(gateway.errors.LeaseConflict):
            other.root.test_safe("box1")


# -- a power supply on a serial line -----------------------------------------------------------------------------------


class Slow(SimulatedPowerSupply):
    """Measures for as long as it is told to, and takes commands meanwhile."""

    silent = False
    unanswered = 0

    def receive(self, data: bytes) -> bytes:
        answer = super().receive(data)
        if not self.silent or b"MEAS" not in data:
            return answer
        self.unanswered += 1
        return b""


@pytest.fixture
def supply(stack: ExitStack) -> tuple[Bench, Slow]:
    simulated = Slow()
    live = stack.enter_context(Simulator(simulated))
    device = ScpiPowerSupply("psu1", PowerSupplyOptions(port=live.path, baudrate=115_200, timeout_s=LONG_S))
    device.open()
    stack.callback(device.let_go)
    return Bench(stack, device, psu1=FREE), simulated


def test_a_power_supply_is_made_safe_in_the_middle_of_a_read_that_blocks(supply: tuple[Bench, Slow]) -> None:
    bench, simulated = supply
    conn, other = bench.connect(), bench.connect()
    psu = conn.root.psu1
    psu.set_voltage(5.0)
    psu.set_output(True)
    simulated.silent = True
    reading = threading.Thread(target=lambda: _raises_unknown(lambda: psu.measured_voltage))
    reading.start()
    until(lambda: simulated.unanswered)
    begin = time.monotonic()
    simulated.silent = False
    reports = other.root.estop("smoke")
    assert [report["outcome"] for report in reports] == ["verified"]
    assert time.monotonic() - begin < LONG_S / 2
    reading.join(PATIENCE_S)
    assert not reading.is_alive()
    assert other.root.psu1.voltage == 0.0
    assert other.root.psu1.output is False
    assert other.root.psu1.state == "open"


def _raises_unknown(call: Any) -> None:
    with pytest.raises(OutcomeUnknown):
        call()


def test_a_stop_during_a_command_leaves_the_port_open(supply: tuple[Bench, Slow]) -> None:
    bench, _ = supply
    conn = bench.connect()
    bench.keeper.safety.stop("the test", "now")
    with pytest.raises(EmergencyStop):
        conn.root.psu1.set_voltage(1.0)
    bench.keeper.safety.reset("the test", "go on")
    conn.root.psu1.set_voltage(1.0)
    assert conn.root.psu1.voltage == 1.0


# -- a device of an instrument host ------------------------------------------------------------------------------------


def test_a_blocked_read_at_an_instrument_host_is_broken_off_too(stack: ExitStack) -> None:
    box = Box("box1")
    far = GatewayService({"box1": box}, as_host=True)
    far.keeper.start()
    stack.callback(far.keeper.close)
    server = gateway.Server(far, "tcp://127.0.0.1:0", strict=True, introduce=Reception(far.keeper).introduce)
    stack.enter_context(server)
    host = Host("bench2", server.url)
    stack.callback(host.close)
    near = GatewayService({}, hosts=[host])
    near.keeper.start()
    stack.callback(near.keeper.close)
    front = stack.enter_context(
        gateway.Server(near, "tcp://127.0.0.1:0", strict=True, introduce=Reception(near.keeper).introduce)
    )
    host.start()
    conn, other = (stack.enter_context(gateway.connect(front.url)) for _ in range(2))
    until(lambda: "bench2.box1" in other.root.names())
    with conn.lease("bench2.box1"):
        conn.root.device("bench2.box1").set_level(5.0)
        reading = gateway.async_(conn.root.device("bench2.box1").listen)(LONG_S)
        assert box.entered.wait(PATIENCE_S)
        begin = time.monotonic()
        (report,) = other.root.estop("now")
        assert (report["device"], report["outcome"]) == ("bench2.box1", "verified")
        print(f"a device of a host: safe commanded after {box.done[2][0] - begin:.3f} s")
        assert time.monotonic() - begin < LONG_S / 2
        with pytest.raises(GatewayError):
            _ = reading.value
    assert box.what()[:3] == ["set 5", "listen", "safe"]
