r"""Asking an instrument who it is, `*IDN?`, where that is safe; and finding out where it is not.

    -> \n*IDN?\n                      the empty message ends what somebody left half said
    <- KEITHLEY,2000,1234567,A01\n    four fields (IEEE 488.2, 10.14)

A port is not asked when another program has it open or has locked it, when the kernel's console is on it, or when this
user may not open it. Every question is bounded in time and in bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import socket
import struct
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from gateway.channels.ports import Port, PortSettings, open_tty
from gateway.errors import GatewayError
from gateway.hardware.facts import Hardware
from gateway.hardware.matching import BAUDRATES

QUESTION: Final = b"\n*IDN?\n"
LIMIT_S: Final = 5.0
"""How long one port is asked, at all speeds together; each speed has its part of it."""
MAX_ANSWER: Final = 1024
MAX_IDENTITY: Final = 200
LOCKS: Final = ("var/lock", "run/lock")
"""Where programs that lock ports the old way put `LCK..ttyUSB0`, with their process's number in it."""

_USBTMC_SET_TIMEOUT: Final = 0x40045B0A
"""USBTMC_IOCTL_SET_TIMEOUT of <linux/usb/tmc.h>: _IOW(91, 10, __u32), in ms."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered, and at which speed, if it has one."""

    identity: str
    baudrate: int | None = None


def identity_in(data: bytes) -> str | None:
    """The identity in what an instrument sent: its last whole line with four fields in printable ASCII, or None.

    Noise of a wrong speed is none.
    """
    lines = re.split(rb"[\r\n]+", data)
    # What follows the last line's end is not whole.
    for line in reversed(lines[:-1]):
        text = line.strip(b" \0")
        if 8 <= len(text) <= MAX_IDENTITY and text.count(b",") >= 3 and text.isascii():
            identity = text.decode("ascii")
            if identity.isprintable() and re.match(r"[A-Za-z0-9]", identity):
                return identity
    return None


# -- where it is safe -------------------------------------------------------------------------------------------------


def reason_not_to_ask(hardware: Hardware, root: str | os.PathLike[str] = "/") -> str:
    """Why `*IDN?` must not be sent there, in a few words; empty if it may."""
    base = Path(root)
    if hardware.kind == "usb":
        return "it has no port that could be asked"
    users = holders(hardware.port, base)
    if users:
        return f"in use by {' and '.join(users[:3])}"
    locked = _lock(hardware.port, base)
    if locked:
        return locked
    if os.path.basename(hardware.port) in _consoles(base):
        return "the kernel's console is on it"
    if not os.access(hardware.port, os.R_OK | os.W_OK):
        return "this user may not open it (gateway ports says how to change that)"
    return ""


def holders(port: str, root: Path = Path("/")) -> list[str]:
    """`name (pid)` of each other process that has `port` open, as far as this user can see.

    Who has made a pseudo terminal is its other end and keeps it open; that is no holder.
    """
    found: list[str] = []
    try:
        wanted = _device(os.stat(port))
        processes = [each for each in os.listdir(root / "proc") if each.isdigit() and int(each) != os.getpid()]
    except OSError:
        return found
    is_pty = os.path.realpath(port).startswith("/dev/pts/")
    for process in processes:
        folder = root / "proc" / process
        opened = _opened(folder / "fd")
        if wanted in opened and not (is_pty and any(rdev == _PTMX for _, _, rdev in opened)):
            found.append(f"{_name(folder)} ({process})")
    return found


_PTMX: Final = os.makedev(5, 2)
"""/dev/ptmx, which is what the maker of a pseudo terminal has open."""


def _device(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_rdev


def _opened(folder: Path) -> set[tuple[int, int, int]]:
    """What a process has open; empty where this user can't see that."""
    opened: set[tuple[int, int, int]] = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):
            with contextlib.suppress(OSError):
                opened.add(_device(os.stat(folder / descriptor)))
    return opened


def _name(folder: Path) -> str:
    try:
        text = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"
    return "".join(char for char in text if char.isprintable()) or "a program"


def _lock(port: str, root: Path) -> str:
    for folder in LOCKS:
        lock = root / folder / f"LCK..{os.path.basename(port)}"
        try:
            words = lock.read_text(encoding="ascii", errors="replace")[:64].split()
        except OSError:
            continue
        pid = words[0] if words and words[0].isdigit() else ""
        if pid and not (root / "proc" / pid).exists():
            continue  # left by a program that is gone
        return f"locked by {_name(root / 'proc' / pid)} ({lock})" if pid else f"locked ({lock})"
    return ""


