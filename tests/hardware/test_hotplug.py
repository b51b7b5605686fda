"""A gateway's devices come and go: real ports (ptys) under names that change, and a sysfs of files."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from devices.multimeter import MultimeterOptions, ScpiMultimeter
from devices.simulators.line import Simulator
from devices.simulators.multimeter import IDENTITY, SimulatedMultimeter
from devices.simulators.power_supply import SimulatedPowerSupply
from gateway.config import Match
from gateway.errors import DeviceUnavailable
from gateway.hardware import Entry, Event, HotPlug, Left, Plugged, PortLinks, Returned
from hil.faults import End
from hil.pty_wire import PtyWire
from tests.hardware.machine import Machine

PATIENCE_S = 30.0


class Plugs:
    """A HotPlug of the test and what it told."""

    def __init__(self, hotplug: HotPlug, events: queue.SimpleQueue[Event]) -> None:
        self.hotplug = hotplug
        self.events = events

    def next(self) -> Event:
        return self.events.get(timeout=PATIENCE_S)

    def state(self, name: str) -> Plugged:
        presence = self.hotplug.presence(name)
        assert presence is not None
        return presence.state


@pytest.fixture
def plugs(tmp_path: Path) -> Iterator[Callable[..., Plugs]]:
    with ExitStack() as started:

        def start(*entries: Entry, root: Path | str = "/") -> Plugs:
            events: queue.SimpleQueue[Event] = queue.SimpleQueue()
            hotplug = HotPlug(entries, events.put, links=PortLinks(tmp_path / "links"), poll_s=0.02, root=root)
            started.enter_context(hotplug)
            return Plugs(hotplug, events)

        yield start


def entry(name: str, *, may_ask: bool = False, **match: Any) -> Entry:
    return Entry(name=name, match=Match(**match), may_ask=may_ask, baudrates=(9600,))


def test_a_port_that_is_pulled_and_comes_back_under_another_name_is_told(plugs: Callable[..., Plugs]) -> None:
    with PtyWire() as wire:
        path = wire.by_id(End.A)
        running = plugs(entry("psu1", path=path))
        assert running.state("psu1") is Plugged.PRESENT
        assert running.hotplug.presence("dmm1") is None
        assert os.path.realpath(running.hotplug.port("psu1")) == os.path.realpath(path)
        wire.unplug(End.A)
        left = running.next()
        assert isinstance(left, Left)
        assert (left.name, running.state("psu1")) == ("psu1", Plugged.MISSING)
        assert not os.path.lexists(running.hotplug.port("psu1"))
        wire.replug(End.A, "ttyA7")
        returned = running.next()
        assert isinstance(returned, Returned)
        assert (returned.name, returned.at >= left.at) == ("psu1", True)
        assert os.path.realpath(running.hotplug.port("psu1")) == os.path.realpath(wire.port(End.A))


def test_a_driver_reaches_its_instrument_wherever_it_is_plugged_in(
    machine: Machine, plugs: Callable[..., Plugs]
) -> None:
    with Simulator(SimulatedMultimeter()) as meter, Simulator(SimulatedPowerSupply()) as supply:
        machine.tty("ttyUSB0", "1-1", serial="METER", node=meter.path, by_id="usb-METER")
        running = plugs(entry("dmm1", serial_number="METER"), root=machine.root)
        with ScpiMultimeter("dmm1", MultimeterOptions(port=running.hotplug.port("dmm1"))) as driver:
            assert driver.identify() == IDENTITY
            machine.unplug("ttyUSB0")
            assert isinstance(running.next(), Left)
            driver._disconnect()  # what a real port does by hanging up
            driver._state = type(driver._state).FAULTY
            machine.tty("ttyUSB0", "1-1", serial="SUPPLY", node=supply.path)
            with pytest.raises(DeviceUnavailable, match="there is no such port"):
                driver.identify()
            machine.tty("ttyUSB1", "1-2", serial="METER", node=meter.path, by_id="usb-METER")
            returned = running.next()
            while isinstance(returned, Left):  # the files of a port are not made at one stroke
                returned = running.next()
            assert returned.hardware.port.endswith("ttyUSB1")
            assert driver.identify() == IDENTITY


def test_a_second_one_that_fits_makes_it_ambiguous_and_pulling_it_solves_that(
    machine: Machine, plugs: Callable[..., Plugs]
) -> None:
    machine.tty("ttyUSB0", "1-1", "0403:6001", "A")
    running = plugs(entry("psu1", vid_pid="0403:6001"), root=machine.root)
    machine.tty("ttyUSB1", "1-2", "0403:6001", "B")
    left = running.next()
    assert isinstance(left, Left)
    assert "ttyUSB0" in left.reason
    assert "ttyUSB1" in left.reason
    presence = running.hotplug.presence("psu1")
    assert presence is not None
    assert presence.error().reason == left.reason
    machine.unplug("ttyUSB1")
    assert isinstance(running.next(), Returned)


def test_an_instrument_is_found_by_what_it_answers(machine: Machine, plugs: Callable[..., Plugs]) -> None:
    with Simulator(SimulatedMultimeter()) as meter, Simulator(SimulatedPowerSupply()) as supply:
        machine.tty("ttyUSB0", "1-1", node=supply.path)
        machine.tty("ttyUSB1", "1-2", node=meter.path)
        running = plugs(entry("dmm1", idn=f"{IDENTITY[:-4]}*", may_ask=True), root=machine.root)
        returned = running.next()
        assert isinstance(returned, Returned)
        assert returned.hardware.port.endswith("ttyUSB1")


def test_two_that_answer_alike_are_not_guessed_at_however_late_the_second_answers(
    machine: Machine, plugs: Callable[..., Plugs]
) -> None:
    with Simulator(SimulatedMultimeter()) as one, Simulator(SimulatedMultimeter()) as other:
        machine.tty("ttyUSB0", "1-1", node=one.path)
        machine.tty("ttyUSB1", "1-2", node=other.path)
        running = plugs(entry("dmm1", idn="*", may_ask=True), entry("psu1", path="1-3"), root=machine.root)
        machine.tty("ttyUSB2", "1-3")  # its return shows that the watcher has gone on
        event = running.next()
        assert (event.name, running.state("dmm1") is Plugged.PRESENT) == ("psu1", False)
        while running.state("dmm1") is not Plugged.AMBIGUOUS:
            running.hotplug.kick()
        assert running.events.empty()


def test_nothing_is_sent_to_a_port_that_another_entry_has(machine: Machine, plugs: Callable[..., Plugs]) -> None:
    with PtyWire() as wire:
        heard = wire.record()
        machine.tty("ttyUSB0", "1-1", serial="A", node=wire.port(End.A))
        running = plugs(entry("psu1", serial_number="A"), entry("dmm1", idn="*", may_ask=True), root=machine.root)
        assert running.hotplug.replace([entry("psu1", serial_number="A")]) == []
        assert running.state("psu1") is Plugged.PRESENT
        assert heard == []


def test_after_a_reload_other_entries_are_looked_for(machine: Machine, plugs: Callable[..., Plugs]) -> None:
    machine.tty("ttyUSB0", "1-1", serial="A")
    machine.tty("ttyUSB1", "1-2", serial="B")
    running = plugs(entry("psu1", serial_number="A"), entry("gone", serial_number="B"), root=machine.root)
    gone = running.hotplug.port("gone")
    assert os.path.lexists(gone)
    events = running.hotplug.replace([entry("psu1", serial_number="A"), entry("psu2", path="1-1")])
    assert [type(event) for event in events] == [Left]
    assert (running.state("psu1"), running.state("psu2")) == (Plugged.AMBIGUOUS, Plugged.AMBIGUOUS)
    assert not os.path.lexists(gone)
    assert running.hotplug.presence("gone") is None
    (returned,) = running.hotplug.replace([entry("psu1", serial_number="A")])
    assert isinstance(returned, Returned)
    assert os.readlink(running.hotplug.port("psu1")).endswith("ttyUSB0")
