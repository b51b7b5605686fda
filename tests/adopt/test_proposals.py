"""What the config could say about what is there."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.multimeter import ScpiMultimeter
from devices.power_supply import ScpiPowerSupply
from devices.simulators import multimeter, power_supply
from gateway import config
from gateway.adopt import KnownDriver, Seen, propose
from gateway.adopt.proposals import best_driver
from gateway.config import Match
from gateway.hardware import Entry, Hardware

DMM = KnownDriver("scpi-multimeter", ("*multimeter*",), "dmm", baudrate=9600)
PSU = KnownDriver("scpi-power-supply", ("*power supply*",), "psu", baudrate=9600)
DRIVERS = [DMM, PSU]
METER = "ACME,Multimeter 7,1,1.0"


def usb(number: int, **facts: Any) -> Hardware:
    return Hardware(**{"port": f"/dev/ttyUSB{number}", "vid_pid": "0403:6001", "location": f"1-{number + 1}"} | facts)


def seen(hardware: Hardware, identity: str = METER, **facts: Any) -> Seen:
    return Seen(**{"where": str(hardware), "transport": "serial", "hardware": hardware, "identity": identity} | facts)


def tables(*things: Seen, entries: list[Entry] | None = None, taken: set[str] | None = None) -> dict[str, Any]:
    proposals = propose(things, DRIVERS, entries or [], taken or set())
    for each in proposals:
        (section,) = config.parse(each.text.encode(), file="x").devices
        assert (section.name, section.driver) == (each.name, each.driver)
    return {each.name: dict(each.table) for each in proposals}


def test_a_serial_number_is_what_a_device_is_known_by() -> None:
    assert tables(seen(usb(0, serial_number="A")), seen(usb(1, serial_number="B"))) == {
        "dmm1": {"driver": "scpi-multimeter", "match": {"serial_number": "A", "vid_pid": "0403:6001"}},
        "dmm2": {"driver": "scpi-multimeter", "match": {"serial_number": "B", "vid_pid": "0403:6001"}},
    }


@pytest.mark.parametrize("serial", [None, "0001"])
def test_adapters_without_a_number_of_their_own_are_known_by_their_place(serial: str | None) -> None:
    made = tables(seen(usb(0, serial_number=serial)), seen(usb(1, serial_number=serial)))
    assert [table["match"] for table in made.values()] == [
        {"path": "1-1", "vid_pid": "0403:6001"},
        {"path": "1-2", "vid_pid": "0403:6001"},
    ]


def test_the_ports_of_one_adapter_are_told_apart_by_their_interface() -> None:
    ports = [usb(number, location="1-1", serial_number="A", interface=number) for number in (0, 1)]
    assert [table["match"] for table in tables(*map(seen, ports)).values()] == [
        {"serial_number": "A", "vid_pid": "0403:6001", "interface": number} for number in (0, 1)
    ]


def test_a_port_of_the_board_is_known_by_its_name() -> None:
    assert tables(seen(Hardware(port="/dev/ttyAMA0"))) == {
        "dmm1": {"driver": "scpi-multimeter", "port": "/dev/ttyAMA0"}
    }


def test_a_match_that_an_entry_of_the_config_has_too_is_not_proposed() -> None:
    wide = Entry(name="old", match=Match(serial_number="A", interface=0))
    (table,) = tables(seen(usb(0, serial_number="A", interface=0)), entries=[wide]).values()
    assert table["port"] == "/dev/ttyUSB0"


def test_the_speed_is_written_where_it_is_not_the_drivers_own() -> None:
    slow, fast = seen(usb(0, serial_number="A"), baudrate=9600), seen(usb(1, serial_number="B"), baudrate=115_200)
    assert ["baudrate" in table for table in tables(slow, fast).values()] == [False, True]


def test_names_that_are_taken_are_left_out() -> None:
    made = tables(seen(usb(0)), seen(usb(1), "ACME,Power Supply 3,1,1.0"), taken={"dmm1", "dmm2"})
    assert list(made) == ["dmm3", "psu1"]


def test_what_the_config_has_or_no_driver_is_for_is_not_proposed() -> None:
    assert tables(seen(usb(0), device="dmm1"), seen(usb(1), "ACME,Scope,1,1.0"), seen(usb(2), "")) == {}


def test_the_pattern_that_says_most_decides() -> None:
    special = KnownDriver("acme-7", ("ACME,Multimeter 7,*",))
    assert best_driver(seen(usb(0)), [*DRIVERS, special]) is special
    assert best_driver(seen(usb(0), transport="usbtmc"), DRIVERS) is None


def test_a_device_whose_driver_has_no_word_for_it_is_called_after_its_model() -> None:
    def name(identity: str) -> str:
        (proposal,) = propose([seen(usb(0), identity)], [KnownDriver("any", ("*",))], [], set())
        return proposal.name

    assert name("KEITHLEY,MODEL 2000,1,A01") == "model_2000_1"
    assert name("KEITHLEY,2000,1,A01") == "device1"
    assert name(f"KEITHLEY,{'x' * 90},1,A01") == "x" * 35 + "1"
    assert name("ACME,Class,1,A01") == "class1"


def test_an_instrument_on_the_network_has_its_address_as_port() -> None:
    driver = KnownDriver("lan-meter", ("*multimeter*",), "dmm", ("socket",))
    thing = Seen(where="10.0.0.5:5025", transport="socket", url="socket://10.0.0.5:5025", identity=METER)
    (proposal,) = propose([thing], [driver], [], set())
    assert proposal.table == {"driver": "lan-meter", "port": "socket://10.0.0.5:5025"}
    assert proposal.found_by == "port socket://10.0.0.5:5025"


def test_the_drivers_say_what_they_are_for() -> None:
    known = [KnownDriver.of("dmm", ScpiMultimeter), KnownDriver.of("psu", ScpiPowerSupply)]
    for identity, name in ((multimeter.IDENTITY, "dmm"), (power_supply.IDENTITY, "psu")):
        found = best_driver(seen(usb(0), identity), known)
        assert found is not None
        assert (found.name, found.stem, found.transports, found.baudrate) == (name, name, ("serial",), 9600)
    assert KnownDriver.of("bare", object) == KnownDriver("bare")


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_an_instrument_says_the_file_is_toml(serial: str, model: str) -> None:
    identity = "".join(char for char in f"ACME,{model},1,1.0" if char.isprintable())
    serial = "".join(char for char in serial if char.isprintable())
    (proposal,) = propose([seen(usb(0, serial_number=serial), identity)], [KnownDriver("any", ("*",))], [], set())
    assert tomllib.loads(proposal.text)["devices"][proposal.name] == proposal.table
