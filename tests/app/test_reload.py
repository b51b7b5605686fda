"""A running gateway that goes over to another config: real drivers on real lines, clients that stay connected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

import gateway
from devices.simulators.line import Simulator
from devices.simulators.multimeter import SimulatedMultimeter
from devices.simulators.power_supply import SimulatedPowerSupply
from gateway import config as configuration
from gateway.app import Gateway, build
from gateway.config import Config
from gateway.errors import ConfigError, DeviceUnavailable, GatewayError, LeaseLost, NotFound, OutOfRange

Tables = dict[str, dict[str, Any]]


class Bench:
    """Two supplies and a multimeter at the ends of their lines, and the tables that lead to them."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.supplies = [SimulatedPowerSupply(identity=f"ACME,Supply,{number},1.0") for number in (1, 2)]
        self.lines = [stack.enter_context(Simulator(supply)) for supply in self.supplies]
        self.meter_line = stack.enter_context(Simulator(SimulatedMultimeter()))
        self.folder = folder
        self.psu1 = {"driver": "scpi-power-supply", "port": self.lines[0].path, "lease": False}
        self.psu2 = {"driver": "scpi-power-supply", "port": self.lines[1].path, "lease": False}
        self.dmm1 = {"driver": "scpi-multimeter", "port": self.meter_line.path}

    def config(self, hosts: Tables | None = None, section: dict[str, Any] | None = None, **devices: Any) -> Config:
        table = {"listen": f"unix://{self.folder}/socket", "advertise": False, **(section or {})}
        return configuration.from_tables(devices, origin="bench.toml", gateway=table, hosts=hosts)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, tmp_path)


@pytest.fixture
def serve() -> Iterator[Callable[[Config], Gateway]]:
    with ExitStack() as stack:
        yield lambda config: stack.enter_context(build(config))


def test_what_stays_the_same_is_not_touched(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1={**bench.psu1, "lease": True}))
    with gateway.connect(running.url) as conn, conn.lease("psu1") as mine:
        mine.psu1.set_voltage(5)
        mine.psu1.set_output(True)
        before = conn.root.describe("psu1")["made_safe"]
        changes = running.reload(bench.config(psu1={**bench.psu1, "lease": True}, psu2=bench.psu2))
        assert [section.name for section in changes.unchanged] == ["psu1"]
        assert mine.psu1.output is True
        mine.psu1.set_voltage(6)
        assert bench.supplies[0].voltage == 6
        assert conn.root.describe("psu1")["made_safe"] == before


def test_an_added_device_is_served_to_clients_that_are_there(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1))
    bench.supplies[1].output = True
    with gateway.connect(running.url) as conn:
        running.reload(bench.config(psu1=bench.psu1, psu2=bench.psu2))
        assert conn.root.names() == ["psu1", "psu2"]
        assert conn.root.psu2.identify() == "ACME,Supply,2,1.0"
        assert bench.supplies[1].output is False
        assert [device.name for device in running.devices] == ["psu1", "psu2"]


def test_a_removed_device_is_made_safe_and_let_go_and_its_proxies_say_so(
    bench: Bench, serve: Callable[[Config], Gateway]
) -> None:
    running = serve(bench.config(psu1=bench.psu1, psu2=bench.psu2))
    with gateway.connect(running.url) as conn:
        removed, kept = conn.root.psu2, conn.root.psu1
        removed.set_output(True)
        kept.set_output(True)
        running.reload(bench.config(psu1=bench.psu1))
        assert bench.supplies[1].output is False
        assert kept.output is True
        with pytest.raises(DeviceUnavailable, match="it was taken out of the config"):
            removed.output  # noqa: B018
        with pytest.raises(DeviceUnavailable, match="it was taken out of the config"):
            removed.set_output(True)
        with pytest.raises(NotFound):
            conn.root.device("psu2")
        assert conn.root.names() == ["psu1"]
    other = serve(bench.config(section={"listen": f"unix://{bench.folder}/other"}, psu2=bench.psu2))
    assert other.devices[0].state == "open"


