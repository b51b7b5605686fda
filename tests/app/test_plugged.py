"""A real supply's driver on a port that is unplugged and put back under a running gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import gateway
from devices.simulators.line import Simulator
from devices.simulators.power_supply import SimulatedPowerSupply
from gateway import config as configuration
from gateway.app import Gateway, build
from gateway.errors import DeviceMissing, DeviceUnavailable, GatewayError

PATIENCE_S = 20.0


class Plug:
    """A power supply at the end of a link: plugged in, pulled, put back."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.supply = SimulatedPowerSupply(load_ohm=10.0)
        self._stack = ExitStack()

    def put_in(self) -> None:
        self._stack.enter_context(Simulator(self.supply, link=self.link))

    def pull(self) -> None:
        self._stack.close()


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    plug = Plug(tmp_path / "psu")
    yield plug
    plug.pull()


def gateway_for(plug: Plug, **more: Any) -> Gateway:
    table = {"driver": "scpi-power-supply", "match": {"path": str(plug.link)}, "lease": False, **more}
    server = {"listen": f"unix://{plug.link.parent}/socket", "advertise": False}
    return build(configuration.from_tables({"psu1": table}, origin="test", gateway=server))


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives, once it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = condition()
        except GatewayError as error:
            found, problem = None, error
        else:
            problem = None
        if found:
            return found
        assert time.monotonic() < deadline, problem
        time.sleep(0.02)


def state(root: Any) -> str:
    return str(root.describe()["psu1"]["state"])


def test_a_device_that_leaves_is_missing_and_one_that_returns_is_made_safe_first(plug: Plug) -> None:
    plug.put_in()
    with gateway_for(plug) as running, gateway.connect(running.url) as conn:
        supply = conn.root.psu1
        supply.set_voltage(5.0)
        supply.set_output(True)
        assert plug.supply.output is True
        plug.pull()
        until(lambda: state(conn.root) == "missing")
        with pytest.raises(DeviceMissing, match="psu1 has been missing since .*; nothing was done") as missing:
            supply.set_voltage(6.0)
        assert missing.value.state == "missing"
        assert conn.root.describe()["psu1"]["since"] == missing.value.since
        assert (plug.supply.output, plug.supply.voltage) == (True, 5.0), "nobody could reach it meanwhile"
        plug.put_in()
        assert until(lambda: supply.voltage == 0.0), "the same object works again, and the supply was made safe"
        assert (plug.supply.output, plug.supply.voltage) == (False, 0.0)
        assert conn.root.describe()["psu1"]["made_safe"]["outcome"] == "verified"
        supply.set_voltage(3.0)
        assert plug.supply.voltage == 3.0


def test_a_device_that_is_not_there_at_the_start_is_served_when_it_comes(plug: Plug) -> None:
    with gateway_for(plug) as running, gateway.connect(running.url) as conn:
        assert state(conn.root) == "missing"
        with pytest.raises(DeviceUnavailable, match="missing since"):
            conn.root.psu1.identify()
        plug.put_in()
        assert "SIM" in until(lambda: conn.root.psu1.identify())
        assert state(conn.root) == "open"


def test_a_disabled_device_is_not_touched_and_says_why(plug: Plug) -> None:
    plug.put_in()
    plug.supply.output = True
    with gateway_for(plug, disabled="on loan to room 5") as running, gateway.connect(running.url) as conn:
        with pytest.raises(DeviceUnavailable, match="psu1 is disabled: on loan to room 5; nothing was done"):
            conn.root.psu1.identify()
        assert state(conn.root) == "disabled"
    assert plug.supply.output is True
