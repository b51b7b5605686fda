"""`gateway read DEVICE.PROPERTY`."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

import click

from gateway.cli.main import subcommand
from gateway.cli.reach import Member, find_member, gateway_options, reached
from gateway.cli.screen import Screen
from gateway.cli.values import as_json, number, shown

SPARKS: Final = 40
"""Readings in the sparkline."""


@subcommand("read")
@click.argument("target", metavar="DEVICE.PROPERTY")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.01, max=3600),
    metavar="SECONDS",
    help="Read again and again, so long apart, until Ctrl-C.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="With --watch: end after N readings.")
@gateway_options
def command(
    screen: Screen, target: str, watch: float | None, count: int | None, where: str | None, timeout: float
) -> None:
    """Read a property of a device and print its value with its unit. Each reading asks the instrument once.

    JSON: {"gateway", "device", "member", "unit", "value"}; with --watch (which then needs --count) instead of "value":
    "readings": [{"t": seconds since the first, "value"}].
    """
    if count is not None and watch is None:
        raise click.UsageError("--count goes with --watch SECONDS")
    if screen.as_json and watch is not None and count is None:
        raise click.UsageError("--json prints one document: say with --count after how many readings")
    with reached(screen, where, timeout) as at:
        member = find_member(at, target)
        if member.row["kind"] != "property":
            raise click.UsageError(f"{target} is a {member.row['kind']}; use: gateway call {target}")
        facts = {"gateway": at.where, "device": member.device, "member": member.name, "unit": member.unit}
        if watch is None:
            value = getattr(member.proxy, member.name)
            screen.document({**facts, "value": as_json(value)})
            screen.line(shown(value, member.unit, brief=screen.is_terminal))
        else:
            readings = _watch(screen, member, watch, count)
            screen.document({**facts, "readings": readings})


def _watch(screen: Screen, member: Member, period_s: float, count: int | None) -> list[dict[str, Any]]:
    """Read every `period_s` seconds; gives the readings if JSON is wanted."""
    readings: list[dict[str, Any]] = []
    recent: deque[float] = deque(maxlen=SPARKS)
    taken = 0
    first = time.monotonic()
    with screen.live_line() as line:
        while True:
            at = time.monotonic() - first
            value = getattr(member.proxy, member.name)
            taken += 1
            if screen.as_json:
                readings.append({"t": round(at, 3), "value": as_json(value)})
            if isinstance(value, int | float) and not isinstance(value, bool):
                recent.append(float(value))
            line.show(_line(screen, member, value, at, recent))
            if taken == count:
                return readings
            # From the first reading on: the time a reading takes does not add up.
            time.sleep(max(0.0, first + taken * period_s - time.monotonic()))


def _line(screen: Screen, member: Member, value: Any, at: float, recent: deque[float]) -> str:
    text = shown(value, member.unit, brief=True)
    if not screen.is_terminal:
        return f"{at:8.2f} s  {text}"
    if not recent:
        return f"{member.device}.{member.name}  {text}"
    unit = f" {member.unit}" if member.unit else ""
    ends = f"{number(min(recent))} to {number(max(recent))}{unit}"
    return f"{member.device}.{member.name}  {text}  {screen.sparkline(recent)}  {ends}"
