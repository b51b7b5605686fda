"""What is there, who it is, and that nothing is asked without leave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devices.simulators.line import Simulator
from devices.simulators.multimeter import IDENTITY, SimulatedMultimeter
from gateway.adopt import ask_all, may_be_asked, on_network, plugged_in, recognised
from gateway.config import Match
from gateway.discovery import FoundInstrument
from gateway.hardware import Entry
from hil.faults import End
from hil.pty_wire import PtyWire
from tests.hardware.machine import Machine


@pytest.fixture
def meter() -> Iterator[str]:
    with Simulator(SimulatedMultimeter()) as simulator:
        yield simulator.path


def entry(**match: object) -> Entry:
    return Entry(name="dmm1", match=Match(**match))  # type: ignore[arg-type]


def test_what_is_plugged_in_is_listed_with_the_name_it_has_or_why_it_is_not_asked(
    machine: Machine,
) -> None:
    machine.tty("ttyUSB0", "1-1", serial="A")
    machine.tty("ttyUSB1", "1-2", serial="B")
    machine.usb("1-3", "0483:df11", product="Bootloader")
    seen = plugged_in([entry(serial_number="A")], root=machine.root)
    assert [(each.transport, each.device, each.note) for each in seen] == [
        ("usb", "", "acme Bootloader: it has no port that could be asked"),
        ("serial", "dmm1", "in the config already"),
        ("serial", "", ""),
    ]
    assert [may_be_asked(each) for each in seen] == [False, False, True]


def test_only_what_is_allowed_is_asked(machine: Machine, meter: str) -> None:
    with PtyWire() as wire:
        heard = wire.record()
        machine.tty("ttyUSB0", "1-1", node=meter)
        machine.tty("ttyUSB1", "1-2", node=wire.port(End.A))
        asked = ask_all(
            plugged_in([], root=machine.root),
            lambda each: "ttyUSB0" in each.where,
            baudrates=[9600],
            limit_s=30.0,
            root=machine.root,
        )
        assert [(each.identity, each.baudrate, each.note) for each in asked] == [
            (IDENTITY, 9600, ""),
            ("", None, "not asked"),
        ]
        assert heard == []


def test_what_an_idn_pattern_of_the_config_means_has_its_name(machine: Machine, meter: str) -> None:
    machine.tty("ttyUSB0", "1-1", node=meter)
    asked = ask_all(
        plugged_in([], root=machine.root), lambda _: True, baudrates=[9600], limit_s=30.0, root=machine.root
    )
    (known,) = recognised(asked, [entry(idn="*multimeter*", probe=True)])
    assert (known.device, known.note) == ("dmm1", "in the config already")
    assert recognised(asked, [entry(idn="*scope*", probe=True)]) == asked


def test_ports_that_are_named_are_looked_at_and_no_others(machine: Machine, meter: str) -> None:
    machine.tty("ttyUSB0", "1-1")
    seen = plugged_in([], [meter, "/nowhere"], root=machine.root)
    assert [each.where for each in seen] == [meter]


def test_instruments_on_the_network_are_listed_with_their_url() -> None:
    found = [
        FoundInstrument(name="scope", address="10.0.0.5", port=5025, identity="ACME,Scope,1,1.0"),
        FoundInstrument(name="web", address="fe80::1%2", port=None),
        FoundInstrument(name="dmm", address="fe80::2%2", port=5025),
    ]
    seen = on_network(found, {"socket://10.0.0.5:5025"})
    assert [(each.where, each.transport, each.url) for each in seen] == [
        ("10.0.0.5:5025", "socket", "socket://10.0.0.5:5025"),
        ("[fe80::1%2]", "web", ""),
        ("[fe80::2%2]:5025", "socket", "socket://[fe80::2%2]:5025"),
    ]
    assert (seen[0].device, seen[0].note) == ("socket://10.0.0.5:5025", "in the config already")
    assert [may_be_asked(each) for each in seen] == [False, False, True]
