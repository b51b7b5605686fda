"""`gateway call DEVICE.METHOD ARGUMENTS...`."""

from __future__ import annotations

import itertools
import shlex
from typing import Any, Final

import click

from gateway.cli.main import subcommand
from gateway.cli.reach import Member, find_member, gateway_options, reached
from gateway.cli.screen import Screen
from gateway.cli.values import as_json, call_arguments, shown
from gateway.errors import NotLeased

COMMAND_LINE: Final = click.core.ParameterSource.COMMANDLINE
MAX_STREAM: Final = 100_000
"""Items taken of a method that streams: it may have no end."""


@subcommand("call", context_settings={"ignore_unknown_options": True})
@click.argument("target", metavar="DEVICE.METHOD")
@click.argument("arguments", nargs=-1)
@gateway_options
@click.pass_context
def command(
    ctx: click.Context, screen: Screen, target: str, arguments: tuple[str, ...], where: str | None, timeout: float
) -> None:
    """Call a method of a device and print what it returns.

    ARGUMENTS are Python literals where they can be (3.3, -5, True, [1, 2], b'abc', 'text'), else strings; NAME=VALUE
    is a keyword argument. `gateway describe DEVICE` shows the methods. Where controlling the device takes a lease:
    gateway lease DEVICE -- gateway call DEVICE.METHOD ARGUMENTS.

    JSON: {"gateway", "device", "member", "unit", "value"}.
    """
    positional, keywords = call_arguments(arguments)
    with reached(screen, where, timeout) as at:
        member = find_member(at, target)
        if member.row["kind"] == "property":
            raise click.UsageError(f"{target} is a property; use: gateway read {target}")
        with screen.busy(f"calling {target}"):
            value = _call(ctx, member, positional, keywords)
            form = as_json(value) if screen.as_json else None
        screen.document(
            {"gateway": at.where, "device": member.device, "member": member.name, "unit": member.unit, "value": form}
        )
        if value is not None:
            screen.line(shown(value, member.unit, brief=screen.is_terminal))
        elif screen.is_terminal:
            screen.line("done", style="dim")


def _call(ctx: click.Context, member: Member, positional: list[Any], keywords: dict[str, Any]) -> Any:
    try:
        value: Any = getattr(member.proxy, member.name)(*positional, **keywords)
        return list(itertools.islice(value, MAX_STREAM)) if member.row["kind"] == "stream" else value
    except NotLeased as problem:
        if problem.code != NotLeased.code:  # somebody else has it, or had it taken from us: the error says that
            raise
        raise NotLeased(
            f"controlling {member.device} takes a lease: {_leased_line(ctx, member.device)}", device=member.device
        ) from problem


def _leased_line(ctx: click.Context, device: str) -> str:
    """The same call as a command line that has the lease."""
    parameters = ctx.params
    gateway = ["--gateway", parameters["where"]] if ctx.get_parameter_source("where") is COMMAND_LINE else []
    call = ["gateway", "call", parameters["target"], *parameters["arguments"]]
    return shlex.join(["gateway", "lease", *gateway, device, "--", *call])
