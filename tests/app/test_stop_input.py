"""The emergency stop as an input: a condition over readings that has to hold."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import pytest

import gateway
from devices.base import Device, DeviceOptions
from gateway import config as configuration
from gateway.app import Gateway, build
from gateway.errors import ConfigError, DeviceUnavailable, EmergencyStop, OutOfRange
from gateway.service.exposure import exposed


class Panel(Device):
    """A panel with a contact, and a heater that has a safe state."""

    closed: ClassVar[bool] = True
    there: ClassVar[bool] = True
    heating = False
    safe = threading.Event()
    Options = DeviceOptions
    safe_state = "cold"

    @property
    @exposed
    def contact(self) -> bool:
        if not Panel.there:
            raise DeviceUnavailable("the wire is broken")
        return Panel.closed

    @exposed
    def heat(self) -> None:
        Panel.heating = True

    @exposed(access="read")
    def identify(self) -> str:
        return "panel"

    @exposed(access="control")
    def make_safe(self) -> None:
        Panel.heating = False
        Panel.safe.set()

    def _connect(self) -> None: ...

    def _disconnect(self) -> None: ...


@pytest.fixture(autouse=True)
def fresh() -> None:
    Panel.closed = Panel.there = True
    Panel.heating = False
    Panel.safe.clear()


def gateway_with(condition: str, folder: Any) -> Gateway:
    table = {"driver": f"{__name__}:Panel", "lease": False}
    server = {"listen": f"unix://{folder}/socket", "advertise": False, "estop_unless": condition}
    return build(configuration.from_tables({"panel": table, "oven": table}, origin="test.toml", gateway=server))


@pytest.mark.parametrize("change", ["closed", "there"])
def test_a_contact_that_opens_or_can_not_be_read_stops_everything_until_it_is_reset(tmp_path: Any, change: str) -> None:
    with gateway_with("panel.contact", tmp_path) as running, gateway.connect(running.url) as conn:
        conn.root.oven.heat()
        assert Panel.heating
        Panel.safe.clear()
        setattr(Panel, change, False)
        assert Panel.safe.wait(10)
        with pytest.raises(EmergencyStop, match=r"emergency stop since .* by the gateway \(panel.contact"):
            conn.root.oven.heat()
        assert conn.root.estop_state()["by"] == "the gateway"
        with pytest.raises(OutOfRange, match="needs a reason"):
            conn.root.estop_reset(" ")
        setattr(Panel, change, True)
        conn.root.estop_reset("the contact was checked")
        conn.root.oven.heat()
        assert conn.root.estop_state() is None


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("panel", "can't stand in a condition"),
        ("pannel.contact", "no device 'pannel'"),
        ("panel.colour", "no 'colour'"),
    ],
)
def test_a_condition_about_nothing_is_a_mistake_in_the_config(tmp_path: Any, condition: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"test.toml.*{problem}"):
        gateway_with(condition, tmp_path)
