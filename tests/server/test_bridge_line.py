"""The line to a host is lost and comes back: what a call becomes, that none runs twice, that nobody reconnects."""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

import gateway
from gateway.channels import memory_pair, open_trunk
from gateway.channels.base import Channel
from gateway.channels.trunk import Trunk
from gateway.errors import (
    CallTimeout,
    ConfigError,
    DeviceUnavailable,
    GatewayError,
    LimitExceeded,
    LinkDown,
    OutcomeUnknown,
    Unreachable,
)
from gateway.limits import Limits
from gateway.server import bridge, session
from gateway.server.bridge import Host
from gateway.server.registry import GatewayService
from tests.server.bridged import PATIENCE_S, Bench, Meter, wait_until


@pytest.fixture(params=["tcp", "unix"])
def bench(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Bench]:
    url = "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/host"
    with ExitStack() as stack:
        yield Bench(stack, url).start()


def until_it_works(call: Any) -> Any:
    """What the first call gives that is not refused for want of the line."""
    deadline = monotonic() + PATIENCE_S
    pause = threading.Event()
    while True:
        try:
            return call()
        except DeviceUnavailable:
            assert monotonic() < deadline, "the line came back"
            pause.wait(0.005)


# -- the line is lost ------------------------------------------------------------------------------------------------


def test_a_call_while_the_host_is_away_is_refused_at_once_and_nothing_is_done(bench: Bench) -> None:
    root = bench.client().root
    dmm = root.bench2.dmm1
    dmm.count()
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    bench.stop_host()
    bench.wait_away()
    begin = monotonic()
    for ask in (dmm.count, lambda: dmm.voltage, lambda: setattr(dmm, "range", 2.0), lambda: dmm.samples(2)):
        with pytest.raises(DeviceUnavailable, match=r"^bench2\.dmm1: bench2 has been away since .*; nothing was done$"):
            ask()
    assert monotonic() - begin < 0.5
    assert bench.devices["dmm1"].calls == 1
    row = root.describe()["bench2.dmm1"]
    assert row["state"] == "unavailable"
    assert before <= datetime.fromisoformat(row["since"]) <= datetime.now(UTC)
    assert row["problem"]
    assert root.describe("bench2")["state"] == root.describe("bench2.psu1")["state"] == "unavailable"
    assert root.names() == ["bench2.dmm1", "bench2.psu1"]


def test_since_when_it_is_away_stays_while_it_is_tried_again(bench: Bench) -> None:
    root = bench.client().root
    bench.stop_host()
    bench.wait_away()
    since = root.describe("bench2")["since"]
    wait_until(lambda: "can't reach" in root.describe("bench2")["problem"], "another attempt failed")
    assert root.describe("bench2")["since"] == since


def test_a_call_on_its_way_ends_as_outcome_unknown(bench: Bench) -> None:
    dmm = bench.client().root.bench2.dmm1
    blocked = gateway.async_(dmm.block)()
    assert bench.devices["dmm1"].entered.wait(5)
    begin = monotonic()
    bench.cut()
    with pytest.raises(OutcomeUnknown, match=r"bench2\.dmm1: .* may or may not have been done"):
        blocked.value  # noqa: B018
    assert monotonic() - begin < 0.5
    bench.devices["dmm1"].release.set()
    # Its connections break one after the other: what is sent before the last one has gone may be lost too.
    wait_until(lambda: len(bench.bridge.absences) == 1, "the gateway noticed")
    assert until_it_works(dmm.count) == 2  # the one that was cut, and this one


def test_a_waiting_call_is_not_sent_when_the_line_breaks_under_the_one_in_front(bench: Bench) -> None:
    root = bench.client().root
    blocked = gateway.async_(root.bench2.dmm1.block)()
    assert bench.devices["dmm1"].entered.wait(5)
    waiting = gateway.async_(root.bench2.dmm1.note)("late")
    wait_until(lambda: root.describe()["bench2.dmm1"]["waiting"] == 1, "it waits")
    bench.stop_host()
    for call, error in ((blocked, OutcomeUnknown), (waiting, DeviceUnavailable)):
        with pytest.raises(error):
            call.value  # noqa: B018
    bench.devices["dmm1"].release.set()
    assert bench.devices["dmm1"].noted == []


