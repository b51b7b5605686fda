"""What has changed between two looks, and that it is noticed: by polling, and by the kernel's own events."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.hardware import Hardware, Sight, Watcher, find_hardware
from gateway.hardware.watcher import KernelEvents, compare
from tests.hardware.machine import Machine
from tests.leftovers import Before

PATIENCE_S = 20.0
A = Hardware(port="/dev/ttyUSB0", vid_pid="0403:6001", incarnation=(1,))
B = Hardware(port="/dev/ttyUSB1")


def test_what_appeared_and_what_is_gone_is_told_by_port() -> None:
    assert compare([A], [B]) == Sight((B,), (B,), (A,))
    assert compare([A, B], [A, B]) == Sight((A, B), (), ())


def test_another_thing_under_the_same_name_is_both() -> None:
    again = Hardware(port=A.port, vid_pid=A.vid_pid, incarnation=(2,))
    other = Hardware(port=A.port, vid_pid="1a86:7523", incarnation=(1,))
    for now in (again, other):
        sight = compare([A], [now])
        assert (sight.appeared, sight.gone, sight.interrupted) == ((now,), (A,), {A.port})


def test_what_the_kernel_removed_in_between_is_both() -> None:
    assert compare([A, B], [A, B], frozenset({A.port})) == Sight((A, B), (A,), (A,))


def test_a_link_that_udev_makes_a_moment_later_is_no_change() -> None:
    named = Hardware(port=A.port, vid_pid=A.vid_pid, incarnation=(1,), names=("/dev/serial/by-id/x",))
    sight = compare([A], [named])
    assert (sight.appeared, sight.gone, sight.present) == ((), (), (named,))


@contextmanager
def watching(machine: Machine, **settings: float) -> Iterator[tuple[Watcher, queue.SimpleQueue[Sight]]]:
    seen: queue.SimpleQueue[Sight] = queue.SimpleQueue()
    with Watcher(lambda: find_hardware(machine.root), seen.put, **settings) as watcher:  # type: ignore[arg-type]
        yield watcher, seen


def test_polling_notices_what_comes_and_goes(machine: Machine) -> None:
    with watching(machine, poll_s=0.02) as (_, seen):
        port = machine.tty("ttyUSB0", serial="A")
        sight = seen.get(timeout=PATIENCE_S)
        while not sight.present or not sight.present[0].serial_number:  # its files are not made at one stroke
            sight = seen.get(timeout=PATIENCE_S)
        assert [each.port for each in sight.present] == [port]
        machine.unplug("ttyUSB0")
        while sight.present:
            sight = seen.get(timeout=PATIENCE_S)
        assert [each.port for each in sight.gone] == [port]


def test_a_kick_is_answered_though_nothing_changed(machine: Machine) -> None:
    port = machine.tty("ttyUSB0")
    with watching(machine, poll_s=3600.0) as (watcher, seen):
        watcher.kick()
        sight = seen.get(timeout=PATIENCE_S)
    assert ([each.port for each in sight.present], sight.appeared, sight.gone) == ([port], (), ())


def test_a_look_that_fails_does_not_end_the_watch(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    seen: queue.SimpleQueue[Sight] = queue.SimpleQueue()
    failed = threading.Event()
    looks = 0

    def look() -> list[Hardware]:
        nonlocal looks
        looks += 1
        if looks == 2:
            failed.set()
            raise OSError("not now")
        return []

    with Watcher(look, seen.put, poll_s=3600.0) as watcher:
        watcher.kick()
        assert failed.wait(PATIENCE_S)
        watcher.kick()
        assert seen.get(timeout=PATIENCE_S).present == ()
    assert "looking for hardware went wrong" in caplog.text


def test_stopping_leaves_no_descriptor_and_may_be_repeated(machine: Machine) -> None:
    before = Before()
    watcher = Watcher(lambda: find_hardware(machine.root), lambda _: None)
    watcher.stop()
    with watching(machine) as (started, _):
        pass
    started.stop()
    started.kick()
    assert before.added() == []


# -- the kernel's own events ------------------------------------------------------------------------------------------

TRIGGER = Path("/sys/class/tty")


def speakers() -> list[Path]:
    return sorted(path for path in TRIGGER.glob("*/uevent") if os.access(path, os.W_OK))


@pytest.fixture
def kernel() -> Iterator[KernelEvents]:
    """The kernel's events, where this test can make it send some."""
    if os.geteuid() != 0 or not speakers():
        pytest.skip("only root can make the kernel send an event (/sys/class/tty/*/uevent)")
    events = KernelEvents()
    try:
        speak("change")
        if not heard(events):
            pytest.skip("the kernel's events don't reach this namespace")
        yield events
    finally:
        events.close()


def speak(action: str) -> str:
    """Make the kernel send an event about the first tty; its name."""
    path = speakers()[0]
    path.write_text(action, encoding="ascii")
    return path.parent.name


def heard(events: KernelEvents) -> bool:
    import select

    ready, _, _ = select.select([events], [], [], 5.0)
    return any(event is not None and event.about_ports for event in events.read()) if ready else False


def test_an_event_of_the_kernel_leads_to_a_look(kernel: KernelEvents, machine: Machine) -> None:
    with watching(machine, source=kernel, poll_s=3600.0, settle_s=0.05) as (_, seen):  # type: ignore[arg-type]
        port = machine.tty("ttyUSB0")
        assert seen.empty()
        speak("add")
        assert [each.port for each in seen.get(timeout=PATIENCE_S).appeared] == [port]


def test_a_removal_by_the_kernel_counts_though_the_port_is_back(kernel: KernelEvents, machine: Machine) -> None:
    name = speakers()[0].parent.name
    port = machine.tty(name)
    with watching(machine, source=kernel, poll_s=3600.0, settle_s=0.05) as (_, seen):  # type: ignore[arg-type]
        speak("remove")
        sight = seen.get(timeout=PATIENCE_S)
    assert ([each.port for each in sight.gone], sight.interrupted) == ([port], {port})


def test_what_a_program_says_instead_of_the_kernel_is_not_heard(kernel: KernelEvents) -> None:
    import socket

    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as liar:
        liar.bind((0, 0))
        try:
            liar.sendto(b"remove@/x\0SUBSYSTEM=tty\0DEVNAME=ttyLIE\0", (0, 1))
        except OSError as problem:
            pytest.skip(f"this kernel lets no program speak there: {problem}")
    speak("change")
    found = [event for event in kernel.read() if event is not None]
    while not any(event.action == "change" for event in found):
        found += [event for event in kernel.read() if event is not None]
    assert not any(event.devname == "ttyLIE" for event in found)