def _consoles(root: Path) -> list[str]:
    try:
        return (root / "sys/class/tty/console/active").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


# -- asking -----------------------------------------------------------------------------------------------------------


def ask(
    hardware: Hardware,
    baudrates: Iterable[int] = BAUDRATES,
    *,
    limit_s: float = LIMIT_S,
    root: str | os.PathLike[str] = "/",
) -> Answer | str:
    """Ask one port who is there; the answer, or why there is none. Never raises; takes little more than `limit_s`."""
    reason = reason_not_to_ask(hardware, root)
    if reason:
        return reason
    try:
        if hardware.kind == "usbtmc":
            identity = _ask_usbtmc(hardware.port, limit_s)
            return Answer(identity) if identity else "no answer to *IDN?"
        return _ask_serial(hardware.port, list(baudrates), limit_s) or "no answer to *IDN?"
    except GatewayError as problem:
        return str(problem).removeprefix(f"{hardware.port}: ")
    except (OSError, termios.error) as problem:
        return f"it can't be asked: {problem}"


def ask_socket(host: str, port: int, *, limit_s: float = 2.0) -> Answer | str:
    """Ask a raw SCPI socket who is there; the answer, or why there is none. Never raises."""
    deadline = monotonic() + limit_s
    try:
        with socket.create_connection((host, port), timeout=limit_s) as sock:
            sock.sendall(QUESTION.lstrip(b"\n"))
            data = b""
            while len(data) < MAX_ANSWER:
                sock.settimeout(max(deadline - monotonic(), 0.001))
                more = sock.recv(MAX_ANSWER)
                data += more
                identity = identity_in(data)
                if identity or not more:
                    return Answer(identity) if identity else "no answer to *IDN?"
    except TimeoutError:
        return "no answer to *IDN?"
    except OSError as problem:
        return f"no connection: {problem.strerror or problem}"
    return "it answers *IDN? with something else"


def _ask_serial(path: str, baudrates: list[int], limit_s: float) -> Answer | None:
    deadline = monotonic() + limit_s
    answer_s = limit_s / max(len(baudrates), 1)
    settings = PortSettings(
        baudrate=baudrates[0] if baudrates else BAUDRATES[0],
        parity="none",
        stopbits=1,
        rtscts=False,
        xonxoff=False,
        dtr=True,
        rts=True,
        dtr_at_close=False,
        rts_at_close=False,
    )
    # Exclusively: a program that opens it while it is asked gets an error instead of the answer.
    port = open_tty(path, settings, path)
    try:
        for baudrate in baudrates:
            if monotonic() >= deadline:
                break
            if _set_speed(port.fileno(), baudrate):
                identity = _exchange(port, min(monotonic() + answer_s, deadline))
                if identity:
                    return Answer(identity, baudrate)
    finally:
        port.close()
    return None


def _set_speed(descriptor: int, baudrate: int) -> bool:
    """Whether the port could be set to it, without being opened anew, which would wave its lines each time."""
    speed = getattr(termios, f"B{baudrate}", None)
    if speed is None:
        return False
    attributes = termios.tcgetattr(descriptor)
    attributes[4] = attributes[5] = speed
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    return True


def _exchange(port: Port, deadline: float) -> str | None:
    port.discard_input()
    poller = select.poll()
    poller.register(port.fileno(), select.POLLIN)
    with contextlib.suppress(BlockingIOError):
        os.write(port.fileno(), QUESTION)
    data = b""
    while len(data) < MAX_ANSWER and (left := deadline - monotonic()) > 0 and poller.poll(left * 1000):
        try:
            more = os.read(port.fileno(), MAX_ANSWER)
        except BlockingIOError:
            continue
        if not more:
            return None
        data += more
        if identity := identity_in(data):
            return identity
    return None


def _ask_usbtmc(path: str, limit_s: float) -> str | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _USBTMC_SET_TIMEOUT, struct.pack("I", int(limit_s * 1000)))
        os.write(descriptor, QUESTION.strip(b"\n") + b"\n")
        return identity_in(os.read(descriptor, MAX_ANSWER) + b"\n")
    finally:
        os.close(descriptor)
