"""The users and groups of a system, read from /etc/passwd and /etc/group under its root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_FILE: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class User:
    """A user with all its groups."""

    name: str
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who there is."""

    users: dict[str, tuple[int, int]]
    """Name -> uid, gid of its own group."""
    groups: dict[str, int]
    members: dict[str, frozenset[str]]
    """Group -> names of the users that /etc/group lists."""

    def user(self, name: str, more_groups: tuple[str, ...] = ()) -> User | None:
        """The user of that name, as a member of `more_groups` too; None if there is none."""
        if name not in self.users:
            return None
        uid, gid = self.users[name]
        member_of = {self.groups[group] for group, names in self.members.items() if name in names}
        added = {self.groups[group] for group in more_groups if group in self.groups}
        return User(name, uid, frozenset({gid} | member_of | added))

    def group_name(self, gid: int) -> str:
        """The group's name, or its number as text."""
        return next((name for name, number in self.groups.items() if number == gid), str(gid))

    def user_name(self, uid: int) -> str:
        """The user's name, or its number as text."""
        return next((name for name, (number, _) in self.users.items() if number == uid), str(uid))


def read_accounts(root: Path) -> Accounts:
    """The accounts of the system under `root`. What can't be read counts as empty, a malformed line is passed over."""
    users = {
        row[0]: (int(row[2]), int(row[3])) for row in _rows(root / "etc/passwd") if len(row) >= 4 and _numbers(row[2:4])
    }
    rows = [row for row in _rows(root / "etc/group") if len(row) >= 4 and _numbers(row[2:3])]
    groups = {row[0]: int(row[2]) for row in rows}
    members = {row[0]: frozenset(filter(None, row[3].split(","))) for row in rows}
    return Accounts(users, groups, members)


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE).decode("utf-8", "replace")
    except OSError:
        return []
    return [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]


def _numbers(words: list[str]) -> bool:
    return all(word.isascii() and word.isdecimal() and len(word) <= 10 for word in words)
