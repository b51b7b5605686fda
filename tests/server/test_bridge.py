"""The bridge: the devices of an instrument host are the gateway's own, as far as a client can see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import pytest

import gateway
from gateway.errors import AccessDenied, Busy, ConfigError, DeviceUnavailable, NotFound
from gateway.server.bridge import Host
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, exposed
from tests.server.bridged import Bench, Meter, wait_until


@pytest.fixture(params=["tcp", "unix"])
def bench(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Bench]:
    url = "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/host"
    with ExitStack() as stack:
        yield Bench(stack, url)


@pytest.fixture
def root(bench: Bench) -> Any:
    return bench.start().client().root


# -- what a client sees ----------------------------------------------------------------------------------------------


def test_devices_of_a_host_are_reached_in_three_ways(root: Any) -> None:
    assert root.names() == ["bench2.dmm1", "bench2.psu1"]
    assert root.bench2.dmm1.count() == 1
    assert root.device("bench2.dmm1").count() == 2
    assert root.bench2.psu1.count() == 1
    assert root.bench2.dmm1 == root.device("bench2.dmm1")
    assert root.bench2.dmm1 != root.bench2.psu1
    assert dir(root.bench2) == ["dmm1", "psu1"]
    assert repr(root.bench2.dmm1) == "<Meter bench2.dmm1>"


def test_tables_signatures_units_docs_and_access_are_the_hosts(bench: Bench, root: Any) -> None:
    with gateway.connect(bench.url) as direct:
        there, all_there = direct.root.describe("dmm1"), direct.root.describe()
        members = dir(direct.root.dmm1)
    here = root.describe("bench2.dmm1")
    assert here["members"] == there["members"]
    assert {row["name"]: row["access"] for row in here["members"]}["calibrate"] == "admin"
    assert {row["name"]: row["unit"] for row in here["members"]}["voltage"] == "V"
    assert sorted(dir(root.bench2.dmm1)) == sorted(members)
    for name in ("dmm1", "psu1"):
        expected = {**all_there[name], "name": f"bench2.{name}", "host": "bench2"}
        assert root.describe()[f"bench2.{name}"] == expected


def test_properties_are_read_once_and_set_where_the_host_says_so(bench: Bench, root: Any) -> None:
    dmm = root.bench2.dmm1
    assert dmm.voltage == 1.5
    assert bench.devices["dmm1"].reads == 1
    dmm.range = 10.0
    assert (dmm.range, bench.devices["dmm1"].range) == (10.0, 10.0)
    with pytest.raises(AccessDenied):
        dmm.voltage = 2.0
    assert bench.devices["dmm1"].calls == 0


def test_arguments_go_by_position_and_by_keyword(root: Any) -> None:
    dmm = root.bench2.dmm1
    assert dmm.calibrate() == "3 False"
    assert dmm.calibrate(5, fast=True) == "5 True"
    # Names that the relay's own functions use, too.
    assert dmm.echo(1, relay=2, name=3, method=4, far=5) == (1, {"relay": 2, "name": 3, "method": 4, "far": 5})
    with pytest.raises(TypeError, match="calibrate"):
        dmm.calibrate(1, 2, 3)


@pytest.mark.parametrize("name", ["calls", "_range", "state", "__init__", "gateway_lane", "host", "reach"])
def test_what_the_hosts_table_does_not_list_is_refused(root: Any, name: str) -> None:
    dmm = root.bench2.dmm1
    with pytest.raises(AttributeError):
        dmm.____conn__.get_attribute(dmm, name)
    with pytest.raises(AttributeError):
        dmm.____conn__.sync_request(6, dmm, name, 1)
    with pytest.raises(AttributeError):
        dmm.____conn__.sync_request(5, dmm, name)


def test_names_with_the_relays_own_marks_reach_nothing(bench: Bench, root: Any) -> None:
    dmm = root.bench2.dmm1
    for name in ("read:voltage", "call:count", "read:calls", "far", "border"):
        with pytest.raises(AccessDenied):
            dmm.____conn__.get_attribute(dmm, name)
    assert (bench.devices["dmm1"].calls, bench.devices["dmm1"].reads) == (0, 0)


def test_local_devices_and_bridged_ones_stand_side_by_side(bench: Bench) -> None:
    bench.start_host()
    bench.start_gateway({"local": Meter()})
    bench.bridge.wait_up(5)
    root = bench.client().root
    assert root.names() == ["local", "bench2.dmm1", "bench2.psu1"]
    assert root.local.count() == root.bench2.dmm1.count() == 1
    assert "host" not in root.describe()["local"]
    with pytest.raises(NotFound, match=r"there are: local, bench2\.dmm1, bench2\.psu1$"):
        root.device("bench2.dmm9")
    with pytest.raises(AccessDenied):
        root.bench2.dmm9  # noqa: B018
    for nonsense in ("bench2", "bench2.", "bench2.a b", "bench2." + "x" * 9999, "bench3.dmm1", ["bench2"]):
        with pytest.raises(NotFound) as unknown:
            root.device(nonsense)
        assert len(str(unknown.value)) < 200
    with pytest.raises(NotFound):
        root.describe(["bench2"])
    bench.stop_host()
    bench.wait_away()
    with pytest.raises(NotFound):
        root.device("bench2." + "x" * 9999)


def test_a_host_can_not_take_the_name_of_a_device_or_of_the_gateways_own() -> None:
    with pytest.raises(ConfigError, match="'psu1' is the name of a device and of a host"):
        GatewayService({"psu1": Meter()}, hosts=[Host("psu1", "tcp://127.0.0.1:1")])
    with pytest.raises(ConfigError, match="'describe' is the gateway's own"):
        GatewayService({}, hosts=[Host("describe", "tcp://127.0.0.1:1")])


def test_a_description_of_the_host_lists_its_devices(root: Any) -> None:
    described = root.describe("bench2")
    assert (described["driver"], described["state"], described["host"]) == ("Host", "open", "bench2")
    assert [(row["name"], row["kind"], row["doc"]) for row in described["members"]] == [
        ("dmm1", "property", "A meter that counts."),
        ("psu1", "property", "A meter that counts."),
    ]
    assert "bench2" not in root.describe()


def test_the_state_that_a_device_has_now_is_told(bench: Bench, root: Any) -> None:
    assert root.describe()["bench2.dmm1"]["state"] == "open"
    bench.devices["dmm1"].state = "faulty"
    wait_until(lambda: root.describe()["bench2.dmm1"]["state"] == "faulty", "the new state is told")


# -- coming and going of the host ------------------------------------------------------------------------------------


def test_the_gateway_starts_without_its_host_and_the_devices_appear_when_it_comes(bench: Bench) -> None:
    bench.start_host()
    bench.stop_host()
    begin = monotonic()
    bench.start_gateway()
    root = bench.client().root
    assert root.names() == []
    assert monotonic() - begin < 1
    row = root.describe()["bench2"]
    assert (row["state"], row["driver"]) == ("unavailable", "Host")
    wait_until(lambda: "can't reach" in root.describe()["bench2"]["problem"], "the reason is told")
    for ask in (lambda: root.bench2.dmm1, lambda: root.device("bench2.dmm1")):
        with pytest.raises(DeviceUnavailable, match=r"bench2\.dmm1: bench2 has been away since 20.*nothing was done"):
            ask()
    bench.start_host()
    assert bench.bridge.wait_up(5)
    assert root.names() == ["bench2.dmm1", "bench2.psu1"]
    assert root.bench2.dmm1.count() == 1


def test_a_host_with_other_devices_after_a_restart_serves_those(bench: Bench, root: Any) -> None:
    dmm, psu = root.bench2.dmm1, root.bench2.psu1
    assert psu.count() == 1
    bench.stop_host()
    bench.wait_away()

    class Supply(Exposable):
        """A supply."""

        @exposed
        def set_voltage(self, volts: float) -> float:
            return volts

    bench.devices = {"dmm1": Supply(), "load1": Meter()}
    bench.start_host()
    wait_until(lambda: "bench2.load1" in root.names(), "the new device is there")
    assert root.bench2.load1.count() == 1
    assert dmm.set_voltage(3) == root.bench2.dmm1.set_voltage(3) == 3
    assert root.describe("bench2.dmm1")["driver"] == "Supply"
    with pytest.raises(AccessDenied):
        dmm.count()
    with pytest.raises(DeviceUnavailable, match="bench2 does not serve it any more; nothing was done"):
        psu.count()
    assert root.describe()["bench2.psu1"]["problem"] == "bench2 does not serve it any more"


# -- sharing ---------------------------------------------------------------------------------------------------------


def test_a_call_that_takes_long_delays_no_other_device(bench: Bench, root: Any) -> None:
    blocked = gateway.async_(root.bench2.dmm1.block)()
    assert bench.devices["dmm1"].entered.wait(5)
    assert root.bench2.psu1.count() == 1
    assert root.describe("bench2.dmm1")["state"] == "open"
    bench.devices["dmm1"].release.set()
    assert blocked.value == "done"


def test_a_device_is_never_entered_twice_whoever_calls(bench: Bench, root: Any) -> None:
    other = bench.client().root
    blocked = gateway.async_(root.bench2.dmm1.block)()
    assert bench.devices["dmm1"].entered.wait(5)
    second = gateway.async_(other.bench2.dmm1.count)()
    wait_until(lambda: root.describe()["bench2.dmm1"]["waiting"] == 1, "the second call waits")
    assert bench.devices["dmm1"].calls == 1
    bench.devices["dmm1"].release.set()
    assert (blocked.value, second.value) == ("done", 2)


def test_a_client_that_asks_for_much_does_not_starve_the_others(bench: Bench, root: Any) -> None:
    dmm = bench.devices["dmm1"]
    greedy, modest = gateway.async_(root.bench2.dmm1.note), gateway.async_(bench.client().root.bench2.dmm1.note)
    blocked = gateway.async_(root.bench2.dmm1.block)()
    assert dmm.entered.wait(5)
    ahead = [greedy("greedy") for _ in range(60)]
    wait_until(lambda: root.describe()["bench2.dmm1"]["waiting"] == 60, "all sixty wait")
    asked = modest("modest")
    wait_until(lambda: root.describe()["bench2.dmm1"]["waiting"] == 61, "the other's waits too")
    dmm.release.set()
    asked.wait()
    for each in ahead:
        each.wait()
    assert blocked.value == "done"
    assert dmm.noted.index("modest") <= 1
    assert dmm.noted.count("greedy") == 60


def test_only_ones_own_calls_can_be_too_many(bench: Bench, root: Any) -> None:
    dmm = bench.devices["dmm1"]
    blocked = gateway.async_(root.bench2.dmm1.block)()
    assert dmm.entered.wait(5)
    greedy = gateway.async_(root.bench2.dmm1.count)
    ahead = [greedy() for _ in range(80)]
    with pytest.raises(Busy, match="nothing was done"):
        ahead[-1].value  # noqa: B018
    other = gateway.async_(bench.client().root.bench2.dmm1.count)()
    dmm.release.set()
    assert isinstance(other.value, int)
    assert blocked.value == "done"
    done = 0
    for each in ahead:
        with suppress(Busy):
            done += bool(each.value)
    assert dmm.calls == done + 2  # each that was not refused, once


def test_clients_in_many_threads_get_their_own_answers(bench: Bench) -> None:
    bench.start()
    wrong: list[Any] = []

    def work(client: int) -> None:
        root = bench.client().root
        for number in range(50):
            name = "dmm1" if number % 2 else "psu1"
            if getattr(root.bench2, name).echo((client, number)) != (client, number):
                wrong.append((client, number))

    threads = [threading.Thread(target=work, args=(client,)) for client in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)


def test_more_devices_than_connections_share_them(bench: Bench) -> None:
    bench.devices = {f"m{number}": Meter() for number in range(30)}
    bench.start()
    root = bench.client().root
    assert len(root.names()) == 30
    for number in range(30):
        assert getattr(root.bench2, f"m{number}").count() == 1
    assert bench.host.connections == 7
    assert [meter.calls for meter in bench.devices.values()] == [1] * 30
