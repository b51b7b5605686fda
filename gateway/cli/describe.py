"""`gateway describe [NAME]`."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import click

import gateway
from gateway.cli.exits import one_line
from gateway.cli.leases import duration, holder_of, plain
from gateway.cli.main import subcommand
from gateway.cli.reach import Reached, gateway_options, reached
from gateway.cli.screen import Screen

IDENTIFY_S: Final = 3.0
"""A device that is busy for longer is shown without its identity."""


@subcommand("describe")
@click.argument("name", required=False)
@gateway_options
def command(screen: Screen, name: str | None, where: str | None, timeout: float) -> None:
    """Show a gateway's devices, or the members of the device NAME: what can be read and called, with units.

    NAME may be a device of an instrument host, HOST.DEVICE, or the host itself.

    JSON without NAME: {"gateway", "devices": [{"name", "driver", "state", "doc", "identity", "safe_state",
    "made_safe", "needs_lease", "lease", "owner", "notes"}]}. With NAME: {"gateway", "name", "driver", "state", "doc",
    "identity" ... "notes", "members": [{"name", "kind", "signature", "unit", "access", "settable", "doc"}]}.
    "made_safe" is null or {"device", "outcome", "at", "took_s", "why", "detail"}, "lease" null or {"principal",
    "program", "host", "pid", "number", "held_s", "left_s", "waiting"}. Of what belongs to a host also "host"; of what
    can't be used "problem", and "since" where that is known.
    """
    with reached(screen, where, timeout) as at:
        if name is None:
            _show_devices(screen, at)
        else:
            _show_members(screen, at, at.describe_device(name))


def _show_devices(screen: Screen, at: Reached) -> None:
    described = at.describe()
    unknown = [name for name, device in described.items() if device["state"] == "open" and not device.get("identity")]
    identities = _identities(at, unknown)
    devices = [_facts({"identity": identities.get(name), **_given(device)}) for name, device in described.items()]
    screen.document({"gateway": at.where, "devices": devices})
    with_notes = any(device["owner"] or device["notes"] for device in devices)
    screen.table(
        ("device", "driver", "state", "lease", "safe state", "identity", *(["owner and notes"] if with_notes else [])),
        [
            (
                device["name"],
                device["driver"],
                device["state"],
                _lease(device),
                _safe_state(device),
                _absence(device) or one_line(device["identity"] or ""),
                *([_owner_and_notes(device)] if with_notes else []),
            )
            for device in devices
        ],
        empty="this gateway has no devices",
    )


def _show_members(screen: Screen, at: Reached, device: dict[str, Any]) -> None:
    facts = _facts(_given(device))
    screen.document({"gateway": at.where, **facts, "members": device["members"]})
    screen.line(f"{device['name']}: {device['driver']}, {device['state']}", style="bold")
    screen.line(device["doc"])
    for label, text in (
        ("", _absence(facts)),
        ("identity: ", one_line(facts["identity"] or "")),
        ("safe state: ", _safe_state(facts)),
        ("lease: ", _lease(facts)),
        ("owner: ", facts["owner"]),
        ("notes: ", one_line(facts["notes"] or "")),
    ):
        if text:
            screen.line(f"{label}{text}")
    screen.line()
    screen.table(
        ("member", "kind", "signature", "unit", "access", "what it is"),
        [
            (
                row["name"],
                f"{row['kind']}, settable" if row["settable"] else row["kind"],
                row["signature"],
                row["unit"] or "",
                row["access"],
                _first_sentence(row["doc"]),
            )
            for row in device["members"]
        ],
        empty="nothing is exposed",
    )


def _given(device: dict[str, Any]) -> dict[str, Any]:
    """What is known of a device; what is None does not count."""
    return {key: plain(value) for key, value in device.items() if value is not None}


def _facts(device: dict[str, Any]) -> dict[str, Any]:
    facts = {key: device[key] for key in ("name", "driver", "state", "doc")}
    facts |= {key: device.get(key) for key in ("identity", "safe_state", "made_safe")}
    facts |= {"needs_lease": bool(device.get("needs_lease"))}
    facts |= {key: device.get(key) for key in ("lease", "owner", "notes")}
    return facts | {key: device[key] for key in ("host", "since", "problem") if key in device}


def _absence(device: dict[str, Any]) -> str:
    """Why it can't be used, and since when; empty if it can."""
    if "since" in device:
        away = "away" if "host" in device else device["state"]
        return f"{away} since {device['since']}: {device['problem']}"
    return f"{device['state']}: {device['problem']}" if "problem" in device else ""


def _lease(device: dict[str, Any]) -> str:
    """Who has it; `free` where control takes a lease and nobody has one, empty where none is needed."""
    lease = device["lease"]
    if lease is None:
        return "free" if device["needs_lease"] else ""
    waiting = f", {lease['waiting']} waiting" if lease["waiting"] else ""
    return f"{holder_of(lease)}, for {duration(lease['held_s'])}{waiting}"


def _safe_state(device: dict[str, Any]) -> str:
    """What it is, and how the device was brought there last."""
    report = device["made_safe"]
    if not device["safe_state"] or report is None:
        return device["safe_state"] or ""
    with suppress(ValueError):
        at = datetime.fromisoformat(report["at"]).astimezone()
        return f"{device['safe_state']} ({report['outcome']} {at:%H:%M:%S})"
    return f"{device['safe_state']} ({report['outcome']})"


def _owner_and_notes(device: dict[str, Any]) -> str:
    return "; ".join(one_line(text) for text in (device["owner"], device["notes"]) if text)


def _first_sentence(doc: str) -> str:
    return re.split(r"(?<=\.)\s", one_line(doc), maxsplit=1)[0]


def _identities(at: Reached, names: list[str]) -> dict[str, str]:
    """What the devices say they are, asked side by side; a device that fails or is busy is left out."""
    asked = {name: gateway.async_(at.device(name).identify) for name in names}
    answers = {name: ask() for name, ask in asked.items()}
    identities: dict[str, str] = {}
    for name, answer in answers.items():
        answer.set_expiry(IDENTIFY_S)
        try:
            identities[name] = one_line(str(answer.value))
        except Exception:  # noqa: BLE001,S112 - whatever a driver raises: the table shows the other devices
            continue
    return identities