def test_who_had_a_device_that_is_taken_out_loses_the_lease(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1, psu2={**bench.psu2, "lease": True}))
    lost: Queue[LeaseLost] = Queue()
    with gateway.connect(running.url) as conn, conn.lease("psu2", on_lost=lost.put) as mine:
        mine.psu2.set_output(True)
        running.reload(bench.config(psu1=bench.psu1))
        assert "it was taken out of the config" in str(lost.get(timeout=10))
        assert bench.supplies[1].output is False
        with pytest.raises(DeviceUnavailable):
            mine.psu2.set_output(True)


def test_a_changed_option_opens_the_device_anew_and_proxies_go_on(
    bench: Bench, serve: Callable[[Config], Gateway]
) -> None:
    running = serve(bench.config(psu1=bench.psu1, psu2=bench.psu2))
    with gateway.connect(running.url) as conn:
        psu1 = conn.root.psu1
        psu1.set_voltage(10)
        psu1.set_output(True)
        running.reload(bench.config(psu1={**bench.psu1, "max_voltage": 5.0}, psu2=bench.psu2))
        assert (bench.supplies[0].output, bench.supplies[0].voltage) == (False, 0.0)
        with pytest.raises(OutOfRange):
            psu1.set_voltage(10)
        psu1.set_voltage(4)
        assert bench.supplies[0].voltage == 4


def test_another_driver_takes_the_place_of_a_device(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1, it=bench.psu2))
    with gateway.connect(running.url) as conn:
        before = conn.root.device("it")
        running.reload(bench.config(psu1=bench.psu1, it=bench.dmm1))
        with pytest.raises(DeviceUnavailable):
            before.identify()
        assert "Multimeter" in conn.root.device("it").identify()


def test_new_limits_and_a_new_safe_state_hold_without_the_device_being_opened_anew(
    bench: Bench, serve: Callable[[Config], Gateway]
) -> None:
    running = serve(bench.config(psu1=bench.psu1))
    with gateway.connect(running.url) as conn:
        psu1 = conn.root.psu1
        psu1.set_voltage(10)
        opened = running.devices[0].instrument
        safe = {"output": False, "voltage": 1.0}
        running.reload(bench.config(psu1={**bench.psu1, "limits": {"voltage": [0, 5]}, "safe": safe}))
        assert bench.supplies[0].voltage == 1.0
        with pytest.raises(OutOfRange, match="says the gateway's config"):
            psu1.set_voltage(6)
        assert running.devices[0].instrument is opened
        assert conn.root.describe("psu1")["safe_state"] == "output = False, voltage = 1.0"


def test_notes_change_nothing_but_themselves(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1))
    with gateway.connect(running.url) as conn:
        conn.root.psu1.set_output(True)
        running.reload(bench.config(psu1={**bench.psu1, "notes": "the lid sticks"}))
        assert conn.root.psu1.output is True
        assert conn.root.describe("psu1")["notes"] == "the lid sticks"


def test_a_device_can_be_disabled_and_enabled(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1))
    with gateway.connect(running.url) as conn:
        psu1 = conn.root.psu1
        psu1.set_output(True)
        running.reload(bench.config(psu1={**bench.psu1, "disabled": "on repair"}))
        assert bench.supplies[0].output is False
        assert running.devices[0].state == "closed"
        with pytest.raises(DeviceUnavailable, match="psu1 is disabled: on repair"):
            psu1.output  # noqa: B018
        running.reload(bench.config(psu1=bench.psu1))
        psu1.set_output(True)
        assert bench.supplies[0].output is True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"driver": "scpi-power-suply"}, "unknown driver 'scpi-power-suply'; did you mean"),
        ({"baudrate": "fast"}, "'baudrate' must be"),
        ({"limits": {"volts": [0, 1]}}, "volts"),
        ({"safe": {"voltage_": 0}}, "voltage_"),
        ({"cache": {"nothing": 1.0}}, "nothing"),
    ],
)
def test_a_config_that_does_not_fit_changes_nothing(
    bench: Bench, serve: Callable[[Config], Gateway], change: dict[str, Any], message: str
) -> None:
    running = serve(bench.config(psu1=bench.psu1, psu2=bench.psu2))
    with gateway.connect(running.url) as conn:
        conn.root.psu1.set_output(True)
        conn.root.psu2.set_output(True)
        with pytest.raises(GatewayError, match=message):
            running.reload(bench.config(psu1={**bench.psu1, **change}))
        assert conn.root.names() == ["psu1", "psu2"]
        assert (conn.root.psu1.output, conn.root.psu2.output) == (True, True)
        conn.root.psu1.set_voltage(3)


