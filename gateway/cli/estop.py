"""`gateway estop`: the emergency stop."""

from __future__ import annotations

from typing import Any, Final

import click

from gateway.cli.exits import Exit
from gateway.cli.leases import duration
from gateway.cli.main import subcommand
from gateway.cli.reach import Reached, gateway_options, reached
from gateway.cli.screen import Screen

NOT_REACHED: Final = "not reached"
NONE: Final = "none"


@subcommand("estop")
@click.argument("reason", required=False)
@click.option("--reset", metavar="REASON", help="Release the stop: what was found, and what was done about it.")
@click.option("--state", is_flag=True, help="Only say whether it is stopped, by whom, since when and why.")
@gateway_options
@click.pass_context
def command(
    ctx: click.Context,
    screen: Screen,
    reason: str | None,
    reset: str | None,
    state: bool,
    where: str | None,
    timeout: float,
) -> None:
    """Bring every device to its safe state at once, and let nothing be controlled until somebody resets it.

    Whoever can reach the gateway may stop it; to reset it takes an administrator and a REASON. Exit code 1 where a
    device could not be verified to be safe: look at that one.

    JSON: {"gateway", "stopped": {"by", "why", "since"}, "devices": [{"device", "outcome", "at", "took_s", "why",
    "detail"}]}; "outcome" is "verified", "sent", "failed", "not reached" (no answer yet, or a host that is away), or
    "none" (it has no safe state). With --reset and --state: {"gateway", "stopped"}, null while it is not stopped.
    """
    if sum((reason is not None, reset is not None, state)) > 1:
        raise click.UsageError("REASON, --reset and --state exclude each other")
    with reached(screen, where, timeout) as at:
        if state or reset is not None:
            if reset is not None:
                at.root.estop_reset(reset)
            _show_state(screen, at, was_reset=reset is not None)
            return
        with screen.busy("making every device safe"):
            reports = {report["device"]: dict(report) for report in at.root.estop(reason or "")}
        rows = _rows(at, reports)
        screen.document({"gateway": at.where, "stopped": _stopped(at), "devices": rows})
        show_outcomes(screen, rows)
        missed = [row["device"] for row in rows if row["outcome"] not in {"verified", NONE}]
        if missed:
            screen.line(f"stopped; not verified to be safe: {', '.join(missed)}", style="bold red")
            ctx.exit(Exit.RAISED)
        screen.line("stopped: nothing can be controlled until `gateway estop --reset REASON`", style="bold green")


def show_outcomes(screen: Screen, rows: list[dict[str, Any]]) -> None:
    """The table of how devices were made safe."""
    screen.table(
        ("device", "safe state", "took", "what"),
        [(row["device"], row["outcome"], took(row["took_s"]), row["detail"]) for row in rows],
        empty="this gateway has no devices",
    )


def took(seconds: float | None) -> str:
    """`12 ms`, `1.3 s`."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else duration(seconds)


def _rows(at: Reached, reports: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One for each device of the gateway, also for those of which it said nothing."""
    rows = []
    for name, device in at.describe().items():
        if name in reports:
            rows.append(reports.pop(name))
            continue
        outcome, detail = NOT_REACHED, "no answer yet; see gateway describe"
        if device.get("host") == name:
            detail = "an instrument host that is away; it makes its devices safe itself when the line is lost"
        elif not device.get("safe_state"):
            outcome, detail = NONE, "it has no safe state"
        rows.append(_row(name, outcome, detail))
    return [*reports.values(), *rows]


def _row(device: str, outcome: str, detail: str) -> dict[str, Any]:
    return {"device": device, "outcome": outcome, "at": None, "took_s": None, "why": "", "detail": detail}


def _stopped(at: Reached) -> dict[str, Any] | None:
    stopped = at.root.estop_state()
    return None if stopped is None else dict(stopped)


def _show_state(screen: Screen, at: Reached, *, was_reset: bool) -> None:
    stopped = _stopped(at)
    screen.document({"gateway": at.where, "stopped": stopped})
    if stopped is not None:
        screen.line(f"stopped by {stopped['by']} since {stopped['since']}: {stopped['why']}", style="bold red")
    else:
        screen.line("reset: devices can be controlled again" if was_reset else "not stopped", style="green")