def test_stock_clients_meet_builtin_errors(bench: Bench) -> None:
    dmm = bench.client().root.bench2.dmm1
    bench.stop_host()
    bench.wait_away()
    with pytest.raises(ConnectionError) as caught:
        dmm.count()
    assert (caught.value.code, caught.value.host, caught.value.retryable) == ("device-unavailable", "bench2", True)


# -- and comes back --------------------------------------------------------------------------------------------------


def test_its_return_brings_the_devices_back_for_clients_that_did_nothing(bench: Bench) -> None:
    conn = bench.client()
    dmm, psu = conn.root.bench2.dmm1, conn.root.device("bench2.psu1")
    assert (dmm.count(), psu.count()) == (1, 1)
    for again in range(2, 5):
        bench.stop_host()
        bench.wait_away()
        bench.start_host()
        begin = monotonic()
        assert until_it_works(dmm.count) == again
        assert monotonic() - begin < 3  # mostly 0.1 s; other programs run on this machine too
        assert until_it_works(psu.count) == again
    assert conn.root.describe()["bench2.dmm1"]["state"] == "open"
    assert not conn.closed


def test_an_object_of_before_is_lost_and_says_so(bench: Bench) -> None:
    dmm = bench.client().root.bench2.dmm1
    trace, stream = dmm.trace(1.0), dmm.samples(10)
    assert next(stream) == 0
    bench.stop_host()
    bench.wait_away()
    bench.start_host()
    assert until_it_works(dmm.count) == 2
    for use in (trace.total, lambda: trace.size, lambda: next(stream), lambda: gateway.buffiter(stream).__next__()):
        with pytest.raises(DeviceUnavailable, match="it was lost with the line to bench2; ask the device for it again"):
            use()
    with pytest.raises(DeviceUnavailable):
        dmm.listen(trace)
    assert dmm.trace(2.0).total() == 2.0
    wait_until(lambda: not bench.devices["dmm1"].traces, "the host let go of both")


def test_a_lost_connection_of_one_device_harms_no_other(bench: Bench) -> None:
    root = bench.client().root
    assert (root.bench2.dmm1.count(), root.bench2.psu1.count()) == (1, 1)
    blocked = gateway.async_(root.bench2.psu1.block)()
    assert bench.devices["psu1"].entered.wait(5)
    [line] = [
        conn
        for conn in bench.host._connections
        if bench.devices["dmm1"] in list(conn._peer.boxing.loans)
        and bench.devices["psu1"] not in list(conn._peer.boxing.loans)
    ]
    line.abandon(LinkDown("cut"))
    assert until_it_works(lambda: _or_unknown(root.bench2.dmm1.count)) >= 1
    bench.devices["psu1"].release.set()
    assert blocked.value == "done"
    assert bench.bridge.is_up


def _or_unknown(call: Any) -> Any:
    with contextlib.suppress(OutcomeUnknown):
        return call()
    return call()


def test_nothing_runs_twice_however_often_the_line_breaks(bench: Bench) -> None:
    random.seed(5)
    meter = bench.devices["dmm1"]
    done, unknown, refused = [0] * 4, [0] * 4, [0] * 4
    stop = threading.Event()
    pause = threading.Event()

    def work(which: int) -> None:
        dmm = bench.client().root.bench2.dmm1
        while not stop.is_set():
            try:
                dmm.note(f"{which}-{done[which] + unknown[which] + refused[which]}")
                done[which] += 1
            except OutcomeUnknown:
                unknown[which] += 1
            except DeviceUnavailable:
                refused[which] += 1
                pause.wait(0.005)

    workers = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(25):
        pause.wait(random.uniform(0.01, 0.06))
        bench.cut()
    wait_until(lambda: bench.bridge.is_up, "the last cut is over")
    stop.set()
    for worker in workers:
        worker.join(PATIENCE_S)
    assert len(set(meter.noted)) == len(meter.noted)  # each ran once at most
    assert sum(done) <= len(meter.noted) <= sum(done) + sum(unknown)  # a refused one never ran
    assert sum(done) > 100
    assert sum(unknown) + sum(refused) > 0


