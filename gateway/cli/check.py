"""`gateway check [CONFIG]`: every mistake in a config at once, for people, scripts and editors."""

from __future__ import annotations

import json
import sys

import click

from gateway.app import check_config
from gateway.cli.exits import Exit
from gateway.cli.main import config_path, subcommand
from gateway.cli.screen import Screen
from gateway.config.schema import json_schema
from gateway.drivers import installed_drivers


@subcommand("check")
@click.argument("config", type=click.Path(), required=False)
@click.option("--config", "named", type=click.Path(), help="The same as CONFIG.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a config, with the installed drivers' options.")
@click.pass_context
def command(ctx: click.Context, screen: Screen, config: str | None, named: str | None, schema: bool) -> None:
    """Find every mistake in the file CONFIG and in devices.d beside it. Touches no hardware.

    Without CONFIG: the file that `gateway serve` would take. One line for each mistake, FILE:LINE first; exit code 2
    if there is one.

    JSON: {"file", "files", "devices": [...], "hosts": [...], "problems": [{"file", "line", "key", "reason",
    "nearest"}]}.
    """
    if schema:
        document = json_schema({name: driver.Options for name, driver in installed_drivers().items()})
        print(json.dumps(document, indent=2))
        sys.stdout.flush()
        return
    path = config_path(config, named)
    found = check_config(path)
    screen.document(
        {
            "file": path,
            "files": list(found.config.files),
            "devices": [section.name for section in found.config.devices],
            "hosts": [section.name for section in found.config.hosts],
            "problems": [
                {key: problem.facts.get(key) for key in ("file", "line", "key", "reason", "nearest")}
                for problem in found.problems
            ],
        }
    )
    for problem in found.problems:
        screen.line(str(problem), style="red")
    files, devices = len(found.config.files), len(found.config.devices)
    if found.problems:
        screen.note(f"{_counted(len(found.problems), 'mistake')} in {_counted(files, 'file')}", style="bold red")
        ctx.exit(Exit.USAGE)
    hosts = f", {_counted(len(found.config.hosts), 'instrument host')}" if found.config.hosts else ""
    screen.line(f"{path}: no mistake in {_counted(files, 'file')}: {_counted(devices, 'device')}{hosts}", style="green")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
