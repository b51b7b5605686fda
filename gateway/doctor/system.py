"""The machine that is examined, behind one argument: its files under a root, its tools, its clock."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.systemd.accounts import Accounts, User, read_accounts
from gateway.systemd.tools import Output, Runner, run_tool

MAX_FILE: Final = 1024 * 1024
SUDO: Final = "sudo gateway doctor"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs the gateway."""

    version: tuple[int, int, int] = sys.version_info[:3]
    implementation: str = platform.python_implementation()
    machine: str = platform.machine()
    bits: int = 64 if sys.maxsize > 2**32 else 32
    executable: str = sys.executable


@dataclass(frozen=True)
class System:
    """Paths are absolute as the system sees them, such as `/proc/meminfo`. Links are followed as by any process."""

    root: Path = field(default_factory=lambda: Path("/"))
    run: Runner = run_tool
    now: Callable[[], float] = time.time
    """Seconds since 1970, UTC."""
    uid: int = field(default_factory=os.geteuid)
    """Who looks."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    interpreter: Interpreter = field(default_factory=Interpreter)

    @property
    def is_live(self) -> bool:
        """Whether it is the system that this process runs on."""
        return self.root == Path("/")

    def path(self, absolute: str) -> Path:
        """Where `absolute` lies."""
        return self.root / absolute.lstrip("/")

    def exists(self, absolute: str) -> bool:
        """Whether something is there. A dangling link counts as nothing."""
        return self.path(absolute).exists()

    def text(self, absolute: str) -> str | None:
        """The beginning of a file, up to 1 MiB; None where there is none. Raises OSError if it can't be read."""
        try:
            with self.path(absolute).open("rb") as file:
                return file.read(MAX_FILE).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def word(self, absolute: str) -> str:
        """A short file's text without the white space around it; empty where it is missing or can't be read."""
        try:
            return (self.text(absolute) or "").strip()
        except OSError:
            return ""

    def names(self, absolute: str) -> list[str]:
        """What a folder holds, sorted; nothing where it is missing or closed."""
        try:
            return sorted(os.listdir(self.path(absolute)))
        except OSError:
            return []

    def tool(self, *words: str) -> Output | None:
        """What one of the system's tools says; None where there is none."""
        return self.run(*words)

    def accounts(self) -> Accounts:
        """Its users and groups."""
        return read_accounts(self.root)

    def user(self, name: str, more_groups: tuple[str, ...] = ()) -> User | None:
        """The user of that name."""
        return self.accounts().user(name, more_groups)

    def current_user(self) -> User:
        """Who looks, with the groups of this process."""
        name = self.accounts().user_name(self.uid)
        known = self.user(name)
        groups = frozenset(os.getgroups()) if self.uid == os.geteuid() else frozenset()
        return User(name, self.uid, groups | (known.gids if known else frozenset()))

    def may_use(self, user: User, absolute: str, *, write: bool = True) -> bool:
        """Whether `user` may read (and write) the file or device. Raises OSError if it is not there."""
        path = self.path(absolute)
        found = path.stat()
        if user.uid == 0:
            return True
        if user.uid == os.geteuid() and self.is_live:
            return os.access(path, os.R_OK | (os.W_OK if write else 0))  # knows access control lists too
        shift = 6 if user.uid == found.st_uid else 3 if found.st_gid in user.gids else 0
        wanted = 0o6 if write else 0o4
        return (found.st_mode >> shift) & wanted == wanted