# -- a host that does not answer -------------------------------------------------------------------------------------


def test_a_host_that_hangs_is_found_by_its_silence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "DEAD_S", 0.3)
    monkeypatch.setattr(bridge, "HEARTBEAT_S", 0.05)
    dmm = bench.client().root.bench2.dmm1
    blocked = gateway.async_(dmm.block)()
    assert bench.devices["dmm1"].entered.wait(5)
    for conn in list(bench.host._connections):
        conn.transmit = lambda message: None  # it takes everything and says nothing
    with pytest.raises(OutcomeUnknown):
        blocked.value  # noqa: B018
    bench.devices["dmm1"].release.set()
    assert until_it_works(dmm.count) == 2


def test_somebody_else_at_that_address_is_told_apart(bench: Bench) -> None:
    bench.stop_host()
    bench.wait_away()
    root = bench.client().root
    bench.start_host(gateway.VoidService())
    wait_until(lambda: "is no instrument host" in root.describe("bench2")["problem"], "it is told")
    bench.host.close()
    bench.start_host()
    assert until_it_works(root.bench2.dmm1.count) == 1


def test_each_reason_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def messages() -> list[str]:
        return [record.message for record in caplog.records if record.name == "gateway.server.bridge"]

    with caplog.at_level(logging.INFO, "gateway.server.bridge"):
        bench.stop_host()
        bench.wait_away()
        wait_until(lambda: "can't reach" in bench.bridge.absence().get("problem", ""), "the reason changed")
        threading.Event().wait(3 * bridge.PAUSE_S)
        bench.start_host()
        wait_until(lambda: messages()[-1:] == ["bench2 is there, with 2 devices"], "it is back and said so")
    told = messages()
    assert all(one != next_one for one, next_one in itertools.pairwise(told)), told
    assert len(told) <= 6, told


def test_closing_is_quick_and_leaves_no_thread_whatever_the_host_does(bench: Bench) -> None:
    for prepare in (lambda: None, bench.stop_host):
        prepare()
        begin = monotonic()
        bench.bridge.close()
        bench.bridge.close()
        assert monotonic() - begin < 2
        assert not any(thread.name == "gateway-host-bench2" for thread in threading.enumerate())
        with pytest.raises(DeviceUnavailable):
            bench.bridge.reach("dmm1")


