"""`gateway disable DEVICE`."""

from __future__ import annotations

import click

from gateway.cli.main import config_path, subcommand
from gateway.cli.screen import Screen
from gateway.config.edit import disable


@subcommand("disable")
@click.argument("device")
@click.option("--reason", required=True, help="Why: what who calls the device is told.")
@click.option("--config", type=click.Path(), help="The config file; default: the one that `gateway serve` would take.")
def command(screen: Screen, device: str, reason: str, config: str | None) -> None:
    """Take DEVICE out of use: the gateway then leaves it alone and tells who calls it why.

    Writes `disabled` into its table, in whichever file of the config that is, and changes nothing else there.
    A gateway that runs takes it up when it reads its config again (SIGHUP).

    JSON: {"device", "disabled", "file", "line", "changed"}.
    """
    path = config_path(config)
    done = disable(path, device, reason)
    screen.document(
        {
            "device": device,
            "disabled": reason,
            "file": done.file,
            "line": done.line,
            "changed": done.changed,
        }
    )
    if done.changed:
        screen.line(f"{device} is disabled in {done.file}:{done.line}")
        screen.line("a gateway that runs takes it up when it reads its config again (SIGHUP)", style="dim")
    else:
        screen.line(f"{device} is disabled for this reason already: nothing was changed", style="dim")
