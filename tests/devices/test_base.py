"""What every device does: open and close twice, fall faulty, come back, be safe when it is left by any door."""

from __future__ import annotations

import pytest

from devices.base import Device, DeviceOptions
from gateway.errors import DeviceError, DeviceUnavailable
from gateway.service.exposure import exposed, exposure_table


class Relay(Device):
    """A device whose hardware is a list of what happened to it."""

    def __init__(self, name: str, options: DeviceOptions) -> None:
        super().__init__(name, options)
        self.happened: list[str] = []
        self.missing = False
        self.stuck = False

    @exposed(access="read")
    def identify(self) -> str:
        """A relay."""
        return "relay"

    @exposed(access="control")
    def make_safe(self) -> None:
        """Contact open."""
        with self._reaching():
            self.happened.append("safe")
            if self.stuck:
                raise DeviceError("the contact is stuck", number=1, text="stuck")

    @exposed
    def switch(self) -> None:
        """Close the contact."""
        with self._reaching():
            if self.missing:
                raise DeviceUnavailable("no relay")
            self.happened.append("switch")

    def _connect(self) -> None:
        if self.missing:
            raise DeviceUnavailable("no relay")
        self.happened.append("connect")

    def _disconnect(self) -> None:
        self.happened.append("disconnect")


@pytest.fixture
def relay() -> Relay:
    return Relay("k1", DeviceOptions())


def test_a_device_opens_and_closes_once_however_often_it_is_told(relay: Relay) -> None:
    assert relay.state == "closed"
    relay.open()
    relay.open()
    assert relay.state == "open"
    assert relay.happened.count("connect") == 1
    relay.close()
    relay.close()
    assert relay.state == "closed"
    assert relay.happened.count("safe") == 1


def test_closing_goes_through_the_safe_state_first(relay: Relay) -> None:
    with relay:
        relay.happened.clear()
    assert relay.happened == ["safe", "disconnect"]


def test_a_device_that_does_not_go_safe_is_let_go_of_and_says_so(relay: Relay) -> None:
    relay.open()
    relay.stuck = True
    with pytest.raises(DeviceError, match="stuck"):
        relay.close()
    assert relay.state == "closed"
    assert relay.happened[-1] == "disconnect"


def test_a_closed_device_refuses_calls_and_names_itself(relay: Relay) -> None:
    with pytest.raises(DeviceUnavailable, match="k1 is closed") as caught:
        relay.switch()
    assert caught.value.device == "k1"


def test_a_device_that_is_missing_at_open_is_faulty(relay: Relay) -> None:
    relay.missing = True
    with pytest.raises(DeviceUnavailable):
        relay.open()
    assert relay.state == "faulty"


def test_a_lost_device_is_faulty_until_a_call_finds_it_again(relay: Relay) -> None:
    relay.open()
    relay.missing = True
    for _ in range(2):
        with pytest.raises(DeviceUnavailable):
            relay.switch()
        assert relay.state == "faulty"
    relay.missing = False
    relay.switch()
    assert relay.state == "open"


def test_a_device_that_never_could_be_opened_is_only_let_go_of(relay: Relay) -> None:
    relay.missing = True
    with pytest.raises(DeviceUnavailable):
        relay.open()
    relay.close()
    assert relay.state == "closed"
    assert "safe" not in relay.happened


def test_closing_a_lost_device_says_that_it_may_not_be_safe(relay: Relay) -> None:
    relay.open()
    relay.missing = True
    with pytest.raises(DeviceUnavailable):
        relay.switch()
    with pytest.raises(DeviceUnavailable):
        relay.close()
    assert relay.state == "closed"
    relay.close()


def test_closing_a_lost_device_that_is_back_makes_it_safe(relay: Relay) -> None:
    relay.open()
    relay.missing = True
    with pytest.raises(DeviceUnavailable):
        relay.switch()
    relay.missing = False
    relay.close()
    assert "safe" in relay.happened
    assert relay.state == "closed"


def test_the_name_and_the_state_are_shown(relay: Relay) -> None:
    assert repr(relay) == "<Relay 'k1' closed>"
    assert relay.name == "k1"


def test_state_crosses_the_wire_as_a_plain_string(relay: Relay) -> None:
    assert type(relay.state) is str


def test_a_driver_must_say_what_its_safe_state_is() -> None:
    class Careless(Device):
        @exposed(access="read")
        def identify(self) -> str:
            """Nobody."""
            return ""

        def _connect(self) -> None: ...

        def _disconnect(self) -> None: ...

    with pytest.raises(TypeError, match="make_safe"):
        Careless("x", DeviceOptions())  # type: ignore[abstract]


def test_an_override_that_would_leave_the_inherited_member_exposed_is_refused() -> None:
    with pytest.raises(TypeError, match=r"make_safe overrides an exposed member"):

        class Forgetful(Relay):
            def make_safe(self) -> None:
                """Not marked."""

    with pytest.raises(TypeError, match=r"state overrides an exposed member"):

        class Stateless(Relay):
            @property
            def state(self) -> str:
                return "fine"


def test_every_device_exposes_who_it_is_its_safe_state_and_its_state() -> None:
    table = exposure_table(Device)
    assert {name: (row.kind.value, row.access.value, row.settable) for name, row in table.items()} == {
        "identify": ("method", "read", False),
        "make_safe": ("method", "control", False),
        "state": ("property", "read", False),
        "transaction": ("method", "control", False),
    }
