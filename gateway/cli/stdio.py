"""`gateway stdio`: what `ssh://host` runs at the other end. Stdout carries the protocol and nothing else."""

from __future__ import annotations

import threading
from typing import Final

import click

from gateway import config as configuration
from gateway.app import build
from gateway.channels import stdio_channel
from gateway.cli.main import subcommand
from gateway.cli.running import Stop, log_to_stderr, run
from gateway.cli.screen import Screen

POLL_S: Final = 0.25
"""How often a signal is looked for while the peer is served."""


@subcommand("stdio")
@click.option("--config", type=click.Path(), help="The config file; default: the user's own, else the machine's.")
@click.pass_context
def command(ctx: click.Context, screen: Screen, config: str | None) -> None:
    """Serve the instruments of a config over stdin and stdout, until the other end leaves.

    This is what gateway.connect("ssh://host") starts on the host. Every device is brought to its safe state at the end.
    Messages go to stderr; with --json an error is a document there.
    """
    # First of all: whatever a driver prints from here on goes to stderr.
    channel = stdio_channel()
    settings = configuration.load(config or configuration.default_path())
    log_to_stderr(screen, settings.gateway.log_level)
    gateway = build(settings)
    gone = threading.Event()

    def body(stop: Stop) -> None:
        conn = gateway.serve_channel(channel)
        conn.on_lost.append(lambda _: gone.set())
        while not (gone.is_set() or conn.closed or stop.is_set):
            gone.wait(POLL_S)

    ctx.exit(run(screen, gateway, body, start=gateway.open_devices))
