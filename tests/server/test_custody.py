"""Custody: whatever ends a lease, the device is safe before anybody else's first command, and everybody is told."""

from __future__ import annotations

import math
import signal
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from threading import Event, Thread
from typing import Any

import pytest

import gateway
from gateway.config.common import DeviceCommon
from gateway.errors import GatewayError, LeaseConflict, LeaseLost, LinkDown, NotLeased, OutcomeUnknown
from gateway.identity.principal import Kind, Principal, Role
from gateway.server.custody import Custody
from gateway.server.safety import Outcome, Safety
from gateway.server.station import Caller
from gateway.sync.leasing import join
from tests.server.kept import PATIENCE_S, Bench, Box, until


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bench(stack: ExitStack) -> Bench:
    return Bench(stack)


def holder_of(bench: Bench, name: str) -> Any:
    return bench.service.lease_status(name)["holder"]


# -- the end of a lease ------------------------------------------------------------------------------------------------


def test_the_device_is_safe_before_the_next_holder_s_first_command(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    for _ in range(20):
        with first.lease("box1") as lease:
            lease.box1.set_level(5.0)
        with second.lease("box1") as lease:
            lease.box1.set_level(1.0)
            assert lease.box1.level == 1.0
    bench.until_safe("box1")
    assert bench.box1.what() == ["set 5", "safe", "set 1", "get", "safe"] * 20


def test_the_next_in_line_s_command_comes_after_the_safe_state_though_it_waited_for_it(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    lease, got = first.lease("box1"), Event()

    def wait() -> None:
        with second.lease("box1") as mine:
            mine.box1.set_level(1.0)
            got.set()

    waiter = Thread(target=wait)
    waiter.start()
    until(lambda: bench.service.lease_status("box1")["waiting"])
    lease.box1.set_level(5.0)
    lease.release()
    assert got.wait(PATIENCE_S)
    waiter.join()
    assert bench.box1.what()[:3] == ["set 5", "safe", "set 1"]


def test_a_call_whose_lease_ends_while_it_runs_sends_nothing_more(bench: Bench) -> None:
    bench.box1.heeds = False
    conn, admin = bench.connect(), bench.connect()
    lease = conn.lease("box1")
    working = gateway.async_(lease.box1.work)(PATIENCE_S)
    assert bench.box1.entered.wait(PATIENCE_S)
    admin.root.revoke_lease("box1", "it smokes")
    bench.box1.let_go_of_it()
    with pytest.raises(LeaseLost, match="it smokes"):
        _ = working.value
    bench.until_safe("box1")
    assert bench.box1.what() == ["work", "safe"]


def test_a_call_that_waits_when_its_lease_ends_is_refused(bench: Bench) -> None:
    conn, admin = bench.connect(), bench.connect()
    lease = conn.lease("box1")
    working = gateway.async_(lease.box1.work)(PATIENCE_S)
    assert bench.box1.entered.wait(PATIENCE_S)
    waiting = [gateway.async_(lease.box1.set_level)(float(n)) for n in range(3)]
    until(lambda: bench.keeper.stations["box1"].lane.waiting == 3)
    admin.root.revoke_lease("box1", "it smokes")
    with pytest.raises(OutcomeUnknown):
        _ = working.value
    for result in waiting:
        with pytest.raises(LeaseLost, match="it smokes"):
            _ = result.value
    assert bench.box1.what() == ["work", "safe"]


def test_every_live_handle_says_through_whom_and_why_the_lease_was_lost(bench: Bench) -> None:
    lost: list[LeaseLost] = []
    conn, admin = bench.connect(), bench.connect()
    lease = conn.lease("box1", "box2", on_lost=lost.append)
    device = lease.box1
    admin.root.revoke_lease("box2", "fire drill")
    for call in (lambda: device.set_level(1.0), lambda: lease.box2.set_level(1.0), lease.touch, lambda: lease.token):
        with pytest.raises(LeaseLost) as error:
            call()
        assert (error.value.by, error.value.why) == ("127.0.0.1", "fire drill")
    until(lambda: lost)
    assert lease.lost is lost[0]
    assert lost[0].why == "fire drill"
    assert holder_of(bench, "box1") is None


def test_idle_leases_end_and_used_ones_do_not(bench: Bench) -> None:
    conn = bench.connect()
    lease = conn.lease("box1", soft=0.5)
    for _ in range(12):
        lease.box1.set_level(1.0)
        time.sleep(0.1)
    until(lambda: lease.lost)
    assert lease.lost.why == "nothing was done with it for 0.5 s"
    bench.until_safe("box1")


def test_a_lease_that_was_over_is_acted_on_though_the_request_that_found_it_is_refused(stack: ExitStack) -> None:
    """Any look at the table ends what is over: its devices have to be made safe whoever looked."""
    box1, box2 = Box("box1"), Box("box2")
    bench = Bench(stack, box1, box2)
    bench.keeper.close()  # nobody looks around by himself
    conn, other = bench.connect(), bench.connect()
    short = conn.lease("box1", soft=0.1)
    short.box1.set_level(5.0)
    with other.lease("box2"):
        time.sleep(0.15)
        with pytest.raises(LeaseConflict):
            bench.connect().lease("box1", "box2", wait=False)
        until(lambda: "safe" in box1.what())


def test_hand_over_keeps_the_device_as_it_is(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    asked: list[str] = []

    def agree(by: str) -> bool:
        asked.append(by)
        return True

    lease = first.lease("box1", on_ask=agree)
    lease.box1.set_level(5.0)
    handle = second.root.lease("box1", wait_s=-1, tell=lambda what, facts: None)
    handle.ask()
    until(lambda: handle.status()["state"] == "held")
    assert len(asked) == 1
    second.root.box1.ramp(1.0)
    assert bench.box1.what() == ["set 5", "ramp 1 1"]
    assert bench.box1.done[1][2] > bench.box1.done[0][2]
    with pytest.raises(LeaseLost, match="handed over"):
        lease.box1.set_level(6.0)
    second.close()
    until(lambda: bench.box1.what()[-1] == "safe")


def test_who_refuses_keeps_it(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    told: list[str] = []
    with first.lease("box1", on_ask=lambda by: False) as lease:
        handle = second.root.lease("box1", wait_s=-1, tell=lambda what, facts: told.append(what))
        handle.ask()
        until(lambda: "refused" in told)
        lease.box1.set_level(1.0)
        handle.release()


def test_an_administrator_takes_it_with_a_reason(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    lease = first.lease("box1")
    lease.box1.set_level(5.0)
    with second.lease("box1", force="the lab closes") as taken:
        taken.box1.set_level(1.0)
        with pytest.raises(LeaseLost, match="the lab closes"):
            lease.box1.set_level(2.0)
        assert bench.box1.what() == ["set 5", "safe", "set 1"]


def test_another_connection_joins_by_token(bench: Bench) -> None:
    conn, child = bench.connect(), bench.connect()
    with conn.lease("box1") as lease:
        with pytest.raises(NotLeased):
            join(child, "made up")
        assert join(child, lease.token) == lease.number
        child.root.box1.set_level(1.0)
        child.close()
        lease.box1.set_level(2.0)  # the child's end is not the lease's
    bench.until_safe("box1")
    assert bench.box1.what() == ["set 1", "set 2", "safe"]


def test_observers_read_without_a_lease_and_beside_the_holder(bench: Bench) -> None:
    holder, observer = bench.connect(), bench.connect()
    with holder.lease("box1") as lease:
        lease.box1.set_level(5.0)
        assert observer.root.box1.level == 5.0
        assert observer.reading("box1.level").lease == lease.number
        with pytest.raises(LeaseConflict, match="box1 is leased by"):
            observer.root.box1.set_level(1.0)


# -- clients that are lost ---------------------------------------------------------------------------------------------


def test_a_client_that_is_killed_leaves_its_devices_safe(bench: Bench) -> None:
    client = bench.client("hold", "box1", "box2")
    client.hear()
    begin = time.monotonic()
    client.signal(signal.SIGKILL)
    bench.until_safe("box1")
    bench.until_safe("box2")
    took = bench.box1.done[-1][0] - begin
    print(f"client killed: safe commanded after {took:.3f} s")
    assert bench.box1.what() == ["set 5", "safe"]
    assert took < 5.0
    assert holder_of(bench, "box1") is None


def test_a_client_whose_connection_is_reset_leaves_its_devices_safe(bench: Bench) -> None:
    conn = bench.connect()
    lease = conn.lease("box1")
    lease.box1.set_level(5.0)
    sock = socket.socket(fileno=conn.fileno())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.detach()
    conn.abandon(LinkDown("reset"))
    bench.until_safe("box1")
    assert bench.box1.what() == ["set 5", "safe"]


def test_a_client_that_says_goodbye_leaves_its_devices_safe(bench: Bench) -> None:
    conn = bench.connect()
    conn.lease("box1").box1.set_level(5.0)
    conn.close()
    bench.until_safe("box1")
    assert bench.box1.what() == ["set 5", "safe"]


@pytest.mark.slow
def test_a_client_that_freezes_loses_its_lease_by_its_silence(bench: Bench) -> None:
    client = bench.client("hold", "box1")
    client.hear()
    begin = time.monotonic()
    client.signal(signal.SIGSTOP)
    until(lambda: "safe" in bench.box1.what())
    took = bench.box1.done[-1][0] - begin
    print(f"client frozen: safe commanded after {took:.3f} s")
    status = bench.service.lease_status("box1")
    assert status["state"] == "free"
    client.signal(signal.SIGCONT)


def test_a_hazardous_device_may_want_to_hear_more_often(stack: ExitStack) -> None:
    bench = Bench(stack, box1=DeviceCommon(heartbeat_s=0.5))
    client = bench.client("hold", "box1")
    client.hear()
    time.sleep(1.5)
    assert holder_of(bench, "box1") is not None  # it beats often enough by itself
    client.signal(signal.SIGSTOP)
    begin = time.monotonic()
    until(lambda: "safe" in bench.box1.what())
    print(f"silent for 0.5 s: safe commanded after {bench.box1.done[-1][0] - begin:.3f} s")


def test_where_the_gateway_itself_stood_still_nobody_is_taken_for_silent(stack: ExitStack) -> None:
    bench = Bench(stack, box1=DeviceCommon(heartbeat_s=0.5))
    bench.keeper.close()
    conn = bench.connect()
    lease = conn.lease("box1")
    lease.box1.set_level(5.0)
    custody = bench.keeper.custody
    custody._ticked_at -= 100.0
    for caller in custody._callers.values():
        caller.conn._heard_at -= 100.0
        caller.conn._channel.heard()
    custody.tick()
    assert lease.lost is None
    lease.box1.set_level(1.0)


def test_a_lease_that_is_granted_to_a_connection_that_is_gone_ends_at_once() -> None:
    class Gone:
        token, closed, lost_why, peer_beats = 1, True, "it was cut", False

    class Custodial(Box):
        pass

    box = Custodial("box1")
    from gateway.server.registry import GatewayService

    service = GatewayService({"box1": box})
    custody = service.keeper.custody
    principal = Principal(name="alice", kind=Kind.LOOPBACK, default=Role.ADMIN)
    told: list[str] = []
    caller = Caller(Gone(), principal, "nowhere")  # type: ignore[arg-type]
    claim = custody.request(caller, ["box1"], {}, lambda what, facts: told.append(what))
    assert claim.ended == ("the gateway", "it was cut")
    assert custody.status("box1")["state"] == "free"
    assert custody._callers == {}
    assert custody._claims == {}
    until(lambda: box.what() == ["safe"])


def test_nothing_is_kept_of_leases_that_are_over(bench: Bench) -> None:
    for _ in range(5):
        conn, waiting = bench.connect(), bench.connect()
        lease = conn.lease("box1", "box2")
        waiting.root.lease("box1", wait_s=-1, tell=lambda what, facts: None)
        lease.box1.set_level(1.0)
        with suppress(GatewayError):
            conn.lease("box1", wait=False)
        conn.close()
        waiting.close()
    custody: Custody = bench.keeper.custody
    until(lambda: not custody._claims and not custody._callers)
    assert custody._table.leases() == []


def test_a_listener_that_fails_keeps_no_device_from_being_made_safe() -> None:
    def told(event: object) -> None:
        raise RuntimeError("no")

    def tell(what: str, facts: Mapping[str, Any]) -> None:
        raise RuntimeError("no")

    class Here:
        token, closed, lost_why, peer_beats = 1, False, "", False

    from gateway.server.registry import GatewayService

    box1, box2 = Box("box1"), Box("box2")
    stations = GatewayService({"box1": box1, "box2": box2}).keeper.stations
    safety = Safety()
    custody = Custody(safety, told=told)
    for station in stations.values():
        custody.look_after(station)
    caller = Caller(Here(), Principal(name="alice", kind=Kind.LOOPBACK, default=Role.ADMIN), "")  # type: ignore[arg-type]
    custody.request(caller, ["box1", "box2"], {}, tell, wait_s=math.inf)
    custody.lost(caller, "gone")
    until(lambda: box1.what() == ["safe"] and box2.what() == ["safe"])
    assert stations["box1"].report is None or stations["box1"].report.outcome is Outcome.VERIFIED