def test_a_gateway_that_waits_for_a_silent_address_closes_quickly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = Host("bench2", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        host.start()
        silent.accept()[0].close()
        kept, _ = silent.accept()
        begin = monotonic()
        host.close()
        assert monotonic() - begin < 3
        kept.close()
        wait_until(lambda: not host._thread.is_alive(), "its thread has ended")


# -- one connection for all ------------------------------------------------------------------------------------------


class OneChannel(Trunk):
    """A line that carries one conversation and tells neither end that the other one is gone, as raw serial does."""

    channels_at_most = 1

    def __init__(self) -> None:
        self.server: gateway.Server | None = None
        self.channel: Channel | None = None

    def open(self, timeout: float) -> Channel:
        if self.server is None:
            raise Unreachable("nobody is at the other end")
        here, there = memory_pair()
        self.channel = here
        self.server.serve_channel(there)
        return here

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()


def test_where_there_is_one_channel_all_devices_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, devices = OneChannel(), {"dmm1": Meter(), "psu1": Meter()}
    monkeypatch.setattr(bridge, "open_trunk", lambda url, limits: trunk)
    trunk.server = gateway.Server(GatewayService(devices), strict=True)
    host = Host("bench2", "tcp://127.0.0.1:1")
    host.start()
    service = GatewayService({}, hosts=[host])
    with gateway.Server(service, "tcp://127.0.0.1:0", strict=True) as front, gateway.connect(front.url) as conn:
        assert host.wait_up(5)
        dmm, psu = conn.root.bench2.dmm1, conn.root.bench2.psu1
        blocked = gateway.async_(dmm.block)()
        assert devices["dmm1"].entered.wait(5)
        assert psu.count() == 1
        assert psu.each(lambda number: number + 1, 3) == [1, 2, 3]
        assert conn.root.describe("bench2.psu1")["state"] == "open"
        assert trunk.server.connections == 1
        devices["dmm1"].release.set()
        assert blocked.value == "done"
        host.close()
    trunk.server.close()


def test_a_host_that_was_started_anew_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, devices = OneChannel(), {"dmm1": Meter()}
    monkeypatch.setattr(bridge, "open_trunk", lambda url, limits: trunk)
    monkeypatch.setattr(bridge, "HEARTBEAT_S", 60.0)
    trunk.server = gateway.Server(GatewayService(devices), strict=True)
    host = Host("bench2", "tcp://127.0.0.1:1")
    host.start()
    service = GatewayService({}, hosts=[host])
    with gateway.Server(service, "tcp://127.0.0.1:0", strict=True) as front, gateway.connect(front.url) as conn:
        assert host.wait_up(5)
        dmm = conn.root.bench2.dmm1
        assert dmm.count() == 1
        [there] = trunk.server._connections
        there._peer.boxing.loans.clear()  # what a host remembers after a power cut
        with pytest.raises(DeviceUnavailable, match="the host was started anew.*nothing was done"):
            dmm.count()
        assert until_it_works(dmm.count) == 2
        host.close()
    trunk.server.close()


# -- trunks ----------------------------------------------------------------------------------------------------------


def test_a_url_trunk_opens_the_url_anew_for_each_channel(bench: Bench) -> None:
    trunk = open_trunk(bench.url)
    before = bench.host.connections
    assert trunk.channels_at_most is None
    channels = [trunk.open(5.0) for _ in range(3)]
    wait_until(lambda: bench.host.connections == before + 3, "three came")
    trunk.close()
    trunk.close()
    assert all(channel.closed for channel in channels)
    wait_until(lambda: bench.host.connections == before, "all three ended")
    with pytest.raises(LinkDown, match="was closed by this side"):
        trunk.open(1.0)


def test_a_trunk_of_one_channel_refuses_a_second_one() -> None:
    trunk = open_trunk("pipe:cat")
    assert trunk.channels_at_most == 1
    first = trunk.open(5.0)
    with pytest.raises(LimitExceeded, match="channels of a trunk: 2 is over the limit of 1"):
        trunk.open(1.0)
    first.close()
    second = trunk.open(5.0)
    trunk.close()
    assert second.closed


def test_a_trunk_to_nowhere_says_so_when_it_is_opened() -> None:
    with pytest.raises(ConfigError, match="unknown scheme"):
        open_trunk("ftp://x")
    trunk = open_trunk("tcp://127.0.0.1:1", limits=Limits())
    with pytest.raises(LinkDown, match="can't reach"):
        trunk.open(1.0)


def test_an_answer_that_does_not_come_is_a_timeout(bench: Bench) -> None:
    from gateway.server.border import answer

    with gateway.connect(bench.url) as conn:
        with pytest.raises(CallTimeout, match=r"no answer to block\(\) within 0\.05 s"):
            answer(conn, conn.root.dmm1, "block", (), 0.05)
        bench.devices["dmm1"].release.set()
        with pytest.raises(GatewayError):
            answer(conn, conn.root, "device", ("nothing",), 5.0)
