"""From what is there to what the config should say about it. Pure.

A proposal is made for what answered `*IDN?` in a way that an installed driver is for, and that is not in the config
yet. Its `match` is the narrowest that fits this one thing and no other: a serial number, else the place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from gateway.config import MAX_DEVICE_NAME, Match, name_problem
from gateway.config.edit import toml_text
from gateway.hardware import Entry, Found, Hardware, match_all
from gateway.hardware.matching import fits_identity


@dataclass(frozen=True, slots=True)
class KnownDriver:
    """What adopting has to know of a driver."""

    name: str
    patterns: tuple[str, ...] = ()
    stem: str = ""
    transports: tuple[str, ...] = ("serial",)
    baudrate: int | None = None
    """What it takes where the config does not say."""

    @classmethod
    def of(cls, name: str, driver: Any) -> KnownDriver:
        """What the class `driver` declares; all of it may be missing."""
        options = getattr(driver, "Options", None)
        fields = getattr(options, "__struct_fields__", ())
        defaults = dict(zip(reversed(fields), reversed(getattr(options, "__struct_defaults__", ())), strict=False))
        baudrate = defaults.get("baudrate")
        return cls(
            name=name,
            patterns=tuple(getattr(driver, "idn_patterns", ())),
            stem=str(getattr(driver, "adopted_as", "")),
            transports=tuple(getattr(driver, "transports", ("serial",))),
            baudrate=baudrate if isinstance(baudrate, int) else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One thing that is there: on a port of this machine, or on the network."""

    where: str
    """For people: `/dev/ttyUSB0 (0403:6001, ...)`, `10.0.0.5:5025`."""
    transport: str
    """`serial`, `usbtmc`, `socket`, or `usb` and `web`, where no driver can reach it."""
    hardware: Hardware | None = None
    url: str = ""
    """`socket://10.0.0.5:5025`."""
    identity: str = ""
    baudrate: int | None = None
    """At which it answered."""
    device: str = ""
    """What the config calls it, if it has it."""
    note: str = ""
    """Why it has no identity, or what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One device for the config."""

    name: str
    driver: str
    seen: Seen
    table: Mapping[str, Any] = field(default_factory=dict)
    """What its `[devices.NAME]` says."""

    @property
    def text(self) -> str:
        """The file `devices.d/NAME.toml`."""
        lines = [f"# {self.seen.identity}: written by gateway adopt", f"[devices.{self.name}]"]
        return "\n".join([*lines, *(f"{key} = {_toml(value)}" for key, value in self.table.items())]) + "\n"

    @property
    def found_by(self) -> str:
        """How the device is found, for people."""
        match = self.table.get("match")
        return str(Match(**match)) if isinstance(match, dict) else f"port {self.table.get('port')}"


def propose(
    seen: Sequence[Seen], drivers: Sequence[KnownDriver], entries: Sequence[Entry], taken: Collection[str]
) -> list[Proposal]:
    """The proposals for what was seen. `entries` are those of the config, `taken` names that are not free."""
    names, known = set(taken), list(entries)
    hardware = [each.hardware for each in seen if each.hardware is not None]
    proposals: list[Proposal] = []
    for each in seen:
        driver = None if each.device else best_driver(each, drivers)
        if driver is None:
            continue
        name = _free_name(driver, each, names)
        table: dict[str, Any] = {"driver": driver.name}
        if each.hardware is None:
            table["port"] = each.url
        else:
            match = narrowest(each.hardware, hardware, known)
            table |= {"match": match} if match else {"port": each.hardware.stable}
            known.append(Entry(name=name, match=Match(**(match or {"path": each.hardware.port}))))
        if each.baudrate is not None and each.baudrate != driver.baudrate:
            table["baudrate"] = each.baudrate
        names.add(name)
        proposals.append(Proposal(name=name, driver=driver.name, seen=each, table=table))
    return proposals


def best_driver(seen: Seen, drivers: Sequence[KnownDriver]) -> KnownDriver | None:
    """The driver with the pattern that says most of those that fit; None if none does, or none can reach it."""
    fitting = [
        (len(pattern.strip("*")), driver.name, driver)
        for driver in drivers
        if seen.transport in driver.transports
        for pattern in driver.patterns
        if seen.identity and fits_identity(pattern, seen.identity)
    ]
    return max(fitting, key=lambda each: (each[0], each[1]))[2] if fitting else None


def narrowest(hardware: Hardware, others: Sequence[Hardware], entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The `match` that fits `hardware` and nothing else that is there, and that the config's entries leave alone.

    None where there is none: then only the name of the port tells it apart.
    """
    for match in _matches(hardware):
        outcomes = match_all([*entries, Entry(name="", match=Match(**match))], others)
        if outcomes[""] == Found(hardware):
            return match
    return None


def _matches(hardware: Hardware) -> Iterator[dict[str, Any]]:
    usb = {} if hardware.vid_pid is None else {"vid_pid": hardware.vid_pid}
    interface = {} if hardware.interface is None else {"interface": hardware.interface}
    if hardware.serial_number:
        yield {"serial_number": hardware.serial_number, **usb}
        yield {"serial_number": hardware.serial_number, **usb, **interface}
    if hardware.location:
        # Many adapters have no serial number, or all the same one.
        yield {"path": hardware.location, **usb}
        yield {"path": hardware.location, **usb, **interface}


def _free_name(driver: KnownDriver, seen: Seen, taken: Collection[str]) -> str:
    """`psu1`, or after the model where the driver has no word for its devices."""
    model = seen.identity.split(",")[1] if seen.identity.count(",") else ""
    stem = driver.stem or re.sub(r"[^a-z0-9_]+", "_", model.lower()).strip("_")[: MAX_DEVICE_NAME - 5]
    if name_problem(f"{stem}1"):
        stem = "device"
    separator = "_" if stem[-1].isdigit() else ""
    return next(name for number in count(1) if (name := f"{stem}{separator}{number}") not in taken)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return toml_text(value) if isinstance(value, str) else str(value)
