"""Who has a file open: the processes of /proc."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.doctor.system import SUDO, System

MAX_DESCRIPTORS: Final = 200_000
"""So many are looked at, in total."""

_SYSTEM_SERVICE: Final = re.compile(r"/system\.slice/(?:.*/)?([^/\s]+\.service)$", re.MULTILINE)
_OWN_COMMANDS: Final = frozenset({"serve", "demo", "host", "stdio"})


@dataclass(frozen=True, slots=True)
class Process:
    """One process."""

    pid: int
    name: str
    command: tuple[str, ...]
    unit: str
    """The system's service that it belongs to, such as `ModemManager.service`; empty if none."""

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"

    @property
    def is_gateway(self) -> bool:
        """Whether it is a gateway that serves."""
        words = [word.rpartition("/")[2] for word in self.command[:6]]
        return any(
            word == "gateway" and _OWN_COMMANDS.intersection(words[index + 1 :]) for index, word in enumerate(words)
        )

    @property
    def stop(self) -> str:
        """The command that ends it, for good where it is a service."""
        return f"sudo systemctl disable --now {self.unit}" if self.unit else f"kill {self.pid}"


@dataclass(frozen=True, slots=True)
class Holders:
    """Who holds something."""

    found: tuple[Process, ...]
    is_complete: bool
    """Whether all processes could be looked at; other users' can't without root."""

    @property
    def named(self) -> str:
        """Their names; `another program` where they could not be seen."""
        return ", ".join(map(str, self.found)) or "another program"

    @property
    def fixes(self) -> tuple[str, ...]:
        """How to end them, or how to see them."""
        if self.found:
            return tuple(process.stop for process in self.found)
        return () if self.is_complete else (f"{SUDO}    # names the program",)


def holders_of_device(system: System, absolute: str) -> Holders:
    """The processes that have the device at `absolute` open, by whatever name. Not the one that looks."""
    path = system.path(absolute)
    real = os.path.realpath(path)
    number = os.stat(path).st_rdev if stat.S_ISCHR(os.stat(path).st_mode) else None
    return _holders(
        system,
        lambda target, descriptor: (
            target == real or (number is not None and target.startswith("/dev/") and _number(descriptor) == number)
        ),
    )


def holders_of_sockets(system: System, inodes: Iterable[int]) -> Holders:
    """The processes that have one of these sockets."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return _holders(system, lambda target, _: target in wanted)


def named(system: System, name: str) -> list[Process]:
    """The processes of that name."""
    return [process(system, pid) for pid in _pids(system) if system.word(f"/proc/{pid}/comm") == name[:15]]


def process(system: System, pid: int) -> Process:
    """What there is to know about a process."""
    name = system.word(f"/proc/{pid}/comm") or "?"
    command = tuple(filter(None, system.word(f"/proc/{pid}/cmdline").split("\0")))
    unit = _SYSTEM_SERVICE.search(system.word(f"/proc/{pid}/cgroup"))
    return Process(pid, name, command, unit[1] if unit else "")


def _holders(system: System, is_wanted: Callable[[str, str], bool]) -> Holders:
    found: dict[int, Process] = {}
    complete = True
    seen = 0
    for pid in _pids(system):
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(system.path(folder))
        except PermissionError:
            complete = False
            continue
        except OSError:
            continue  # it has ended
        for name in names:
            descriptor = os.path.join(system.path(folder), name)
            try:
                if is_wanted(os.readlink(descriptor), descriptor):
                    found[pid] = process(system, pid)
            except OSError:
                continue
        seen += len(names)
        if seen > MAX_DESCRIPTORS:
            return Holders(tuple(found.values()), is_complete=False)
    return Holders(tuple(found.values()), complete)


def _number(descriptor: str) -> int | None:
    found = os.stat(descriptor)
    return found.st_rdev if stat.S_ISCHR(found.st_mode) else None


def _pids(system: System) -> Iterator[int]:
    own = os.getpid()
    for name in system.names("/proc"):
        if name.isascii() and name.isdecimal() and int(name) != own:
            yield int(name)
