"""`conn.root.lease(...)` over the wire: for clients of ours, for stock ones, and for those that take no news."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import gateway
from gateway.errors import AccessDenied, BadRequest, GatewayError, LeaseConflict, LeaseLost, NotFound, OutOfRange
from gateway.identity.principal import Kind, Principal, Role
from gateway.server.lease_service import LeasedService, LeaseHandle, Teller
from gateway.server.registry import GatewayService
from gateway.server.station import Caller
from tests.server.kept import PATIENCE_S, Bench, until


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


@pytest.mark.interop
def test_a_stock_client_leases_drives_and_is_told_that_it_lost(bench: Bench) -> None:
    client = bench.client("stock", "box1")
    out = client.hear()
    assert out["set_level"] == ["PermissionError", "not-leased"]
    assert out["make_safe"] == "done"
    assert out["state"] == "held"
    assert out["shown"] == "unknown"
    assert [done[1:] for done in bench.box1.done[1:]] == [("set 3", out["number"]), ("set 4", out["number"])]
    bench.connect().root.revoke_lease("box1", "enough")
    client.say()
    end = client.hear()
    assert end["version"] == "6.0.2"
    assert "ended" in end["told"]
    assert end["lost"] == ["PermissionError", "lease-lost", "127.0.0.1"]
    assert bench.box1.what()[-1] == "safe"


def test_a_handle_says_where_the_claim_stands(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    handle = first.root.lease("box1", "box2")
    assert handle.status() == {
        "state": "held",
        "number": bench.keeper.custody.number_of("box1"),
        "devices": ["box1", "box2"],
        "position": None,
        "estimate_s": None,
        "at_most_s": None,
        "by": None,
        "why": None,
        "heartbeat_s": None,
    }
    waits = second.root.lease("box2", wait_s=-1, tell=lambda what, facts: None)
    status = waits.status()
    assert (status["state"], status["number"], status["position"]) == ("waiting", None, 1)
    assert 0 < status["estimate_s"] <= 300
    handle.release()
    handle.release()
    until(lambda: waits.status()["state"] == "held")
    assert handle.status()["state"] == "ended"
    for call in (handle.touch, handle.ask, handle.agree, handle.refuse, lambda: handle.token):
        with pytest.raises(LeaseLost, match="the lease is over: released"):
            call()


def test_what_a_handle_says_is_of_one_moment(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    wrong: list[dict[str, Any]] = []
    stop = threading.Event()
    handles: list[Any] = []

    def look() -> None:
        while not stop.is_set():
            for handle in handles[-1:]:
                status = handle.status()
                held = status["state"] in ("held", "asked")
                if (held and status["number"] is None) or (status["state"] == "ended") != (status["why"] is not None):
                    wrong.append(status)

    custody = bench.keeper.custody
    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    principal = Principal(name="alice", kind=Kind.LOOPBACK, default=Role.ADMIN)
    callers = [Caller(conn, principal, "") for conn in (first, second)]
    for turn in range(300):
        holder = custody.request(callers[turn % 2], ["box1"], {}, lambda what, facts: None)
        waits = custody.request(callers[1 - turn % 2], ["box1"], {}, lambda what, facts: None)
        handles.append(LeaseHandle(custody, waits, None))
        custody.give_up(holder)
        custody.give_up(waits)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_without_news_the_call_itself_waits_and_gives_up(bench: Bench) -> None:
    first, second = bench.connect(), bench.connect()
    handle = first.root.lease("box1")
    with pytest.raises(LeaseConflict, match="not free within 0.2 s"):
        second.root.lease("box1", wait_s=0.2)
    assert bench.service.lease_status("box1")["waiting"] == []
    threading.Timer(0.1, handle.release).start()
    assert second.root.lease("box1", wait_s=10).status()["state"] == "held"


def test_who_does_not_wait_is_told_who_has_it(bench: Bench) -> None:
    with bench.connect().lease("box1"), pytest.raises(LeaseConflict, match="box1 is leased by 127.0.0.1") as conflict:
        bench.connect().root.lease("box1")
    assert 0 < conflict.value.until_s <= 300


@pytest.mark.parametrize(
    ("devices", "how", "error"),
    [
        ((), {}, BadRequest),
        ((5,), {}, BadRequest),
        (("box1",) * 33, {}, BadRequest),
        (("box3",), {}, NotFound),
        (("box1",), {"soft_s": -1}, OutOfRange),
        (("box1",), {"hard_s": float("nan")}, OutOfRange),
        (("box1",), {"wait_s": float("nan")}, OutOfRange),
        (("box1",), {"tell": 5}, BadRequest),
    ],
)
def test_requests_that_make_no_sense_change_nothing(bench: Bench, devices: Any, how: Any, error: Any) -> None:
    with pytest.raises(error):
        bench.connect().root.lease(*devices, **how)
    assert bench.service.lease_status("box1")["state"] == "free"


def test_what_a_client_says_of_itself_is_bounded_and_printable(bench: Bench) -> None:
    bench.connect().root.lease("box1", who={"program": "p\n\x1b[31m" + "x" * 500, "host": 5, "pid": 2**40})
    holder = bench.service.lease_status("box1")["holder"]
    assert holder["program"].startswith("p??[31mx")
    assert len(holder["program"]) == 200
    assert (holder["host"], holder["pid"]) == ("unknown", 0)


def test_roles_say_who_may_lease_force_and_revoke(bench: Bench) -> None:
    bench.doorman.take_for("bob", Role.OBSERVE, box2=Role.OPERATE)
    root = bench.connect().root
    with pytest.raises(AccessDenied, match="bob is observe on box1"):
        root.lease("box2", "box1")
    with pytest.raises(AccessDenied, match="admin needs admin"):
        root.lease("box2", force="because")
    with pytest.raises(AccessDenied):
        root.revoke_lease("box2", "because")
    with pytest.raises(AccessDenied):
        root.estop_reset("because")
    assert root.lease("box2").status()["state"] == "held"
    root.estop("anybody may")


def test_leases_belong_to_clients_of_a_gateway_only() -> None:
    with pytest.raises(BadRequest, match="client of a gateway"):
        GatewayService({}).join_lease("token")


# -- telling ----------------------------------------------------------------------------------------------------------


def test_things_are_told_in_their_order_and_old_places_not_at_all() -> None:
    gate, told = threading.Event(), []

    def tell(what: str, facts: dict[str, Any]) -> None:
        gate.wait(PATIENCE_S)
        told.append((what, facts.get("position")))

    class Catching(LeasedService, gateway.Service):
        @gateway.exposed(access="read")
        def take(self, tell: Any) -> None:
            self.teller = Teller(tell)

    service = Catching()
    with gateway.Server(service, "tcp://127.0.0.1:0", strict=True) as server, gateway.connect(server.url) as conn:
        conn.root.take(tell)
        service.teller("moved", {"position": 9})
        until(lambda: not service.teller._waiting)
        for position in range(8, 0, -1):
            service.teller("moved", {"position": position})
        service.teller("granted", {})
        gate.set()
        until(lambda: len(told) == 3)
        assert told == [("moved", 9), ("moved", 1), ("granted", None)]


def test_a_client_that_takes_no_news_holds_nobody_up(bench: Bench) -> None:
    gate = threading.Event()
    stuck, other = bench.connect(), bench.connect()
    with other.lease("box1"):
        waits = stuck.root.lease("box1", wait_s=-1, tell=lambda what, facts: gate.wait(PATIENCE_S))
        for _ in range(50):
            other.root.lease("box2").release()
    begin = time.monotonic()
    other.root.lease("box2")
    assert time.monotonic() - begin < PATIENCE_S / 2
    until(lambda: waits.status()["state"] == "held")
    gate.set()


def test_a_client_that_is_gone_is_told_nothing_and_nobody_minds(bench: Bench) -> None:
    holder, waiting = bench.connect(), bench.connect()
    with holder.lease("box1"):
        waiting.root.lease("box1", wait_s=-1, tell=lambda what, facts: None)
        waiting.close()
        until(lambda: not bench.service.lease_status("box1")["waiting"])
    with pytest.raises(GatewayError):
        waiting.root.names()
