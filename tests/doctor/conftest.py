"""Machines to examine: a folder as the root, with what a test puts there, and real processes where it wants them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.doctor import CHECKS, Finding, Subject, System, Verdict
from gateway.doctor.subject import Place
from gateway.systemd.accounts import User
from gateway.systemd.tools import Output

PERSON = User("pi", 1000, frozenset({1000}))
PASSWD = "root:x:0:0::/root:/bin/sh\npi:x:1000:1000::/home/pi:/bin/bash\n"
GROUP = "root:x:0:\ntty:x:5:\ndialout:x:20:\nplugdev:x:46:\npi:x:1000:\n"

HOLD = """
import os, sys, ctypes
name = sys.argv[1]
ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)    # PR_SET_NAME
if sys.argv[2]:
    descriptor = os.open(sys.argv[2], os.O_RDWR | os.O_NOCTTY)
print("holding", flush=True)
sys.stdin.read()
"""


@dataclass
class Machine:
    """A root under construction."""

    root: Path
    answers: dict[tuple[str, ...], Output] = field(default_factory=dict)
    """What the machine's tools say; a tool that is not here is not installed."""
    now: float = 1_800_000_000.0
    uid: int = 0
    subject: Subject = field(default_factory=lambda: Subject(PERSON))

    def write(self, absolute: str, text: str = "", mode: int = 0o644) -> Path:
        path = self.root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def link(self, absolute: str, target: str | Path) -> None:
        path = self.root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def with_real_processes(self) -> None:
        """/proc is this machine's own."""
        self.link("/proc", "/proc")

    def usb(
        self, name: str, vid: str, pid: str, *, kind: str = "ff00", driver: str = "", serial_number: str = ""
    ) -> None:
        """Plug in a USB device with one interface, as /sys shows it."""
        folder = f"/sys/bus/usb/devices/{name}"
        facts = {
            "idVendor": vid,
            "idProduct": pid,
            "busnum": "1",
            "devnum": "4",
            "serial": serial_number,
            "product": "Thing",
        }
        for key, value in facts.items():
            self.write(f"{folder}/{key}", f"{value}\n")
        inside = f"/sys/bus/usb/devices/{name}:1.0"
        self.write(f"{inside}/bInterfaceClass", f"{kind[:2]}\n")
        self.write(f"{inside}/bInterfaceSubClass", f"{kind[2:]}\n")
        if driver:
            self.write(f"/sys/bus/usb/drivers/{driver}/bind")
            self.link(f"{inside}/driver", f"../../drivers/{driver}")

    def tty(self, name: str, target: str, usb: str = "") -> None:
        """A serial port /dev/NAME, which is really `target`; `usb` is the device that it belongs to."""
        self.link(f"/dev/{name}", target)
        if usb:
            self.write(f"/sys/class/tty/{name}/dev", "188:0\n")
            self.link(f"/sys/class/tty/{name}/device", f"../../../bus/usb/devices/{usb}")

    def wants(self, *places: Place, **facts: Any) -> None:
        self.subject = replace(self.subject, places=places, **facts)

    def run(self, *words: str) -> Output | None:
        return self.answers.get(words)

    @property
    def system(self) -> System:
        return System(root=self.root, run=self.run, now=lambda: self.now, uid=self.uid, environ={})

    def check(self, name: str) -> list[Finding]:
        return list(CHECKS[name](self.system, self.subject))

    def one(self, name: str, verdict: Verdict) -> Finding:
        """The one finding of that verdict; there may be others."""
        found = self.check(name)
        wanted = [finding for finding in found if finding.verdict is verdict]
        assert len(wanted) == 1, found
        assert "\n" not in wanted[0].what
        assert wanted[0].fix or verdict is Verdict.OK, wanted[0]
        return wanted[0]

    def is_well(self, name: str) -> None:
        found = self.check(name)
        assert found
        assert {finding.verdict for finding in found} == {Verdict.OK}, found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "root")
    made.write("/etc/passwd", PASSWD)
    made.write("/etc/group", GROUP)
    return made


@pytest.fixture
def line() -> Iterator[str]:
    """The path of a real serial line that nobody has open; its group is tty."""
    leader, follower = pty.openpty()
    path = os.ttyname(follower)
    os.close(follower)
    yield path
    os.close(leader)


@pytest.fixture
def holder() -> Iterator[Callable[..., int]]:
    """Start a process of some name that has a device open: `holder("minicom", "/dev/pts/3")` gives its pid."""
    started: list[subprocess.Popen[str]] = []

    def hold(name: str, path: str = "", *, words: tuple[str, ...] = ()) -> int:
        process = subprocess.Popen(
            [words[0] if words else sys.executable, "-c", HOLD, name, path, *words[1:]],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        return process.pid

    yield hold
    for process in started:
        process.communicate()
