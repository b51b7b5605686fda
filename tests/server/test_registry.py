"""The gateway's root service: devices by name, what each shows, and one lane for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import gateway
from gateway.errors import AccessDenied, Busy, ConfigError, NotFound
from gateway.limits import Limits
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable, Kind, exposed, exposure_table


class Supply(Exposable):
    """A power supply.

    With more to say about it.
    """

    state = "open"

    @exposed(unit="V")  # type: ignore[prop-decorator]
    @property
    def voltage(self) -> float:
        """The set voltage."""
        raise AssertionError("describing reads nothing")

    @voltage.setter
    def voltage(self, volts: float) -> None: ...

    @exposed(access="admin")
    def calibrate(self, points: int = 3) -> None:
        """Adjust."""

    @exposed
    def identify(self) -> str:
        return "supply"


class Bare:
    exposed_x = 1


@pytest.fixture
def service() -> GatewayService:
    return GatewayService({"psu1": Supply(), "psu2": Supply(), "bare": Bare()})


@pytest.fixture
def root(service: GatewayService) -> Iterator[Any]:
    with gateway.Server(service, "tcp://127.0.0.1:0", strict=True) as server, gateway.connect(server.url) as conn:
        yield conn.root


def test_devices_are_found_by_name(service: GatewayService) -> None:
    assert service.names() == ["psu1", "psu2", "bare"]
    assert service.device("psu2") is service.psu2
    assert isinstance(service.psu1, Supply)


@pytest.mark.parametrize("name", ["psu3", "", "psu1 ", "__class__", "names", 5, None, ("psu1",), ["psu1"]], ids=repr)
def test_an_unknown_device_is_not_found_and_the_known_ones_are_listed(service: GatewayService, name: Any) -> None:
    with pytest.raises(NotFound, match=r"there are: psu1, psu2, bare$"):
        service.device(name)


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(NotFound, match=r"there are: none$") as unknown:
        GatewayService({}).device("x" * 10_000)
    assert len(str(unknown.value)) < 200


def test_an_attribute_that_is_no_device_is_missing(service: GatewayService) -> None:
    with pytest.raises(AttributeError, match="psu3"):
        service.psu3  # noqa: B018
    with pytest.raises(AttributeError):
        GatewayService.__new__(GatewayService).psu1  # noqa: B018 - half made, as copy and pickle meet it


def test_each_device_is_a_property_of_the_table(service: GatewayService) -> None:
    table = exposure_table(service)
    assert set(table) == {
        "names",
        "device",
        "describe",
        "get_service_name",
        "get_service_aliases",
        "lease",
        "join_lease",
        "lease_status",
        "revoke_lease",
        "observers",
        "estop",
        "estop_reset",
        "host_info",
        "reset_host",
        "estop_state",
        "test_safe",
        "psu1",
        "psu2",
        "bare",
    }
    assert (table["psu1"].kind, table["psu1"].signature, table["psu1"].doc) == (
        Kind.PROPERTY,
        "-> Supply",
        "A power supply.",
    )
    assert not table["psu1"].settable


@pytest.mark.parametrize("name", ["names", "device", "describe", "exposures", "on_connect", "_devices", "exposed_psu1"])
def test_a_device_can_not_take_a_name_of_the_gateways_own(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is the gateway's own"):
        GatewayService({name: Supply()})


def test_a_description_of_all_is_a_line_of_each(service: GatewayService) -> None:
    described = service.describe()
    assert list(described) == ["psu1", "psu2", "bare"]
    assert described["psu1"] == {
        "name": "psu1",
        "driver": "Supply",
        "doc": "A power supply.",
        "state": "open",
        "waiting": 0,
        "identity": None,
        "owner": None,
        "notes": None,
        "safe_state": None,
        "needs_lease": False,
        "lease": None,
        "made_safe": None,
    }
    assert (described["bare"]["doc"], described["bare"]["state"]) == ("", "open")


def test_a_description_of_one_lists_its_members_in_order(service: GatewayService) -> None:
    described = service.describe("psu1")
    assert [member["name"] for member in described["members"]] == ["calibrate", "identify", "voltage"]
    calibrate, _, voltage = described["members"]
    assert calibrate == {
        "name": "calibrate",
        "kind": "method",
        "signature": "(points: int = 3) -> None",
        "doc": "Adjust.",
        "unit": None,
        "access": "admin",
        "settable": False,
    }
    assert (voltage["kind"], voltage["unit"], voltage["settable"], voltage["signature"]) == (
        "property",
        "V",
        True,
        "-> float",
    )
    with pytest.raises(NotFound):
        service.describe("psu3")


def test_each_device_has_a_lane_of_its_own_that_is_as_long_as_the_limits_say() -> None:
    supply, other = Supply(), Supply()
    GatewayService({"psu1": supply, "psu2": other}, Limits(pending_calls=2))
    lane = supply.gateway_lane
    assert lane is not other.gateway_lane
    assert [lane.enter(task) for task in "abc"] == [True, False, False]
    with pytest.raises(Busy, match="psu1: 2 calls wait already"):
        lane.enter("d")


def test_over_the_wire_a_device_is_reached_by_either_way(root: Any) -> None:
    assert root.names() == ["psu1", "psu2", "bare"]
    assert root.psu1.identify() == root.device("psu1").identify() == "supply"
    assert root.psu1 == root.device("psu1")
    assert root.psu1 != root.psu2
    assert root.bare.x == 1
    assert {"names", "device", "describe", "lease", "observers", "psu1", "psu2", "bare"} < set(dir(root))


def test_over_the_wire_an_unknown_device_says_what_there_is(root: Any) -> None:
    with pytest.raises(NotFound, match="psu1, psu2, bare"):
        root.device("psu3")
    with pytest.raises(AccessDenied, match="'psu3' is not exposed"):
        root.psu3  # noqa: B018
    with pytest.raises(AccessDenied):
        root.psu1 = 5


def test_over_the_wire_descriptions_arrive_as_dicts(root: Any) -> None:
    assert root.describe()["psu2"]["driver"] == "Supply"
    assert [member["name"] for member in root.describe("psu2")["members"]] == ["calibrate", "identify", "voltage"]
