"""`gateway list`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from gateway.cli.main import subcommand
from gateway.cli.reach import BROWSE_S, nobody
from gateway.cli.screen import Screen
from gateway.discovery import FoundGateway, survey


@subcommand("list")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=60, min_open=True),
    default=BROWSE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen.",
)
def command(screen: Screen, timeout: float) -> None:
    """Find the gateways on the network, and those with a fixed address.

    Where multicast does not work, name them in the environment: INSTRUMENT_GATEWAYS="bench=tcp://10.0.0.5:18871".

    JSON: {"gateways": [{"name", "url", "source", "addresses", "port", "id", "version", "devices", "tls"}],
    "asked": [...], "troubles": [...]}. No gateway is no error.
    """
    with screen.busy("looking for gateways"):
        seen = survey(timeout)
    screen.document(
        {
            "gateways": [_document(found) for found in seen.gateways],
            "asked": list(seen.asked),
            "troubles": list(seen.troubles),
        }
    )
    screen.table(
        ("name", "address", "devices", "version"),
        [(found.name, found.shown_url, _known(found.devices), _known(found.version)) for found in seen.gateways],
        empty=nobody(seen),
    )
    if seen.gateways and not screen.as_json:
        for trouble in seen.troubles:
            screen.note(f"not asked on {trouble}", style="yellow")


def _document(found: FoundGateway) -> dict[str, Any]:
    return {**asdict(found), "url": found.shown_url, "addresses": list(found.addresses)}


def _known(fact: object) -> str:
    return "" if fact is None else str(fact)
