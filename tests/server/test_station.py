"""Stations: what a call may do with a device, in which order that is asked, and that there is no way round it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from gateway.config.common import DeviceCommon
from gateway.errors import (
    AccessDenied,
    CallTimeout,
    ConfigError,
    DeviceUnavailable,
    EmergencyStop,
    Interlocked,
    LeaseConflict,
    NotLeased,
    OutOfRange,
)
from gateway.identity.principal import Role
from gateway.server.bounds import Bound
from gateway.sync.lane import Lane
from tests.server.kept import Bench, Box

LIMITED = DeviceCommon(lease=False, limits={"level": (0.0, 12.0), "ramp.stop": (1.0, 2.0)})


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bench(stack: ExitStack) -> Bench:
    return Bench(stack, box2=LIMITED)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_limit_holds_on_every_way_to_the_value(bench: Bench) -> None:
    box = bench.connect().root.box2
    set_level = box.set_level
    ways: list[Callable[[Any], Any]] = [
        lambda volts: setattr(box, "level", volts),
        lambda volts: box.set_level(volts),
        lambda volts: box.set_level(volts=volts),
        lambda volts: set_level(volts),
        lambda volts: box.exposed_set_level(volts),
    ]
    for way in ways:
        with pytest.raises(OutOfRange, match=r"box2.level must be from 0 to 12 V, says the gateway's config, not 12.5"):
            way(12.5)
    assert not any(what.startswith("set") for what in bench.box2.what())
    box.set_level(12.0)
    box.level = 0
    assert [what for what in bench.box2.what() if what != "get"] == ["set 12", "set 0"]


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -0.001, True, False, "5", None, b"5", (5,), 10**400], ids=repr
)
def test_what_is_no_number_within_the_limits_is_refused(bench: Bench, value: Any) -> None:
    box = bench.connect().root.box2
    with pytest.raises(OutOfRange, match="nothing was done"):
        box.set_level(value)
    assert bench.box2.what() == []


@pytest.mark.parametrize("value", [np.float64(5), np.float32(5), np.int16(5), 5])
def test_a_number_is_a_number_whatever_its_type(value: Any) -> None:
    Bound("psu1.level", 0, "volts", 0.0, 12.0, " V").check((value,), {})
    with pytest.raises(OutOfRange):
        Bound("psu1.level", 0, "volts", 0.0, 4.0, " V").check((), {"volts": value})


@pytest.mark.parametrize("value", [np.bool_(True), np.float64("nan"), np.array([5.0]), 5j], ids=repr)
def test_what_only_looks_like_a_number_is_refused(value: Any) -> None:
    with pytest.raises(OutOfRange):
        Bound("psu1.level", 0, "volts", 0.0, 12.0, " V").check((value,), {})


def test_an_object_of_the_client_s_that_claims_to_be_a_number_is_refused(bench: Bench) -> None:
    class Liar(float):
        def __le__(self, other: object) -> bool:
            return True

        __ge__ = __le__

    with pytest.raises(OutOfRange):
        bench.connect().root.box2.set_level(Liar(1000.0))
    assert bench.box2.what() == []


def test_a_parameter_is_limited_by_position_and_by_keyword_and_not_where_it_is_left_out(bench: Bench) -> None:
    box = bench.connect().root.box2
    for call in (lambda: box.ramp(0.0, 3.0), lambda: box.ramp(0.0, stop=0.5), lambda: box.ramp(stop=3.0, start=0.0)):
        with pytest.raises(OutOfRange, match="box2.ramp.stop"):
            call()
    box.ramp(100.0)
    box.ramp(100.0, 2.0)
    assert bench.box2.what() == ["ramp 100 1", "ramp 100 2"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"voltage": (0.0, 1.0)}, "no property 'voltage' that can be set"),
        ({"state": (0.0, 1.0)}, "no property 'state' that can be set"),
        ({"ramp.middle": (0.0, 1.0)}, "no parameter 'middle', only start, stop"),
        ({"level.volts": (0.0, 1.0)}, "no method 'level'"),
    ],
)
def test_limits_that_do_not_fit_the_device_are_an_error(limits: dict[str, Any], message: str, stack: ExitStack) -> None:
    with pytest.raises(ConfigError, match=message):
        Bench(stack, Box("box1"), box1=DeviceCommon(limits=limits))


def test_a_safe_state_that_does_not_fit_the_device_is_an_error(stack: ExitStack) -> None:
    with pytest.raises(ConfigError, match="no property 'volts' that can be set"):
        Bench(stack, Box("box1"), box1=DeviceCommon(safe={"volts": 0}))


# -- leases -----------------------------------------------------------------------------------------------------------


def test_control_needs_the_lease_and_reading_does_not(bench: Bench) -> None:
    box = bench.connect().root.box1
    assert box.level == 0.0
    assert box.count() == 1
    for control in (lambda: box.set_level(1.0), lambda: setattr(box, "level", 1.0), lambda: box.calibrate()):
        with pytest.raises(NotLeased, match="controlling box1 takes a lease"):
            control()
    assert bench.box1.what() == ["get", "count"]


def test_what_a_device_hands_out_needs_the_same_lease(bench: Bench) -> None:
    holder, other = bench.connect(), bench.connect()
    with holder.lease("box1"):
        terminal = holder.root.box1.terminal()
        stream = iter(holder.root.box1.steps(5))
        terminal.switch()
        assert next(stream) == 0
    bench.until_safe("box1")
    for control in (terminal.switch, lambda: next(stream)):
        with pytest.raises(NotLeased):
            control()
    assert terminal.look() == 0.0
    with pytest.raises(NotLeased):
        other.root.box1.steps(2)
    assert list(other.root.box1.samples(2)) == [0, 1]
    assert bench.box1.what() == ["switch", "step", "safe", "look", "sample", "sample"]


def test_a_command_is_sent_under_the_number_of_its_lease(bench: Bench) -> None:
    conn = bench.connect()
    with conn.lease("box1") as lease:
        lease.box1.set_level(1.0)
    assert bench.box1.done[0][1:] == ("set 1", lease.number)


def test_a_transaction_is_control(bench: Bench) -> None:
    observer, holder = bench.connect(), bench.connect()
    with pytest.raises(NotLeased):
        observer.root.box1.transaction()
    with holder.lease("box1"), holder.root.box1.transaction():
        holder.root.box1.set_level(1.0)


# -- roles ------------------------------------------------------------------------------------------------------------


def test_roles_are_asked_for_each_device(bench: Bench) -> None:
    bench.doorman.take_for("alice", Role.OBSERVE, box2=Role.OPERATE)
    root = bench.connect().root
    assert root.box1.count() == 0
    with pytest.raises(AccessDenied, match="alice is observe on box1 .default role.; control needs operate: refused"):
        root.box1.set_level(1.0)
    with pytest.raises(AccessDenied, match="needs operate"):
        root.box1.make_safe()
    root.box2.set_level(1.0)
    with pytest.raises(AccessDenied, match="admin needs admin"):
        root.box2.calibrate()
    bench.doorman.take_for("root", Role.ADMIN)
    bench.connect().root.box2.calibrate()
    assert bench.box1.what() == ["count"]
    assert bench.box2.what() == ["set 1", "calibrate"]


def test_a_role_s_refusal_comes_first(bench: Bench) -> None:
    bench.doorman.take_for("alice", Role.OBSERVE)
    bench.keeper.stations["box2"].absence = ("unplugged", datetime.now(UTC))
    with pytest.raises(AccessDenied):
        bench.connect().root.box2.set_level(99.0)


# -- devices that can't be used ---------------------------------------------------------------------------------------


def test_a_disabled_device_can_be_neither_read_nor_controlled_nor_made_safe(stack: ExitStack) -> None:
    bench = Bench(stack, Box("box1"), box1=DeviceCommon(disabled="burnt", lease=False))
    box = bench.connect().root.box1
    for call in (box.count, lambda: box.level, lambda: box.set_level(1.0), box.make_safe):
        with pytest.raises(DeviceUnavailable, match="box1 is disabled: burnt; nothing was done") as refused:
            call()
        assert refused.value.state == "disabled"
    assert bench.keeper.safety.stop("anybody", "test") == []
    assert bench.box1.what() == []


def test_a_missing_device_says_since_when(bench: Bench) -> None:
    bench.keeper.stations["box2"].absence = ("unplugged", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    box = bench.connect().root.box2
    for call in (box.count, lambda: box.set_level(1.0)):
        with pytest.raises(
            DeviceUnavailable, match=r"missing since 2026-01-02T03:04:05.000\+00:00: unplugged"
        ) as refused:
            call()
        assert refused.value.state == "missing"
    bench.keeper.stations["box2"].absence = None
    assert box.count() == 0


# -- the order, and what is never refused ------------------------------------------------------------------------------


def test_the_questions_are_asked_in_their_order(stack: ExitStack) -> None:
    common = DeviceCommon(limits={"level": (0.0, 1.0)}, allow="box2.level < 1")
    bench = Bench(stack, box1=common)
    conn, station, safety = bench.connect(), bench.keeper.stations["box1"], bench.keeper.safety
    box, bad = conn.root.box1, 99.0
    bench.box2.volts = 5.0
    station.owed = "it does not answer"
    safety.stop("the test", "order")
    bench.until_safe("box2")
    bench.box2.volts = 5.0

    with pytest.raises(EmergencyStop):
        box.set_level(bad)
    safety.reset("the test", "go on")
    station.owed = "it does not answer"
    with pytest.raises(DeviceUnavailable, match="could not be made safe .it does not answer."):
        box.set_level(bad)
    station.owed = ""
    with pytest.raises(NotLeased):
        box.set_level(bad)
    with conn.lease("box1"):
        with pytest.raises(OutOfRange, match="must be from 0 to 1"):
            box.set_level(bad)
        with pytest.raises(Interlocked, match=r"box1 is interlocked: box2.level < 1 \(box2.level is 5.0\)"):
            box.set_level(0.5)
        bench.box2.volts = 0.0
        bench.keeper.observers.get("box2", "level")
        box.set_level(0.5)


def test_make_safe_is_refused_neither_for_want_of_a_lease_nor_by_an_emergency_stop(bench: Bench) -> None:
    bench.box1.volts = 5.0
    holder, other = bench.connect(), bench.connect()
    with holder.lease("box1"):
        other.root.box1.make_safe()
        assert bench.box1.volts == 0.0
        bench.keeper.safety.stop("the test", "try")
        other.root.box1.make_safe()
    bench.keeper.stations["box1"].owed = "who knows"
    other.root.box1.make_safe()


def test_a_part_of_a_device_is_no_way_round_the_lease_of_another_client(bench: Bench) -> None:
    conn = bench.connect()
    terminal = conn.root.box1.terminal()
    with bench.connect().lease("box1"), pytest.raises(LeaseConflict):
        terminal.switch()


def test_an_interlock_that_nobody_can_read_refuses(bench: Bench, stack: ExitStack) -> None:
    other = Bench(stack, Box("box1"), Box("box2"), box1=DeviceCommon(lease=False, allow="box2.level < 1"))
    other.box2.fails = True
    other.keeper.stations["box2"].absence = ("unplugged", datetime.now(UTC))
    with pytest.raises(Interlocked, match="DeviceMissing"):
        other.connect().root.box1.set_level(0.5)
    assert other.box1.what() == []


def test_a_transaction_that_took_too_long_says_so_at_its_end(bench: Bench) -> None:
    conn, other = bench.connect(), bench.connect()
    transaction = conn.root.box2.transaction()
    station = bench.keeper.stations["box2"]
    assert isinstance(station.lane, Lane)
    station.end_transaction(1e12)
    other.root.box2.set_level(1.0)
    with pytest.raises(CallTimeout, match="over before, after 10 s or with its lease"):
        transaction.__exit__(None, None, None)


def test_a_transaction_ends_with_the_lease_under_which_it_began(bench: Bench) -> None:
    conn, other = bench.connect(), bench.connect()
    conn.lease("box1")
    transaction = conn.root.box1.transaction()
    other.root.revoke_lease("box1", "fire drill")
    with other.lease("box1") as lease:
        lease.box1.set_level(1.0)
        with pytest.raises(CallTimeout, match="with its lease"):
            transaction.__exit__(None, None, None)