def test_a_hazardous_device_is_not_added_to_an_open_network(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    section = {"listen": "tcp://0.0.0.0:0", "insecure_lan": True}
    running = serve(bench.config(section=section, psu1=bench.psu1))
    safe = {"listen": "tcp://127.0.0.1:0"}  # which would take effect at the next start only
    with pytest.raises(ConfigError, match="insecure_lan is not for hazardous devices"):
        running.reload(bench.config(section=safe, psu1=bench.psu1, psu2={**bench.psu2, "hazardous": True}))


def test_what_takes_a_restart_is_named(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1))
    changes = running.reload(bench.config(section={"name": "other", "audit": "off"}, psu1=bench.psu1))
    assert changes.restart == ("gateway.audit", "gateway.name")


def test_what_the_emergency_stop_depends_on_can_not_be_taken_out(
    bench: Bench, serve: Callable[[Config], Gateway]
) -> None:
    section = {"estop_unless": "psu2.output == false"}
    running = serve(bench.config(section=section, psu1=bench.psu1, psu2=bench.psu2))
    with pytest.raises(ConfigError, match="the emergency stop depends on psu2.output"):
        running.reload(bench.config(section=section, psu1=bench.psu1))
    assert running.keeper.safety.stopped is None


def test_polls_follow_the_config(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1))
    assert running.keeper.observers.kept == {}
    running.reload(bench.config(psu1={**bench.psu1, "cache": {"measured_voltage": 0.5}}))
    assert running.keeper.observers.kept == {("psu1", "measured_voltage"): 0.5}
    running.reload(bench.config(psu1=bench.psu1))
    assert running.keeper.observers.kept == {}


def test_hosts_come_and_go(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    hosted = serve(bench.config(section={"listen": f"unix://{bench.folder}/host"}, psu2=bench.psu2))
    running = serve(bench.config(psu1=bench.psu1))
    with gateway.connect(running.url) as conn:
        running.reload(bench.config(hosts={"far": {"url": hosted.url}}, psu1=bench.psu1))
        assert running.hosts[0].wait_up(20)
        far = conn.root.far.psu2
        assert far.identify() == "ACME,Supply,2,1.0"
        running.reload(bench.config(psu1=bench.psu1))
        assert running.hosts == ()
        assert conn.root.names() == ["psu1"]
        with pytest.raises(DeviceUnavailable):
            far.identify()
        with pytest.raises(AttributeError):
            conn.root.device("psu1").far  # noqa: B018


def test_a_device_on_a_found_port_can_be_added(bench: Bench, serve: Callable[[Config], Gateway]) -> None:
    running = serve(bench.config(psu1=bench.psu1))
    link = bench.folder / "psu2"
    table = {"driver": "scpi-power-supply", "match": {"path": str(link)}, "lease": False}
    with gateway.connect(running.url) as conn:
        running.reload(bench.config(psu1=bench.psu1, psu2=table))
        with pytest.raises(DeviceUnavailable, match="missing"):
            conn.root.psu2.identify()
        link.symlink_to(bench.lines[1].path)
        running.reload(bench.config(psu1=bench.psu1, psu2={**table, "timeout_s": 2.0}))
        assert conn.root.psu2.identify() == "ACME,Supply,2,1.0"
