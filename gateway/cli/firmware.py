"""`gateway firmware info`, `reset`, `deploy`: boards that speak the protocol themselves."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from rich.progress import Progress

from gateway.channels import open_trunk
from gateway.cli.exits import one_line
from gateway.cli.leases import plain
from gateway.cli.main import subcommand
from gateway.cli.reach import gateway_options, reached
from gateway.cli.screen import Screen
from gateway.config.sections import RESETS

RESET_S: Final = 5.0
"""How long the port of `--port` may take to open."""
_LINE: Final = ("sessions", "resets", "crc_errors", "retransmissions", "overruns", "bytes_sent", "bytes_received")


@click.group("firmware")
def command() -> None:
    """Look at, reset and fill the boards that speak the protocol themselves."""


@subcommand("info")
@click.argument("board")
@gateway_options
def info(screen: Screen, board: str, where: str | None, timeout: float) -> None:
    """Show what the gateway knows of BOARD, one of its instrument hosts: firmware, restarts, its line.

    JSON: {"gateway", "name", "url", "state", "resets_by", "devices": [{"name", "driver", "state", "identity",
    "safe_state", "made_safe" ...}], "absences": [{"since", "until", "why"}], "line": {"sessions", "resets",
    "crc_errors" ...} or null}, and while it is away "since" and "problem".
    """
    with reached(screen, where, timeout) as at:
        known: dict[str, Any] = plain(at.root.host_info(board))
        screen.document({"gateway": at.where, **known})
        screen.line(f"{known['name']}: {known['state']}, at {known['url']}", style="bold")
        if "since" in known:
            screen.line(f"away since {known['since']}: {one_line(known['problem'])}", style="yellow")
        for device in known["devices"]:
            identity = one_line(device.get("identity") or "says nothing of its firmware")
            screen.line(f"{device['name']}: {device['driver']}, {device['state']}: {identity}")
            if device.get("safe_state"):
                report = device.get("made_safe")
                how = f" ({report['outcome']} {report['at']}: {one_line(report['why'])})" if report else ""
                screen.line(f"safe state: {device['safe_state']}{how}")
        screen.line(f"reset by: {known['resets_by'] or 'nothing; [hosts] has reset = ...'}")
        if known["line"] is not None:
            screen.line("line: " + ", ".join(f"{known['line'][name]} {name.replace('_', ' ')}" for name in _LINE))
        screen.line()
        screen.table(
            ("away since", "until", "why"),
            [(each["since"], each["until"], one_line(each["why"])) for each in known["absences"]],
            empty="it was not away since the gateway reached it first",
        )


@subcommand("reset")
@click.argument("board", required=False)
@click.option("--port", metavar="URL", help="The serial port of a board that no gateway has, instead of BOARD.")
@click.option("--by", type=click.Choice(RESETS), help="How, with --port; a gateway knows it from its config.")
@gateway_options
def reset(
    screen: Screen, board: str | None, port: str | None, by: str | None, where: str | None, timeout: float
) -> None:
    """Reset BOARD, one of the gateway's instrument hosts, by the control lines of its serial port.

    Calls that are under way end with an error, and it is back as soon as its firmware runs. It takes the role of an
    administrator.

    JSON: {"gateway", "board", "by"}, or {"port", "by"}.
    """
    if (board is None) == (port is None) or (port is None) != (by is None):
        raise click.UsageError("name a BOARD of a gateway, or the URL of a port with --port and --by")
    if port is not None and by is not None:
        with screen.busy(f"resetting {port}"), closing(open_trunk(port)) as trunk:
            trunk.reset(by, RESET_S)
        screen.document({"port": port, "by": by})
        screen.line(f"{port}: reset by {by}", style="green")
        return
    with reached(screen, where, timeout) as at:
        with screen.busy(f"resetting {board}"):
            at.root.reset_host(board)
            how = at.root.host_info(board)["resets_by"]
        screen.document({"gateway": at.where, "board": board, "by": how})
        screen.line(f"{board}: reset by {how}; `gateway firmware info {board}` shows when it is back", style="green")


@subcommand("deploy")
@click.option("--port", required=True, metavar="URL", help="The board's serial port, such as serial:///dev/ttyACM0.")
@click.option("--main", type=click.Path(dir_okay=False), metavar="FILE", help="Your main.py for the board.")
@click.option("--resume", is_flag=True, help="Don't reset the board first.")
def deploy(screen: Screen, port: str, main: str | None, resume: bool) -> None:
    """Copy the MicroPython library, and your main.py, to a board, and verify each file by its hash.

    What is there already is left alone. No gateway may hold the port meanwhile. It needs mpremote: the extra
    `firmware`.

    JSON: {"port", "files": [{"name", "done": "copied" or "the same already", "sha256"}]}.
    """
    # By its name, as drivers are found: the gateway itself stands on nothing that is for boards.
    steps = import_module("firmware_bridge.deploy").deploy(port, Path(main) if main else None, resume=resume)
    done = []
    with Progress(console=screen.err, transient=True, disable=not screen.err.is_terminal) as progress:
        task = progress.add_task(f"copying to {port}", total=None)
        for step in steps:
            progress.update(task, total=step.of, completed=step.number, description=f"copying {step.name}")
            done.append({"name": step.name, "done": step.done, "sha256": step.sha256})
    screen.document({"port": port, "files": done})
    screen.table(("file", "what", "sha256"), [(each["name"], each["done"], each["sha256"][:16]) for each in done])
    screen.line("deployed; reset the board to run it", style="green")


command.add_command(info)
command.add_command(deploy)
command.add_command(reset)
