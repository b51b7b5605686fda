"""`gateway enable DEVICE`."""

from __future__ import annotations

import click

from gateway.cli.main import config_path, subcommand
from gateway.cli.screen import Screen
from gateway.config.edit import enable


@subcommand("enable")
@click.argument("device")
@click.option("--config", type=click.Path(), help="The config file; default: the one that `gateway serve` would take.")
def command(screen: Screen, device: str, config: str | None) -> None:
    """Put a disabled DEVICE back into use: takes `disabled` out of its table.
    A gateway that runs takes it up when it reads its config again (SIGHUP).

    JSON: {"device", "disabled", "file", "line", "changed"}.
    """
    path = config_path(config)
    done = enable(path, device)
    screen.document(
        {
            "device": device,
            "disabled": None,
            "file": done.file,
            "line": done.line,
            "changed": done.changed,
        }
    )
    if done.changed:
        screen.line(f"{device} is enabled in {done.file}:{done.line}")
        screen.line("a gateway that runs takes it up when it reads its config again (SIGHUP)", style="dim")
    else:
        screen.line(f"{device} is enabled already: nothing was changed", style="dim")
