"""The keeper: calls that take too long, transactions, interlocks of what is in use, readings in the device's turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import gateway
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from devices.simulators.line import Simulator
from devices.simulators.power_supply import SimulatedPowerSupply
from gateway.config.common import DeviceCommon
from gateway.errors import Busy, CallTimeout, DeviceUnavailable, Interlocked, NotLeased
from gateway.server.keeper import Keeper
from tests.server.kept import PATIENCE_S, Bench, Box, until

SHORT = DeviceCommon(lease=False, deadline_s=0.3)
FREE = DeviceCommon(lease=False)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# -- deadlines --------------------------------------------------------------------------------------------------------


def test_a_call_that_hangs_is_given_up_and_the_device_is_faulty_until_it_comes_back(stack: ExitStack) -> None:
    bench = Bench(stack, box1=SHORT, box2=FREE)
    bench.box1.heeds = False
    conn, other = bench.connect(), bench.connect()
    with pytest.raises(CallTimeout, match=r"box1.listen took longer than 0.3 s and was given up; it may or may not"):
        conn.root.box1.listen(PATIENCE_S)
    for call in (other.root.box1.count, lambda: other.root.box1.set_level(1.0), lambda: other.reading("box1.level")):
        with pytest.raises(DeviceUnavailable, match=r"box1: a call of box1.listen has not come back for"):
            call()
    described = other.root.describe("box1")
    assert (described["state"], described["problem"]) == ("faulty", "a call of box1.listen hangs")
    other.root.box2.set_level(1.0)  # the others go on
    opened = bench.box1.opened
    bench.box1.let_go_of_it()
    until(lambda: bench.keeper.stations["box1"].hung is None)
    other.root.box1.set_level(1.0)
    assert bench.box1.opened >= opened
    assert bench.box1.most_inside == 1
    assert bench.box1.what() == ["listen", "set 1"]


def test_a_driver_that_can_be_interrupted_comes_back_at_once(stack: ExitStack) -> None:
    bench = Bench(stack, box1=SHORT)
    conn = bench.connect()
    for _ in range(3):
        with pytest.raises(CallTimeout):
            conn.root.box1.work(PATIENCE_S)
        until(lambda: bench.keeper.stations["box1"].hung is None)
        conn.root.box1.set_level(1.0)


def test_what_waits_behind_a_call_that_hangs_is_answered(stack: ExitStack) -> None:
    bench = Bench(stack, box1=SHORT)
    bench.box1.heeds = False
    conn, other = bench.connect(), bench.connect()
    hanging = gateway.async_(conn.root.box1.listen)(PATIENCE_S)
    assert bench.box1.entered.wait(PATIENCE_S)
    waiting = gateway.async_(other.root.box1.count)()
    with pytest.raises(CallTimeout):
        _ = hanging.value
    with pytest.raises(DeviceUnavailable):
        _ = waiting.value


def test_a_call_that_was_given_up_sends_nothing_more(stack: ExitStack) -> None:
    bench = Bench(stack, box1=SHORT)
    bench.box1.heeds = False
    with pytest.raises(CallTimeout):
        bench.connect().root.box1.work(PATIENCE_S)
    bench.box1.let_go_of_it()
    until(lambda: bench.keeper.stations["box1"].hung is None)
    assert bench.box1.what() == ["work"]


def test_a_read_of_the_gateway_s_own_that_hangs_is_given_up_too(stack: ExitStack) -> None:
    class Stuck(Box):
        @property
        @gateway.exposed
        def stuck(self) -> float:
            self._wait(PATIENCE_S)
            return 1.0

    bench = Bench(stack, Stuck("box1"), box1=SHORT)
    bench.box1.heeds = False
    with pytest.raises((CallTimeout, Busy)):
        bench.connect().reading("box1.stuck")
    until(lambda: bench.keeper.stations["box1"].hung is not None)
    bench.box1.let_go_of_it()
    until(lambda: bench.keeper.stations["box1"].hung is None)
    bench.connect().root.box1.set_level(1.0)


def test_calls_that_end_at_their_deadline_leave_no_device_faulty(stack: ExitStack) -> None:
    """Giving up and coming to its end at the same moment."""
    bench = Bench(stack, box1=DeviceCommon(lease=False, deadline_s=0.02))
    bench.keeper.close()
    station, stop = bench.keeper.stations["box1"], threading.Event()

    def look() -> None:
        while not stop.is_set():
            station.overdue(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    conn = bench.connect()
    timeouts = 0
    for turn in range(150):
        try:
            conn.root.box1.work(0.018 + 0.004 * (turn % 7) / 7)
        except (CallTimeout, DeviceUnavailable):
            timeouts += 1
    stop.set()
    thread.join()
    until(lambda: station.hung is None)
    assert station.lane.owner is None
    conn.root.box1.set_level(1.0)
    assert bench.box1.most_inside == 1
    assert timeouts < 150


def test_a_hung_call_does_not_keep_its_lease_alive(stack: ExitStack) -> None:
    bench = Bench(stack, box1=DeviceCommon(deadline_s=0.2))
    bench.box1.heeds = False
    conn = bench.connect()
    lease = conn.lease("box1", soft=0.5)
    with pytest.raises(CallTimeout):
        lease.box1.work(PATIENCE_S)
    until(lambda: lease.lost)
    bench.box1.let_go_of_it()
    until(lambda: bench.box1.what() == ["work", "safe"])


def test_a_supply_that_hangs_is_opened_anew_by_the_next_call(stack: ExitStack) -> None:
    class Mute(SimulatedPowerSupply):
        mute = False

        def receive(self, data: bytes) -> bytes:
            answer = super().receive(data)
            return b"" if self.mute else answer

    simulated = Mute()
    live = stack.enter_context(Simulator(simulated))
    device = ScpiPowerSupply("psu1", PowerSupplyOptions(port=live.path, baudrate=115_200, timeout_s=PATIENCE_S))
    device.open()
    stack.callback(device.let_go)
    bench = Bench(stack, device, psu1=DeviceCommon(lease=False, deadline_s=0.5))
    conn = bench.connect()
    simulated.mute = True
    with pytest.raises(CallTimeout, match="psu1.voltage took longer"):
        _ = conn.root.psu1.voltage
    until(lambda: bench.keeper.stations["psu1"].hung is None)
    assert device.state == "faulty"
    simulated.mute = False
    assert conn.root.psu1.voltage == 0.0
    assert device.state == "open"


# -- transactions -----------------------------------------------------------------------------------------------------


def test_nobody_s_calls_get_between_those_of_a_transaction(stack: ExitStack) -> None:
    bench = Bench(stack, box1=FREE)
    conn, other = bench.connect(), bench.connect()
    box = conn.root.box1
    with box.transaction():
        box.set_level(1.0)
        waiting = [gateway.async_(other.root.box1.set_level)(9.0) for _ in range(3)]
        until(lambda: bench.keeper.stations["box1"].lane.waiting == 3)
        box.set_level(2.0)
        assert box.count() == 2
        with pytest.raises(Busy, match="another client is in a transaction"):
            _reserve(bench)
    for result in waiting:
        result.wait()
    assert bench.box1.what() == ["set 1", "set 2", "count", "set 9", "set 9", "set 9"]


def _reserve(bench: Bench) -> None:
    lane = bench.keeper.stations["box1"].lane
    if not lane.reserve(object()):
        raise Busy("box1: another client is in a transaction")


def test_a_transaction_ends_with_its_client(stack: ExitStack) -> None:
    bench = Bench(stack, box1=FREE)
    conn, other = bench.connect(), bench.connect()
    conn.root.box1.transaction()
    waiting = gateway.async_(other.root.box1.set_level)(1.0)
    until(lambda: bench.keeper.stations["box1"].lane.waiting)
    conn.close()
    waiting.wait()
    assert bench.box1.what() == ["set 1"]
    assert bench.keeper.stations["box1"].transaction is None


def test_a_transaction_does_not_keep_a_device_from_being_made_safe(stack: ExitStack) -> None:
    bench = Bench(stack, box1=FREE)
    conn = bench.connect()
    with conn.root.box1.transaction():
        conn.root.box1.set_level(5.0)
        assert bench.connect().root.estop("now")[0]["outcome"] == "verified"
    assert bench.box1.volts == 0.0


# -- interlocks -------------------------------------------------------------------------------------------------------


def test_an_interlock_is_looked_at_again_while_the_device_is_in_use(stack: ExitStack) -> None:
    bench = Bench(stack, box1=DeviceCommon(lease=False, allow="box2.level < 1"), box2=FREE)
    conn = bench.connect()
    conn.root.box1.set_level(5.0)
    bench.box2.volts = 3.0
    until(lambda: "safe" in bench.box1.what())
    report = bench.keeper.stations["box1"].report
    assert report is not None
    assert report.why == "interlock: box2.level < 1 (box2.level is 3.0)"
    with pytest.raises(Interlocked, match="box1 is interlocked: box2.level < 1"):
        conn.root.box1.set_level(5.0)
    bench.box2.volts = 0.0
    until(lambda: bench.keeper._read_fresh("box2", "level") == 0.0)
    conn.root.box1.set_level(5.0)


def test_a_device_that_is_not_in_use_has_its_interlock_left_alone(stack: ExitStack) -> None:
    bench = Bench(stack, box1=DeviceCommon(lease=False, allow="box2.level < 1"), box2=FREE)
    bench.box2.volts = 3.0
    time.sleep(1.2)  # two looks
    assert bench.box1.what() == []


def test_a_call_that_waits_for_its_interlock_loses_its_turn_to_the_emergency_stop(stack: ExitStack) -> None:
    bench = Bench(stack, box1=DeviceCommon(lease=False, allow="box2.level < 1"), box2=FREE)
    bench.box2.heeds = False
    conn, other = bench.connect(), bench.connect()
    blocking = gateway.async_(other.root.box2.listen)(PATIENCE_S)
    assert bench.box2.entered.wait(PATIENCE_S)
    controlling = gateway.async_(conn.root.box1.set_level)(5.0)
    until(lambda: getattr(bench.keeper.stations["box1"].visit, "looks_around", False))
    begin = time.monotonic()
    bench.keeper.safety.stop("the test", "now")
    until(lambda: bench.box1.what() == ["safe"])
    print(f"a call waits for its interlock: safe commanded after {bench.box1.done[0][0] - begin:.3f} s")
    with pytest.raises(DeviceUnavailable, match="before it began; nothing was done"):
        _ = controlling.value
    bench.box2.let_go_of_it()
    blocking.wait()
    until(lambda: bench.keeper.stations["box1"].lane.owner is None)
    assert bench.box1.what() == ["safe"]


# -- looking around ---------------------------------------------------------------------------------------------------


def test_one_device_that_goes_wrong_keeps_no_other_from_being_looked_at(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(stack, box1=SHORT, box2=SHORT)

    def broken(now: float) -> bool:
        raise RuntimeError("no")

    monkeypatch.setattr(bench.keeper.stations["box1"], "overdue", broken)
    with pytest.raises(CallTimeout):
        bench.connect().root.box2.work(PATIENCE_S)
    assert "unexpected error; going on" in caplog.text


def test_a_reading_that_takes_too_long_is_taken_out_of_the_queue(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.keeper.READ_S", 0.1)
    bench = Bench(stack, box1=FREE)
    bench.box1.heeds = False
    blocking = gateway.async_(bench.connect().root.box1.listen)(PATIENCE_S)
    assert bench.box1.entered.wait(PATIENCE_S)
    for _ in range(3):
        with pytest.raises(Busy):
            bench.keeper.read("box1", "level")
    assert bench.keeper.stations["box1"].lane.waiting == 0
    bench.box1.let_go_of_it()
    blocking.wait()


def test_no_call_meets_a_device_whose_new_config_is_only_being_looked_at(stack: ExitStack) -> None:
    bench = Bench(stack)
    conn, station, stop = bench.connect(), bench.keeper.stations["box1"], threading.Event()

    def look() -> None:
        while not stop.is_set():
            bench.keeper.check_fit("box1", DeviceCommon(limits={"level": (0.0, 1.0)}))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            assert station.lane.station is station
            with pytest.raises(NotLeased):
                conn.root.box1.set_level(5.0)
    finally:
        stop.set()
        thread.join()
    assert bench.box1.what() == []


def test_closing_twice_is_allowed() -> None:
    keeper = Keeper({})
    keeper.start()
    keeper.start()
    keeper.close()
    keeper.close()
