"""`gateway test-safe DEVICE`."""

from __future__ import annotations

import click

from gateway.cli.estop import took
from gateway.cli.exits import Exit
from gateway.cli.main import subcommand
from gateway.cli.reach import gateway_options, reached
from gateway.cli.screen import Screen

_STYLES = {"verified": "green", "sent": "yellow", "failed": "bold red"}


@subcommand("test-safe")
@click.argument("device")
@gateway_options
@click.pass_context
def command(ctx: click.Context, screen: Screen, device: str, where: str | None, timeout: float) -> None:
    """Bring DEVICE to its safe state, as the gateway does when a client is lost, and say how that went.

    It is really done: an output goes off. Nobody else may have a lease of it. Exit code 0 only where the device itself
    said that it is there.

    JSON: {"gateway", "device", "safe_state", "outcome": "verified", "sent" or "failed", "at", "took_s", "why",
    "detail"}.
    """
    with reached(screen, where, timeout) as at:
        safe_state = at.describe_device(device).get("safe_state")
        with screen.busy(f"making {device} safe"):
            report = dict(at.root.test_safe(device))
        outcome = report["outcome"]
        screen.document({"gateway": at.where, "safe_state": safe_state, **report})
        detail = f": {report['detail']}" if report["detail"] else ""
        screen.line(f"{device}: {safe_state}: {outcome} in {took(report['took_s'])}{detail}", style=_STYLES[outcome])
        if outcome != "verified":
            ctx.exit(Exit.RAISED)
