"""The kernel's events, and when to look after them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hardware.uevent import MAX_EVENT, Settling, Uevent, parse_uevent

REAL = (
    b"add@/devices/pci0000:00/usb1/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0\0ACTION=add\0"
    b"DEVPATH=/devices/pci0000:00/usb1/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0\0SUBSYSTEM=tty\0MAJOR=188\0MINOR=0\0"
    b"DEVNAME=ttyUSB0\0SEQNUM=930\0"
)


def test_an_event_of_the_kernel_is_read() -> None:
    event = parse_uevent(REAL)
    assert event == Uevent("add", "tty", "ttyUSB0")
    assert event.about_ports


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"libudev\0\xfe\xed\xca\xfe", b"add", b"a d@/x\0", b"@/x\0", REAL + b"x" * MAX_EVENT],
)
def test_what_is_no_event_is_none(data: bytes) -> None:
    assert parse_uevent(data) is None


def test_events_of_other_subsystems_are_not_about_ports() -> None:
    event = parse_uevent(b"add@/x\0SUBSYSTEM=net\0INTERFACE=lo\0")
    assert event == Uevent("add", "net", "")
    assert not event.about_ports


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_make_it_fail(data: bytes, more: bytes) -> None:
    parse_uevent(data)
    parse_uevent(b"add@" + data + b"\0" + more)


def test_a_burst_is_looked_at_once_when_it_is_over() -> None:
    settling = Settling(0.25, 1.5)
    assert settling.due is None
    for now in (0.0, 0.1, 0.2):
        settling.note(now)
        assert not settling.take(now)
    assert settling.due == pytest.approx(0.45)
    assert settling.take(0.45)
    assert settling.due is None


def test_a_burst_without_end_is_looked_at_all_the_same() -> None:
    settling = Settling(0.25, 1.5)
    for step in range(30):
        settling.note(step / 10)
        if settling.take(step / 10):
            break
    assert step / 10 == pytest.approx(1.5)


def test_a_removal_is_looked_at_at_once_and_once_more_when_it_has_settled() -> None:
    settling = Settling(0.25, 1.5)
    settling.note(1.0)
    settling.note(1.1, at_once=True)
    settling.note(1.1)
    assert settling.take(1.1)
    assert not settling.take(1.2)
    assert settling.take(1.35)
    assert settling.due is None
