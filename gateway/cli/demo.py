"""`gateway demo`: a bench that everybody has."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import click

from gateway.app import Gateway, run_bench
from gateway.channels import listen
from gateway.cli.demo_client import Demonstration
from gateway.cli.main import subcommand
from gateway.cli.running import Stop, announce, document, log_to_stderr, run, wait_advertised
from gateway.cli.screen import Screen
from gateway.config import DEFAULT_LISTEN
from gateway.errors import ConfigError

ANY_PORT: Final = "tcp://127.0.0.1:0"


@subcommand("demo")
@click.option("--client", "--once", is_flag=True, help="Run a client against it too, show what it does, and end.")
@click.option("--name", default="demo", show_default=True, help="The name to be found by.")
@click.option("--listen", "url", metavar="URL", help=f"Where to listen; default: {DEFAULT_LISTEN}, or a free port.")
@click.pass_context
def command(ctx: click.Context, screen: Screen, client: bool, name: str, url: str | None) -> None:
    """Start three simulated instruments and a gateway that serves them, on this computer only.

    A power supply, a multimeter and a board with a console, each a process of its own at the far end of a serial line.

    JSON, once it serves: what `gateway serve` prints. With --client, and at the end: the same with "client":
    {"found_in_s", "url", "power_supply": [...], "readings": [...], "console", "refused": {...}, "left": {"output",
    "voltage"}}; "left" is how the supply was after its lease.
    """
    log_to_stderr(screen, "warning")
    screen.line("starting three simulated instruments, each at the far end of a serial line of its own", style="dim")
    with run_bench("demo", name=name, listen=url or _free_url()) as gateway:

        def body(stop: Stop) -> None:
            wait_advertised(screen, gateway, stop)
            if client:
                stop.interrupts = True
                _run_client(screen, gateway)
            elif not stop.is_set:
                announce(screen, gateway, advice=False)
                _say_what_to_paste(screen, gateway)
                stop.wait()

        ctx.exit(run(screen, gateway, body))


def _run_client(screen: Screen, gateway: Gateway) -> None:
    form = document(gateway)
    if not screen.as_json:
        announce(screen, gateway, advice=False)
    shown = Demonstration(screen, gateway.name, gateway.url).run()
    screen.document({**form, "client": shown})


def _free_url() -> str:
    """The default place, or a free port where another gateway has that."""
    try:
        listen(DEFAULT_LISTEN).close()
    except ConfigError:
        return ANY_PORT
    return DEFAULT_LISTEN


def _say_what_to_paste(screen: Screen, gateway: Gateway) -> None:
    # By URL where the network carries no multicast.
    where = gateway.name if gateway.advertised else gateway.url
    script = f"import gateway; print(gateway.connect({json.dumps(where)}).root.dmm1.voltage_dc)"
    command = _program("gateway")
    screen.line()
    screen.line("in another terminal:", style="dim")
    screen.line(f"  {command} lease psu1 -- {command} call psu1.set_voltage 3.3", style="cyan")
    screen.line(f"  {_program('python')} -c {shlex.quote(script)}", style="cyan")
    screen.line()
    screen.line("Ctrl-C ends it", style="dim")


def _program(name: str) -> str:
    """What to type for a program of this environment: its name if that finds it, else its path."""
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None and Path(found) == here:
        return name
    path: Any = here
    if here.is_relative_to(Path.cwd()):
        path = here.relative_to(Path.cwd())
    return shlex.quote(str(path)) if here.exists() else f"python -m {name}"
