"""sd_notify against real datagram sockets, by path and in the abstract namespace."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.systemd import Notifier
from gateway.systemd.notify import MAX_STATUS

PATIENCE_S = 10.0


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket as the service manager has it, and the value of $NOTIFY_SOCKET that leads to it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@igw-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + name[1:] if name[0] == "@" else name)
        made.settimeout(PATIENCE_S)
        yield made, name


def test_each_message_is_one_datagram_of_assignments(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    notifier = Notifier(name)
    assert notifier.ready("serving 3 devices")
    assert heard.recv(4096) == b"READY=1\nSTATUS=serving 3 devices"
    assert notifier.watchdog()
    assert heard.recv(4096) == b"WATCHDOG=1"
    assert notifier.status("psu1 is missing")
    assert heard.recv(4096) == b"STATUS=psu1 is missing"
    assert notifier.reloading(now=12.000345)
    assert heard.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=12000345"
    assert notifier.stopping()
    assert heard.recv(4096) == b"STOPPING=1"


def test_a_status_cannot_smuggle_in_another_assignment(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    Notifier(name).status("psu1\nMAINPID=1\n" + "x" * 5000)
    said = heard.recv(16384)
    assert said.startswith(b"STATUS=psu1 MAINPID=1 xxx")
    assert b"\n" not in said
    assert len(said) <= MAX_STATUS + len("STATUS=")


def test_without_a_manager_nothing_is_said_and_nothing_fails() -> None:
    notifier = Notifier.from_environment({})
    assert not notifier.is_heard
    assert not notifier.ready()
    assert notifier.watchdog_s is None


@pytest.mark.parametrize("address", ["", "relative", "@", "vsock:2:1"])
def test_an_address_of_another_kind_is_nobody(address: str) -> None:
    assert not Notifier(address).is_heard


def test_a_manager_that_went_away_is_no_error(tmp_path: Path) -> None:
    assert not Notifier(str(tmp_path / "gone")).ready()


def test_a_manager_that_does_not_read_blocks_nobody(manager: tuple[socket.socket, str]) -> None:
    _, name = manager
    notifier = Notifier(name)
    assert not all(notifier.watchdog() for _ in range(10_000))


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "42"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_meant_for_the_process_that_it_names(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier.from_environment(environ, pid=42).watchdog_s == seconds


def test_what_was_taken_is_not_inherited(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = Notifier.take(environ)
    assert environ == {"HOME": "/"}
    assert notifier.watchdog_s == 1.0
    assert notifier.ready()
    assert heard.recv(64) == b"READY=1"
