"""`gateway watch DEVICE.PROPERTY`."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import click

from gateway.cli.main import subcommand
from gateway.cli.reach import find_member, gateway_options, reached
from gateway.cli.screen import Screen
from gateway.cli.values import as_json, number, shown
from gateway.service.reading import Reading
from gateway.sync.observing import observe

SPARKS: Final = 40
"""Readings in the sparkline."""


@subcommand("watch")
@click.argument("target", metavar="DEVICE.PROPERTY")
@click.option(
    "--every",
    type=click.FloatRange(min=0.005, max=86400),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long readings are apart.",
)
@click.option("--on-change", is_flag=True, help="Show a reading only where it differs from the last one.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N readings; default: Ctrl-C ends it.")
@gateway_options
def command(
    screen: Screen, target: str, every: float, on_change: bool, count: int | None, where: str | None, timeout: float
) -> None:
    """Show a property of a device as it changes. However many watch it, the instrument is asked once for all.

    JSON: one document a line for each reading: {"device", "member", "unit", "value", "time_s": seconds since 1970 UTC
    by the gateway's clock, "identity", "lease", "error": null or {"code", "message"}}.
    """
    with reached(screen, where, timeout) as at:
        member = find_member(at, target)
        if member.row["kind"] != "property":
            raise click.UsageError(f"{target} is a {member.row['kind']}; only a property can be watched")
        recent: deque[float] = deque(maxlen=SPARKS)
        first_s: float | None = None
        with (
            observe(at.conn, target, every=every, on_change=on_change) as readings,
            screen.live_line() as line,
        ):
            for taken, reading in enumerate(readings, start=1):
                first_s = reading.time_s if first_s is None else first_s
                if type(reading.value) in (int, float):
                    recent.append(float(reading.value))
                screen.document(_document(reading, member.unit))
                line.show(_line(screen, target, reading, member.unit, reading.time_s - first_s, recent))
                if taken == count:
                    return


def _document(reading: Reading, unit: str | None) -> dict[str, Any]:
    failed = reading.error_code is not None
    return {
        "device": reading.device,
        "member": reading.property,
        "unit": reading.unit or unit,
        "value": as_json(reading.value),
        "time_s": reading.time_s,
        "identity": reading.identity,
        "lease": reading.lease,
        "error": {"code": reading.error_code, "message": reading.error} if failed else None,
    }


def _line(screen: Screen, target: str, reading: Reading, unit: str | None, at: float, recent: deque[float]) -> str:
    unit = reading.unit or unit
    text = shown(reading.value, unit, brief=True) if reading.error_code is None else f"error: {reading.error}"
    if not screen.is_terminal:
        return f"{at:8.2f} s  {text}"
    if not recent:
        return f"{target}  {text}"
    ends = f"{number(min(recent))} to {number(max(recent))}{f' {unit}' if unit else ''}"
    return f"{target}  {text}  {screen.sparkline(recent)}  {ends}"
