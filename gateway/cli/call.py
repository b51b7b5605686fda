"""`gateway call DEVICE.METHOD ARGUMENTS...`."""

from __future__ import annotations

import itertools
from typing import Any, Final

import click

from gateway.cli.main import subcommand
from gateway.cli.reach import find_member, gateway_options, reached
from gateway.cli.screen import Screen
from gateway.cli.values import as_json, call_arguments, shown

MAX_STREAM: Final = 100_000
"""Items taken of a method that streams: it may have no end."""


@subcommand("call", context_settings={"ignore_unknown_options": True})
@click.argument("target", metavar="DEVICE.METHOD")
@click.argument("arguments", nargs=-1)
@gateway_options
def command(screen: Screen, target: str, arguments: tuple[str, ...], where: str | None, timeout: float) -> None:
    """Call a method of a device and print what it returns.

    ARGUMENTS are Python literals where they can be (3.3, -5, True, [1, 2], b'abc', 'text'), else strings; NAME=VALUE
    is a keyword argument. `gateway describe DEVICE` shows the methods.

    JSON: {"gateway", "device", "member", "unit", "value"}.
    """
    positional, keywords = call_arguments(arguments)
    with reached(screen, where, timeout) as at:
        member = find_member(at, target)
        if member.row["kind"] == "property":
            raise click.UsageError(f"{target} is a property; use: gateway read {target}")
        with screen.busy(f"calling {target}"):
            value: Any = getattr(member.proxy, member.name)(*positional, **keywords)
            if member.row["kind"] == "stream":
                value = list(itertools.islice(value, MAX_STREAM))
            form = as_json(value) if screen.as_json else None
        screen.document(
            {"gateway": at.where, "device": member.device, "member": member.name, "unit": member.unit, "value": form}
        )
        if value is not None:
            screen.line(shown(value, member.unit, brief=screen.is_terminal))
        elif screen.is_terminal:
            screen.line("done", style="dim")
