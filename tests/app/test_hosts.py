"""Instrument hosts of a config: the gateway starts without waiting for them and leaves them when it closes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

import gateway
from devices import Device
from gateway import app, config
from gateway.errors import ConfigError, DeviceUnavailable
from gateway.service.exposure import exposed

LOCAL = {"listen": "tcp://127.0.0.1:0", "advertise": False}


class Lamp(Device):
    """A lamp that counts."""

    @exposed(access="read")
    def identify(self) -> str:
        return f"lamp {self.name}"

    @exposed
    def make_safe(self) -> None: ...

    def _connect(self) -> None: ...

    def _disconnect(self) -> None: ...


LAMP = {"driver": f"{__name__}:Lamp"}


@pytest.fixture
def host() -> Iterator[app.Gateway]:
    with app.build(config.from_tables({"lamp1": LAMP}, origin="the host", gateway=LOCAL)) as running:
        yield running


def front(url: str, devices: Any = {}) -> app.Gateway:  # noqa: B006 - never changed
    tables = config.from_tables(devices, origin="a test", gateway=LOCAL, hosts={"bench2": {"url": url}})
    return app.build(tables)


def test_a_config_with_hosts_only_becomes_a_gateway(host: app.Gateway) -> None:
    with front(host.url) as running, gateway.connect(running.url) as conn:
        assert running.hosts[0].wait_up(10)
        assert conn.root.names() == ["bench2.lamp1"]
        assert conn.root.bench2.lamp1.identify() == "lamp lamp1"
        assert conn.root.bench2.lamp1.state == "open"
        assert conn.root.describe("bench2.lamp1")["driver"] == "Lamp"
    assert not running.hosts[0].is_up


def test_the_gateway_starts_and_closes_at_once_though_a_host_is_away() -> None:
    begin = monotonic()
    with front("tcp://127.0.0.1:1", {"lamp2": LAMP}) as running, gateway.connect(running.url) as conn:
        assert conn.root.names() == ["lamp2"]
        assert conn.root.lamp2.identify() == "lamp lamp2"
        with pytest.raises(DeviceUnavailable):
            conn.root.device("bench2.lamp1")
    assert monotonic() - begin < 3
    assert not any("gateway-host" in thread.name for thread in threading.enumerate())


def test_building_a_gateway_reaches_for_nothing(host: app.Gateway) -> None:
    before = set(threading.enumerate())
    front(host.url)
    assert set(threading.enumerate()) <= before


def test_a_wrong_place_to_listen_leaves_no_host_thread() -> None:
    with pytest.raises(ConfigError):
        with front("tcp://127.0.0.1:1", {"lamp2": LAMP}) as first:
            taken = {**LOCAL, "listen": first.url}
            again = config.from_tables({}, origin="x", gateway=taken, hosts={"bench2": {"url": "tcp://127.0.0.1:1"}})
            app.build(again).start()
    assert not any("gateway-host" in thread.name for thread in threading.enumerate())
