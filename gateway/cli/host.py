"""`gateway host --serial URL --config FILE`, or with --usb: an instrument host."""

from __future__ import annotations

import click
from msgspec.structs import replace

from gateway import config as configuration
from gateway.app import build
from gateway.channels import parse_url
from gateway.cli.main import subcommand
from gateway.cli.running import Stop, document, log_to_stderr, run, show_devices
from gateway.cli.screen import Screen


@subcommand("host")
@click.option("--serial", "line", metavar="URL", help="Where the gateway's line ends, as a serial:// URL.")
@click.option(
    "--usb",
    "gadget",
    metavar="URL",
    is_flag=False,
    flag_value="gadget://",
    help="Be a USB device that the gateway opens as usb://: gadget://VID:PID/SERIAL, or nothing.",
)
@click.option("--config", "path", type=click.Path(), required=True, metavar="FILE", help="The config file.")
@click.pass_context
def command(ctx: click.Context, screen: Screen, line: str | None, gadget: str | None, path: str) -> None:
    """Serve the instruments that FILE names to the gateway at the other end of a serial line or a USB cable, until
    SIGTERM or Ctrl-C.

    In the gateway's config a table [hosts.NAME] with the line's url makes them NAME.DEVICE there. `listen`, `advertise`
    and `name` in FILE do not count here. Every device is brought to its safe state at the end.

    JSON, once it serves: that of `gateway serve`.
    """
    if (line is None) == (gadget is None):
        raise click.UsageError("give --serial URL or --usb, one of them")
    url = str(line if gadget is None else gadget)
    parse_url(url)  # a mistake in it is the command's, and is told before the file is read
    settings = configuration.load(path)
    log_to_stderr(screen, settings.gateway.log_level)
    gateway = build(replace(settings, gateway=replace(settings.gateway, listen=url, advertise=False)), as_host=True)

    def body(stop: Stop) -> None:
        if not stop.is_set:
            screen.document(document(gateway))
            screen.line(f"serving at {gateway.url}", style="bold")
            screen.line("  the gateway at the other end of the line, and nobody else, can use the instruments")
            show_devices(screen, gateway)
        stop.wait()

    ctx.exit(run(screen, gateway, body))
