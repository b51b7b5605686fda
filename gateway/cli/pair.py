"""`gateway pair`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from gateway import config as configuration
from gateway.channels import DEFAULT_PORT, parse_url
from gateway.cli.exits import Exit
from gateway.cli.identities import identity_option, role_options, roles_of
from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.config import GatewaySection
from gateway.discovery import stable_id
from gateway.discovery.interfaces import local_interfaces
from gateway.errors import Unauthenticated
from gateway.identity.ca import Authority
from gateway.identity.clients import Clients
from gateway.identity.grants import Granter
from gateway.identity.pairing import LIFETIME_S, Invitation, new_code
from gateway.identity.pairing_net import DEFAULT_PORT as PAIRING_PORT
from gateway.identity.pairing_net import PairingDesk


@subcommand("pair")
@click.option("--config", type=click.Path(), help="The gateway's config; default: the one `gateway stdio` would take.")
@role_options
@click.option("--listen", "host", default="", metavar="ADDRESS", help="Wait at this address only; default: at all.")
@click.option(
    "--port", default=PAIRING_PORT, show_default=True, type=click.IntRange(0, 65535), help="Wait at this port."
)
@identity_option
@click.pass_context
def command(
    ctx: click.Context,
    screen: Screen,
    config: str | None,
    role: str,
    devices: tuple[str, ...],
    host: str,
    port: int,
    identity: str | None,
) -> None:
    """Let one client in: prints a code that is good once, for two minutes.

    Run it on the gateway's machine, as the gateway's user or with sudo, whether the gateway runs or not. On the client,
    `gateway trust NAME_OR_ADDRESS` asks for the code. After three wrong codes this one is dead.

    JSON, once it waits: {"code", "seconds", "addresses", "port", "name", "id"}. The exit code says whether a client was
    paired.
    """
    default, own = roles_of(role, devices)
    settings = _settings(config)
    listen = None if settings is None else parse_url(settings.listen)
    authority = Authority.open(_folder(identity, listen))
    granter = Granter(
        authority=authority,
        clients=Clients(authority.folder),
        name=GatewaySection().name if settings is None else settings.name,
        id=stable_id(),
        port=(listen.port if listen is not None else None) or DEFAULT_PORT,
        role=default,
        devices=own,
    )
    code = new_code()
    invitation = Invitation(code, now=time.monotonic())
    desk = PairingDesk(invitation, granter.grant, host=host, port=port)
    addresses = [host] if host else _addresses()
    if listen is not None and listen.scheme != "tls":
        screen.note(
            f'this gateway listens at {listen}: paired clients need listen = "tls://0.0.0.0:{granter.port}" in its '
            "table [gateway]",
            style="yellow",
        )
    screen.document(
        {
            "code": code,
            "seconds": LIFETIME_S,
            "addresses": addresses,
            "port": desk.port,
            "name": granter.name,
            "id": granter.id,
        }
    )
    screen.line(f"code: {code}", style="bold")
    screen.line(f"  good for one client, for {LIFETIME_S:g} seconds")
    where = "" if desk.port == PAIRING_PORT else f" --port {desk.port}"
    for address in addresses or ["ADDRESS"]:
        screen.line(f"  on the client: gateway trust {address}{where}")
    with screen.busy("waiting for the client"):
        over = desk.run()
    for failure in desk.failures:
        screen.note(f"refused: {failure}", style="yellow")
    client = granter.granted
    if client is None:
        if not screen.as_json:
            raise Unauthenticated(f"no client was paired: {over}")
        screen.note(f"no client was paired: {over}")  # the one document has been printed
        ctx.exit(Exit.RAISED)
    others = "".join(f", {device}: {role}" for device, role in client.devices.items())
    screen.line(f"paired: {client.name} ({client.role}{others})", style="green")
    screen.line(f"  to take it back: gateway clients revoke {client.name!r}")


def _settings(config: str | None) -> GatewaySection | None:
    path = Path(config) if config is not None else configuration.default_path()
    if config is None and not path.exists():
        return None
    return configuration.load(path).gateway


def _folder(identity: str | None, listen: Any) -> Path | None:
    """Where the gateway's identity is: as told, or as its config says, or the usual place."""
    given = identity or (getattr(listen.options, "identity", None) if listen is not None else None)
    return Path(given) if given else None


def _addresses() -> list[str]:
    return [each.address for each in local_interfaces() if not each.is_loopback and "%" not in each.address]
