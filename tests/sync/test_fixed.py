"""Fixed attributes: what a gateway's devices are to its root. Our clients ask once; stock ones see no change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.errors import ProtocolError
from gateway.protocol.constants import Handler
from gateway.protocol.peer import FEATURES, FIXED
from gateway.server.registry import GatewayService
from gateway.service.device_policy import DevicePolicy
from gateway.service.exposure import Exposable
from gateway.sync.calls import Calls
from tests.behaviour.conditions import eventually

Serve = Callable[..., gateway.Server]
Connect = Callable[..., Any]


class Supply(Exposable):
    """A supply."""

    def exposed_volts(self) -> float:
        return 3.3

    @property
    def exposed_range(self) -> Supply:
        return Supply()


@pytest.fixture
def server(serve: Serve) -> gateway.Server:
    return serve(GatewayService({"psu1": Supply(), "psu2": Supply()}), strict=True)


def test_a_device_is_asked_for_once(server: gateway.Server, connect: Connect) -> None:
    conn = connect(server)
    supply = conn.root.psu1
    received = conn.received
    assert conn.root.psu1 is supply
    assert conn.received == received, "nothing was asked"
    assert conn.root.psu2 is not supply
    assert supply.volts() == 3.3


def test_what_a_root_shows_comes_with_the_greeting(server: gateway.Server, connect: Connect) -> None:
    conn = connect(server)
    root = conn.root
    assert conn.received == 2, "the answers to HELLO and GETROOT, and none to INSPECT"
    asked = conn.sync_request(Handler.INSPECT, root.____id_pack__)
    assert tuple(entry[0] for entry in asked if len(entry) == 2) == tuple(name for name, _ in type(root).____methods__)


@pytest.mark.parametrize("table", [5, (("name",),), ((1, None),), tuple((f"m{n}", None) for n in range(3000))])
def test_a_greeting_that_shows_nonsense_is_refused(
    server: gateway.Server, connect: Connect, monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    monkeypatch.setattr(DevicePolicy, "methods", lambda policy, obj: table)
    conn = connect(server)
    with pytest.raises(ProtocolError, match="method table"):
        conn.root  # noqa: B018 - asking is the test


def test_a_call_of_a_device_is_one_request(server: gateway.Server, connect: Connect) -> None:
    conn = connect(server)
    assert conn.root.psu1.volts() == 3.3
    received = conn.received
    for _ in range(5):
        assert conn.root.psu1.volts() == 3.3
    assert conn.received == received + 5


def test_an_attribute_that_may_change_is_asked_for_each_time(server: gateway.Server, connect: Connect) -> None:
    supply = connect(server).root.psu1
    first, second = supply.range, supply.range
    assert first != second


def test_its_docstring_is_the_devices(server: gateway.Server, connect: Connect) -> None:
    root = connect(server).root
    assert "A supply." in type(root).psu1.__doc__
    assert "psu1" in dir(root)


def test_a_device_is_given_back_with_its_root(server: gateway.Server, connect: Connect) -> None:
    conn = connect(server)
    assert conn.root.psu1.volts() == 3.3
    conn.close()
    assert eventually(lambda: server.connections == 0)


def test_a_peer_that_does_not_know_fixed_attributes_is_not_told_of_them(
    server: gateway.Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = connect(server)
    assert len(known.sync_request(Handler.INSPECT, known.root.____id_pack__)[-1]) == 3
    monkeypatch.setattr(Calls, "features", FEATURES - {FIXED})
    conn = connect(server)
    table = conn.sync_request(Handler.INSPECT, conn.root.____id_pack__)
    assert {len(entry) for entry in table} == {2}
    assert "psu1" not in dict(table)
    first, second = conn.root.psu1, conn.root.psu1
    assert first.volts() == second.volts() == 3.3
