"""Which of the things that are plugged in is which device of the config. Pure.

One thing for an entry is the device. None: it is missing. Two things for one entry, or one thing for two entries, is
ambiguous, and nothing is taken: an instrument is not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final

from gateway.config import Config, DeviceSection, Match
from gateway.hardware.facts import Hardware

BAUDRATES: Final = (9600, 115_200, 19_200, 57_600, 38_400)
"""Tried in this order where nothing says how fast an instrument talks."""
MOST_NAMED: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One device of the config, as far as its place goes."""

    name: str
    match: Match
    place: str = ""
    """`FILE:LINE`, for errors."""
    baudrates: tuple[int, ...] = BAUDRATES
    may_ask: bool = False
    """Whether `*IDN?` may be sent for it."""

    def __str__(self) -> str:
        return f"{self.name} ({self.place})" if self.place else self.name


@dataclass(frozen=True, slots=True)
class Found:
    """Exactly one thing is it."""

    hardware: Hardware


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing is it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Several things may be it, or one thing may be several devices. The reason names both."""

    reason: str


Outcome = Found | Missing | Ambiguous


def entries_of(config: Config) -> list[Entry]:
    """The entries of a config: of each device with a `match`, or with a path as `port`."""
    return [entry for section in config.devices if (entry := entry_of(section)) is not None]


def entry_of(section: DeviceSection) -> Entry | None:
    """The entry of one device; None if it is not on a port of this machine."""
    match, port = section.common.match, section.options.get("port")
    if match is None:
        if not isinstance(port, str) or not port.startswith("/"):
            return None
        match = Match(path=port)
    baudrate = section.options.get("baudrate")
    return Entry(
        name=section.name,
        match=match,
        place=section.source.place(section.path),
        baudrates=(baudrate,) if isinstance(baudrate, int) else BAUDRATES,
        may_ask=match.probe and section.common.disabled is None,
    )


def paths_of(entries: Iterable[Entry]) -> list[str]:
    """The paths that entries name: `find_hardware` has to look at them, since they may be links of the user's own."""
    return [entry.match.path for entry in entries if entry.match.path is not None and entry.match.path.startswith("/")]


def fits_port(match: Match, hardware: Hardware) -> bool:
    """Whether all that `match` says but `idn` is so."""
    if hardware.kind == "usb":  # no port that a driver could open; it may get one in a moment
        return False
    if match.serial_number is not None and match.serial_number != hardware.serial_number:
        return False
    if match.vid_pid is not None and match.vid_pid.lower() != hardware.vid_pid:
        return False
    if match.interface is not None and match.interface != hardware.interface:
        return False
    if match.path is None:
        return True
    if match.path.startswith("/"):
        return match.path in (hardware.port, *hardware.names)
    location, _, interface = match.path.partition(":")
    return location == hardware.location and (not interface or interface.rpartition(".")[2] == str(hardware.interface))


def fits_identity(pattern: str, identity: str) -> bool:
    """Whether an answer to `*IDN?` fits a pattern with `*`, `?` and `[...]`, in any case."""
    return _compiled(pattern).match(identity) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.IGNORECASE)


def match_all(
    entries: Sequence[Entry], hardware: Sequence[Hardware], identities: Mapping[str, str] | None = None
) -> dict[str, Outcome]:
    """The outcome for each entry, by its name. `identities`: answers to `*IDN?` by port, as far as they are known."""
    known = identities or {}
    by_port = {entry.name: _by_port(entry, hardware) for entry in entries if entry.match.idn is None}
    claimed = {each.port for found in by_port.values() for each in found}
    candidates = by_port | {
        entry.name: [
            each
            for each in hardware
            if entry.match.idn is not None
            and each.port not in claimed
            and fits_port(entry.match, each)
            and fits_identity(entry.match.idn, known.get(each.port, ""))
        ]
        for entry in entries
        if entry.match.idn is not None
    }
    users: dict[str, list[Entry]] = {}
    for entry in entries:
        for each in candidates[entry.name]:
            users.setdefault(each.port, []).append(entry)
    return {entry.name: _outcome(entry, candidates[entry.name], users) for entry in entries}


def ports_to_ask(
    entries: Sequence[Entry], hardware: Sequence[Hardware], known: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """Port -> the baud rates to try, of the ports where `*IDN?` has to be sent to find an entry.

    Only ports that an entry with `probe = true` may mean, that no other entry claims, and that are not in `known`.
    """
    claimed = {each.port for entry in entries if entry.match.idn is None for each in _by_port(entry, hardware)}
    wanted: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        if entry.match.idn is None or not entry.may_ask:
            continue
        for each in hardware:
            if (
                each.kind != "usb"
                and each.port not in claimed
                and each.port not in known
                and fits_port(entry.match, each)
            ):
                rates = wanted.get(each.port, ())
                wanted[each.port] = rates + tuple(rate for rate in entry.baudrates if rate not in rates)
    return wanted


def undecided(entry: Entry, hardware: Sequence[Hardware], asking: Collection[str]) -> list[str]:
    """The ports that may turn out to be `entry` too: they fit but for `idn`, and are in `asking`."""
    if entry.match.idn is None:
        return []
    return [each.port for each in hardware if each.port in asking and fits_port(entry.match, each)]


def _by_port(entry: Entry, hardware: Sequence[Hardware]) -> list[Hardware]:
    return [each for each in hardware if fits_port(entry.match, each)]


def _outcome(entry: Entry, found: Sequence[Hardware], users: Mapping[str, Sequence[Entry]]) -> Outcome:
    if not found:
        return Missing(f"nothing with {entry.match} is plugged in")
    if len(found) > 1:
        shown = " and ".join(str(each) for each in found[:MOST_NAMED])
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return Ambiguous(f"{shown}{more} all fit {entry}; add what only one of them has, such as serial_number or path")
    (only,) = found
    others = [str(other) for other in users[only.port]]
    if len(others) > 1:
        return Ambiguous(f"{only} fits {' and '.join(others[:MOST_NAMED])}; make their matches differ")
    return Found(only)
