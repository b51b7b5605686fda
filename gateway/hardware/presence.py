"""Whether each device is plugged in, and since when. Pure: what is seen and the time go in, events come out.

              Left                              Left
    present ---------> missing      present ---------> ambiguous
       ^                  |            ^                   |
       +------------------+            +-------------------+
            Returned                        Returned

A device that is there from the beginning makes no event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from gateway.errors import DeviceMissing
from gateway.hardware.facts import Hardware
from gateway.hardware.matching import Ambiguous, Entry, Found, Missing, Outcome, match_all, undecided


class Plugged(StrEnum):
    """Whether a device is there."""

    PRESENT = "present"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A device can't be used any more: unplugged, or no longer to be told from another one."""

    name: str
    at: float
    reason: str
    hardware: Hardware
    """What it was."""

    def __str__(self) -> str:
        return f"{self.name} has left: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A device that was missing or ambiguous is there: it has to be opened and made safe before anybody uses it."""

    name: str
    at: float
    away_s: float
    hardware: Hardware

    def __str__(self) -> str:
        return f"{self.name} is back after {self.away_s:.1f} s: {self.hardware}"


Event = Left | Returned


class Presence:
    """One device. `now` is in seconds since the epoch, since people are told about it."""

    def __init__(self, name: str, outcome: Outcome, now: float) -> None:
        self.name = name
        self.state = Plugged.MISSING
        self.since = now
        """When it came, or left."""
        self.reason = ""
        """Why it is not there; empty if it is."""
        self.hardware: Hardware | None = None
        """What it is, while it is present."""
        self._take(outcome, now)

    def update(self, outcome: Outcome, now: float, *, interrupted: bool = False) -> list[Event]:
        """What has happened, if now the outcome is this. `interrupted`: its port was gone in between."""
        before, since = self.hardware, self.since
        found = outcome.hardware if isinstance(outcome, Found) else None
        same = before is not None and found is not None and before.port == found.port and not interrupted
        if same or (before is None and found is None):
            self._keep(outcome)
            return []
        self._take(outcome, now)
        events: list[Event] = []
        if before is not None:
            reason = self.reason or f"{before.port} was unplugged"
            events.append(Left(name=self.name, at=now, reason=reason, hardware=before))
        if found is not None:
            away_s = max(0.0, now - since) if before is None else 0.0
            events.append(Returned(name=self.name, at=now, away_s=away_s, hardware=found))
        return events

    def error(self) -> DeviceMissing:
        """What a call gets while it is not there."""
        since = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")
        return DeviceMissing(
            f"{self.name} is {self.state.value} since {since}: {self.reason}",
            device=self.name,
            since=since,
            reason=self.reason,
        )

    def _take(self, outcome: Outcome, now: float) -> None:
        self.since = now
        self._keep(outcome)

    def _keep(self, outcome: Outcome) -> None:
        match outcome:
            case Found(hardware):
                self.state, self.reason, self.hardware = Plugged.PRESENT, "", hardware
            case Ambiguous(reason):
                self.state, self.reason, self.hardware = Plugged.AMBIGUOUS, reason, None
            case _:
                self.state, self.reason, self.hardware = Plugged.MISSING, outcome.reason, None


class Roll:
    """The presence of all devices with an entry."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self.presences: dict[str, Presence] = {}

    def update(
        self,
        hardware: Sequence[Hardware],
        now: float,
        *,
        identities: Mapping[str, str] | None = None,
        asking: Collection[str] = (),
        interrupted: Collection[str] = (),
    ) -> list[Event]:
        """What has happened to the devices, if now this is plugged in; all that left comes before what returned.

        `identities`: answers to `*IDN?` by port. `asking`: ports whose answer is waited for; until then a device that
        one of them may be is not taken to be there. `interrupted`: ports that are there, and were gone in between.
        """
        events: list[Event] = []
        outcomes = match_all(self.entries, hardware, identities)
        for entry in self.entries:
            name, outcome = entry.name, outcomes[entry.name]
            known = self.presences.get(name)
            if isinstance(outcome, Found) and (known is None or known.state is not Plugged.PRESENT):
                open_ports = undecided(entry, hardware, asking)
                if open_ports:
                    outcome = Missing(f"{open_ports[0]} is being asked *IDN?")
            if known is None:
                self.presences[name] = Presence(name, outcome, now)
            else:
                broken = known.hardware is not None and known.hardware.port in interrupted
                events += known.update(outcome, now, interrupted=broken)
        return sorted(events, key=lambda event: isinstance(event, Returned))

    def replace(self, entries: Sequence[Entry]) -> None:
        """Go on with other entries, as after a reload. An entry that says the same as before keeps its presence."""
        old = {entry.name: entry for entry in self.entries}
        same = {entry.name for entry in entries if entry.name in old and old[entry.name].match == entry.match}
        self.presences = {name: presence for name, presence in self.presences.items() if name in same}
        self.entries = tuple(entries)
