"""`gateway serve [CONFIG]`."""

from __future__ import annotations

import click

from gateway import config as configuration
from gateway.app import build
from gateway.cli.main import config_path, subcommand
from gateway.cli.running import Stop, announce, log_to_stderr, run, wait_advertised
from gateway.cli.screen import Screen


@subcommand("serve")
@click.argument("config", type=click.Path(), required=False)
@click.option("--config", "named", type=click.Path(), help="The same as CONFIG.")
@click.pass_context
def command(ctx: click.Context, screen: Screen, config: str | None, named: str | None) -> None:
    """Serve the instruments that the file CONFIG names, until SIGTERM or Ctrl-C.

    Without CONFIG: the user's own gateway.toml if there is one, else /etc/instrument-gateway/gateway.toml. The files in
    the folder devices.d beside it count too.

    Every device is brought to its safe state at the end. A device that can't be opened is reported and tried again at
    its next call; the others are served meanwhile.

    JSON, once it serves: {"name", "url", "local_only", "advertised", "advert_status", "devices": [{"name", "driver",
    "state", "identity", "problem"}]}.
    """
    settings = configuration.load(config_path(config, named))
    log_to_stderr(screen, settings.gateway.log_level)
    gateway = build(settings)

    def body(stop: Stop) -> None:
        wait_advertised(screen, gateway, stop)
        if not stop.is_set:
            announce(screen, gateway)
        stop.wait()

    ctx.exit(run(screen, gateway, body))
