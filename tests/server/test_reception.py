"""Reception: what is written down of the calls of a client, and what happens where that can't be done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.config.common import DeviceCommon
from gateway.errors import AccessDenied, DeviceUnavailable, GatewayError, OutOfRange, Unauthenticated
from gateway.identity.principal import Role
from gateway.server.admission import Admission
from gateway.server.audit import AuditLog
from gateway.server.reception import Reception
from gateway.server.registry import GatewayService
from tests.server.kept import Bench, Box, until


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def bench(stack: ExitStack, path: Path) -> Bench:
    log = AuditLog(path)
    stack.callback(log.close)
    return Bench(stack, audit=log, box2=DeviceCommon(lease=False, limits={"level": (0.0, 10.0)}))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_control_is_written_down_with_who_what_and_under_which_number(bench: Bench, path: Path) -> None:
    conn = bench.connect()
    with conn.lease("box1") as lease:
        lease.box1.set_level(5.0)
        lease.box1.level = 6.0
        assert lease.box1.level == 6.0  # reading is not
    bench.until_safe("box1")
    until(lambda: len(records(path)) >= 5)
    lease_record, first, second, *rest = records(path)
    safe = next(each for each in rest if each["device"])
    assert (lease_record["device"], lease_record["method"], lease_record["outcome"]) == ("", "lease", "ok")
    assert (first["identity"], first["device"], first["method"], first["outcome"]) == (
        "127.0.0.1",
        "box1",
        "set_level",
        "ok",
    )
    assert first["peer"].startswith("127.0.0.1:")
    assert "5.0" in str(first["arguments"])
    assert first["lease"] == second["lease"] == lease.number
    assert (second["method"], "6.0" in str(second["arguments"])) == ("level", True)
    assert (safe["identity"], safe["method"], safe["outcome"]) == ("the gateway", "safe state", "verified")


def test_refusals_are_written_down(bench: Bench, path: Path) -> None:
    conn = bench.connect()
    with suppress(GatewayError):
        conn.root.box1.set_level(1.0)
    with pytest.raises(OutOfRange):
        conn.root.box2.set_level(11.0)
    bench.doorman.take_for("eve", Role.OBSERVE)
    other = bench.connect()
    with pytest.raises(AccessDenied):
        other.root.box2.set_level(1.0)
    with pytest.raises(AttributeError):
        _ = other.root.box2._broken
    shown = [(each["identity"], each["device"], each["method"], each["outcome"]) for each in records(path)]
    assert shown[:3] == [
        ("127.0.0.1", "box1", "set_level", "not-leased"),
        ("127.0.0.1", "box2", "set_level", "out-of-range"),
        ("eve", "box2", "set_level", "access-denied"),
    ]


def test_who_leases_stops_and_revokes_is_written_down(bench: Bench, path: Path) -> None:
    conn = bench.connect()
    lease = conn.root.lease("box1")
    conn.root.revoke_lease("box1", "fire drill")
    conn.root.estop("smoke")
    conn.root.estop_reset("it was the kettle")
    lease.release()
    conn.root.names()
    bench.doorman.take_for("eve", Role.OBSERVE)
    with pytest.raises(AccessDenied):
        bench.connect().root.estop_reset("please")
    own = [each for each in records(path) if not each["device"] and each["identity"] != "the gateway"]
    assert [(each["identity"], each["method"], each["outcome"]) for each in own] == [
        ("127.0.0.1", "lease", "ok"),
        ("127.0.0.1", "revoke_lease", "ok"),
        ("127.0.0.1", "estop", "ok"),
        ("127.0.0.1", "estop_reset", "ok"),
        ("127.0.0.1", "release", "ok"),
        ("eve", "estop_reset", "access-denied"),
    ]
    assert "fire drill" in str(own[1]["arguments"])


def test_a_log_that_can_t_be_written_refuses_control_and_not_the_safe_state(stack: ExitStack, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.write_text("a file where a folder should be")
    log = AuditLog(folder / "audit.jsonl")
    stack.callback(log.close)
    bench = Bench(stack, audit=log, box1=DeviceCommon(lease=False))
    conn = bench.connect()
    bench.box1.volts = 5.0
    with pytest.raises(DeviceUnavailable, match="the audit log .* can't be written: .*; nothing was done"):
        conn.root.box1.set_level(1.0)
    assert conn.root.box1.level == 5.0
    assert {report["outcome"] for report in conn.root.estop("now")} == {"verified"}
    conn.root.estop_reset("go on")
    conn.root.box1.make_safe()
    assert bench.box1.what() == ["get", "safe", "safe"]
    os.unlink(folder)
    conn.root.box1.set_level(1.0)  # there is space again


def test_who_may_not_come_in_is_turned_away_before_anything_is_served() -> None:
    class Closed(Admission):
        def enter(self, conn: Any, channel: Any) -> Any:
            raise Unauthenticated("not today")

    service = GatewayService({"box1": Box("box1")})
    introduce = Reception(service.keeper, Closed()).introduce
    with (
        gateway.Server(service, "tcp://127.0.0.1:0", strict=True, introduce=introduce) as server,
        pytest.raises((EOFError, GatewayError)),
        gateway.connect(server.url) as conn,
    ):
        conn.root.names()


def test_each_call_has_its_own_permit_and_none_is_left_behind(bench: Bench) -> None:
    conn = bench.connect()
    for _ in range(50):
        conn.root.box2.set_level(1.0)
        with suppress(GatewayError):
            conn.root.box2.set_level(11.0)
    station = bench.keeper.stations["box2"]
    until(lambda: station.visit is None and station.lane.owner is None)
