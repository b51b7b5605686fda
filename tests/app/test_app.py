"""The composition root: drivers are found, a config becomes a gateway, and every way out leaves the devices safe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import gateway as client
from devices import Device, DeviceOptions
from devices.multimeter import ScpiMultimeter
from gateway import app, config, drivers
from gateway.app import Gateway, Left
from gateway.errors import ConfigError, DeviceUnavailable
from gateway.server.registry import GatewayService
from gateway.service.exposure import exposed, exposure_table

LOCAL = {"listen": "tcp://127.0.0.1:0", "advertise": False}


class LampOptions(DeviceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    fault: str = ""
    """What goes wrong with it."""


class Lamp(Device):
    """A device without hardware, which can fail in every way that a driver can."""

    Options = LampOptions
    options: LampOptions
    lit: ClassVar[set[str]] = set()
    release: ClassVar[threading.Event] = threading.Event()
    entered: ClassVar[threading.Event] = threading.Event()

    def __init__(self, name: str, options: LampOptions) -> None:
        super().__init__(name, options)
        if options.fault == "init":
            raise ValueError("no such lamp")
        self.inside = 0
        self.most_inside = 0

    @exposed(access="read")
    def identify(self) -> str:
        return f"lamp {self.name}"

    @exposed
    def light(self) -> None:
        self.lit.add(self.name)

    @exposed
    def glow(self) -> None:
        """Stay in the device until `release`."""
        self._enter()
        self.entered.set()
        self.release.wait(5)
        self.inside -= 1

    @exposed
    def make_safe(self) -> None:
        self._enter()
        self.inside -= 1
        if self.options.fault == "make_safe":
            raise RuntimeError("the switch is stuck")
        if self.options.fault == "hang":
            self.release.wait(20)
        self.lit.discard(self.name)

    def _enter(self) -> None:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)

    def _connect(self) -> None:
        if self.options.fault == "open":
            raise DeviceUnavailable(f"{self.name} is not plugged in; plug it in")

    def _disconnect(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _dark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    Lamp.lit.clear()
    Lamp.release.clear()
    Lamp.entered.clear()
    # The file as an importable module: what a config's dotted name leads to.
    monkeypatch.setitem(sys.modules, "lamps", sys.modules[__name__])
    yield
    Lamp.release.set()


def lamps(**faults: str) -> Gateway:
    """A gateway with a lamp for each name, not started."""
    tables = {name: {"driver": "lamps:Lamp", "fault": fault} for name, fault in faults.items()}
    return app.build(config.from_tables(tables, origin="test", gateway=LOCAL))


# -- drivers ---------------------------------------------------------------------------------------------------------


def test_a_driver_is_found_by_entry_point_and_by_dotted_name() -> None:
    assert drivers.load_driver("scpi-multimeter") is ScpiMultimeter
    assert drivers.load_driver("devices.multimeter:ScpiMultimeter") is ScpiMultimeter
    assert drivers.load_driver("lamps:Lamp") is Lamp


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scpi-multimetr", "unknown driver 'scpi-multimetr'; did you mean 'scpi-multimeter'?"),
        ("zzz", "unknown driver 'zzz'; known: "),
        ("devices.multimetr:ScpiMultimeter", "can't be imported: No module named 'devices.multimetr'; install"),
        (
            "devices.multimeter:ScpiMultimetr",
            "has no 'ScpiMultimetr'; did you mean 'ScpiMultimeter'?",
        ),
        ("devices.multimeter:FUNCTIONS", "has no 'Options'; a driver is a subclass of devices.Device"),
        ("pathlib:Path", "has no 'Options'; a driver is a subclass of devices.Device"),
        ("os:system; rm", "is neither a driver's name nor package.module:Class"),
        (":", "is neither a driver's name nor package.module:Class"),
    ],
)
def test_what_is_no_driver_is_a_config_error(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        drivers.load_driver(name)
    assert message in str(raised.value)


def test_a_driver_whose_module_fails_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_driver_module.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="can't be imported: ZeroDivisionError: division by zero"):
        drivers.load_driver("broken_driver_module:Driver")


def test_a_wrong_driver_or_option_names_the_line_of_the_file() -> None:
    text = b"[devices.a]\ndriver = 'lamps:Lamp'\n[devices.b]\n"
    for line, message in (
        (b"driver = 'lamps:Lmp'", "x:4: [devices.b] driver 'lamps:Lmp': lamps has no 'Lmp'; did you mean 'Lamp'?"),
        (b"driver = 'lamps:Lamp'\nfualt = 'x'", "x:5: [devices.b] unknown key 'fualt'; did you mean 'fault'?"),
        (b"driver = 'lamps:Lamp'\nfault = 3", "x:5: [devices.b] 'fault' must be text in quotes, not the number 3"),
        (b"driver = 'lamps:Lamp'\nfault = 'init'", "x:4: [devices.b] lamps:Lamp: ValueError: no such lamp"),
    ):
        with pytest.raises(ConfigError) as raised:
            app.build(config.parse(text + line, file="x"))
        assert str(raised.value) == message


def test_no_device_can_have_a_name_of_the_root_service() -> None:
    assert set(exposure_table(GatewayService)) <= config.RESERVED_NAMES


def test_an_unknown_bench_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unknown bench 'dmo'; did you mean 'demo'?"), app.run_bench("dmo"):
        pass


# -- a running gateway -----------------------------------------------------------------------------------------------


def test_a_device_that_can_not_be_opened_is_reported_and_the_others_are_served() -> None:
    with lamps(good="", bad="open") as running, client.connect(running.url) as conn:
        good, bad = running.devices
        assert (good.state, good.identity, good.problem) == ("open", "lamp good", "")
        assert (bad.state, bad.identity, bad.problem) == ("faulty", "", "bad is not plugged in; plug it in")
        assert conn.root.good.identify() == "lamp good"
        assert conn.root.names() == ["good", "bad"]
    assert (good.left, bad.left) == (Left.SAFE, Left.UNREACHED)


def test_closing_makes_every_device_safe_whatever_the_others_do() -> None:
    running = lamps(one="", stuck="make_safe", two="")
    with running, client.connect(running.url) as conn:
        for name in ("one", "two"):
            getattr(conn.root, name).light()
        assert Lamp.lit == {"one", "two"}
    assert Lamp.lit == set()
    assert [device.left for device in running.devices] == [Left.SAFE, Left.UNSAFE, Left.SAFE]
    running.close()


def test_a_driver_that_hangs_does_not_keep_the_gateway_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "CLOSE_S", 0.2)
    running = lamps(one="", hung="hang")
    begin = time.monotonic()
    with running:
        pass
    assert time.monotonic() - begin < 3
    assert [device.left for device in running.devices] == [Left.SAFE, Left.UNSAFE]


def test_a_device_is_made_safe_after_the_call_that_runs_and_not_during_it() -> None:
    running = lamps(lamp="")
    lamp: Any = running.devices[0].instrument
    with running, client.connect(running.url) as conn:
        client.async_(conn.root.lamp.glow)()
        assert Lamp.entered.wait(5)
        threading.Timer(0.3, Lamp.release.set).start()
    assert lamp.most_inside == 1
    assert running.devices[0].left is Left.SAFE


def test_a_call_that_does_not_end_does_not_keep_the_device_from_being_made_safe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "LAST_CALL_S", 0.1)
    running = lamps(lamp="")
    with running, client.connect(running.url) as conn:
        conn.root.lamp.light()
        client.async_(conn.root.lamp.glow)()
        assert Lamp.entered.wait(5)
    assert Lamp.lit == set()


def test_what_the_config_says_is_what_is_served() -> None:
    text = b"[gateway]\nlisten = 'tcp://127.0.0.1:0'\nadvertise = false\n[limits]\nconnections = 1\n"
    running = app.build(config.parse(text + b"[devices.lamp]\ndriver = 'lamps:Lamp'\n", file="x"))
    with running:
        assert running.local_only
        assert not running.advertises
        assert running.advert_status == "not advertised: switched off in the config"
        with client.connect(running.url) as first:
            assert first.root.names() == ["lamp"]
            with pytest.raises(EOFError), client.connect(running.url) as second:
                second.root.names()


def test_the_device_profile_holds_whatever_a_client_asks() -> None:
    with lamps(lamp="") as running, client.connect(running.url, config={"allow_all_attrs": True}) as conn:
        for name in ("options", "_connect", "__class__", "__init__", "gateway_lane"):
            with pytest.raises(AttributeError):
                conn.root.lamp.____conn__.get_attribute(conn.root.lamp, name)


def test_a_place_that_is_taken_is_an_error_before_any_device_is_touched() -> None:
    with lamps(first="") as running:
        section = {"listen": running.url, "advertise": False}
        tables = {"second": {"driver": "lamps:Lamp"}}
        second = app.build(config.from_tables(tables, origin="bench.toml", gateway=section))
        with pytest.raises(ConfigError, match=r"^bench\.toml: \[gateway\] can't listen at .*another program"), second:
            pass
        assert second.devices[0].left is Left.RUNNING
        assert second.devices[0].state == "closed"


def test_a_socket_in_the_file_system_is_served_and_not_advertised(tmp_path: Path) -> None:
    section = {"listen": f"unix://{tmp_path}/gateway"}
    running = app.build(config.from_tables({"lamp": {"driver": "lamps:Lamp"}}, origin="test", gateway=section))
    with running:
        assert running.advert_status == "not advertised: a unix URL can't be; clients need the URL"
        with client.connect(running.url) as conn:
            assert conn.root.lamp.identify() == "lamp lamp"


def test_one_peer_can_be_served_over_a_channel() -> None:
    from gateway.channels import memory_pair
    from gateway.limits import Limits

    ours, theirs = memory_pair(Limits())
    running = lamps(lamp="")
    running.open_devices()
    served = running.serve_channel(ours)
    with client.connect_channel(theirs) as conn:
        conn.root.lamp.light()
        assert Lamp.lit == {"lamp"}
    running.close()
    assert served.closed
    assert Lamp.lit == set()


@pytest.mark.multicast
def test_a_gateway_is_advertised_while_it_runs_and_found_by_name() -> None:
    name = f"app-{time.monotonic_ns():x}"
    section = {"listen": "tcp://127.0.0.1:0", "name": name}
    running = app.build(config.from_tables({"lamp": {"driver": "lamps:Lamp"}}, origin="test", gateway=section))
    with running:
        assert running.wait_advertised(10)
        assert running.advert_status == f"advertised as {name!r} on 127.0.0.1, port {running.url.rpartition(':')[2]}"
        with client.connect(name) as conn:
            assert conn.root.names() == ["lamp"]
    assert not running.advertised
