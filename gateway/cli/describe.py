"""`gateway describe [NAME]`."""

from __future__ import annotations

import re
from typing import Any, Final

import click

import gateway
from gateway.cli.exits import one_line
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

    JSON without NAME: {"gateway", "devices": [{"name", "driver", "state", "doc", "identity"}]}. With NAME: {"gateway",
    "name", "driver", "state", "doc", "members": [{"name", "kind", "signature", "unit", "access", "settable", "doc"}]}.
    Of what belongs to a host also "host", and while that can't be reached "since" and "problem".
    """
    with reached(screen, where, timeout) as at:
        if name is None:
            _show_devices(screen, at)
        else:
            _show_members(screen, at, at.describe_device(name))


def _show_devices(screen: Screen, at: Reached) -> None:
    described = at.describe()
    identities = _identities(at, [name for name, device in described.items() if device["state"] == "open"])
    devices = [{**_facts(device), "identity": identities.get(name)} for name, device in described.items()]
    screen.document({"gateway": at.where, "devices": devices})
    screen.table(
        ("device", "driver", "state", "identity"),
        [(d["name"], d["driver"], d["state"], d["identity"] or _absence(d)) for d in devices],
        empty="this gateway has no devices",
    )


def _show_members(screen: Screen, at: Reached, device: dict[str, Any]) -> None:
    screen.document({"gateway": at.where, **_facts(device), "members": device["members"]})
    screen.line(f"{device['name']}: {device['driver']}, {device['state']}", style="bold")
    screen.line(device["doc"])
    if "since" in device:
        screen.line(_absence(device))
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


def _facts(device: dict[str, Any]) -> dict[str, Any]:
    facts = {key: device[key] for key in ("name", "driver", "state", "doc")}
    return facts | {key: device[key] for key in ("host", "since", "problem") if key in device}


def _absence(device: dict[str, Any]) -> str:
    """Since when it can't be reached, and why; empty if it can."""
    return f"away since {device['since']}: {device['problem']}" if "since" in device else ""


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
