"""`python -m devices.simulators KIND`: a simulated instrument as a process of its own.

Prints the path of its port as the first line and serves until SIGTERM, SIGINT or, with --until-eof, until its standard
input ends: a parent that dies in whatever way takes its simulators along.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import click

from devices.simulators.console import ConsoleBoard
from devices.simulators.instrument import Instrument
from devices.simulators.line import SimulatedLine, serve
from devices.simulators.multimeter import SimulatedMultimeter
from devices.simulators.power_supply import SimulatedPowerSupply

KINDS: Final[dict[str, Callable[[], Instrument]]] = {
    "power-supply": SimulatedPowerSupply,
    "multimeter": SimulatedMultimeter,
    "console": ConsoleBoard,
}


@click.command(help=__doc__)
@click.argument("kind", type=click.Choice(sorted(KINDS)))
@click.option("--link", type=click.Path(path_type=Path), help="Make a symbolic link to the port, and print that.")
@click.option("--until-eof", is_flag=True, help="Also end when standard input does.")
def main(kind: str, link: Path | None, until_eof: bool) -> None:
    stop_read, stop_write = os.pipe()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        os.write(stop_write, b"x")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with SimulatedLine(link) as line:
        print(line.path, flush=True)
        stops = (stop_read, sys.stdin.fileno()) if until_eof else (stop_read,)
        serve(line, KINDS[kind](), stop=stops)


if __name__ == "__main__":
    main(prog_name="python -m devices.simulators")
