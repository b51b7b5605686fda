"""`gateway clients list`, `gateway clients add`, `gateway clients revoke`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gateway.channels import DEFAULT_PORT
from gateway.cli.identities import folder_of, identity_option, role_options, roles_of
from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.cli.trust import rpyc_line
from gateway.identity.ca import Authority
from gateway.identity.clients import Client, Clients
from gateway.identity.grants import export


@click.group("clients")
def command() -> None:
    """Show, add and revoke the clients that may come in over TLS.

    Run it on the gateway's machine, as the gateway's user or with sudo, whether the gateway runs or not.
    """


@subcommand("list")
@click.option("--all", "every", is_flag=True, help="Revoked ones too.")
@identity_option
def list_(screen: Screen, every: bool, identity: str | None) -> None:
    """Show who may come in.

    JSON: {"clients": [{"name", "fingerprint", "role", "devices", "added", "seen", "revoked"}]}; times are ISO 8601 in
    UTC, or null. Revoked ones are in it with --all only.
    """
    clients = Clients(folder_of(identity))
    seen = clients.last_seen()
    shown = [client for client in clients.all() if every or client.revoked is None]
    screen.document({"clients": [_document(client, seen.get(client.fingerprint)) for client in shown]})
    screen.table(
        ("name", "role", "devices", "added", "last seen", "fingerprint", *(["revoked"] if every else [])),
        [
            (
                client.name,
                client.role,
                ", ".join(f"{device}={role}" for device, role in client.devices.items()),
                _day(client.added),
                _day(seen.get(client.fingerprint)),
                client.fingerprint[:16],
                *([_day(client.revoked)] if every else []),
            )
            for client in shown
        ],
        empty="no clients yet; let one in with `gateway pair`",
    )


@subcommand("add")
@click.argument("name")
@click.option(
    "--out", type=click.Path(file_okay=False), metavar="FOLDER", help="Where to put the files; default: ./NAME."
)
@click.option("--host", default="GATEWAY", metavar="ADDRESS", help="The gateway's address, for the printed line.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="Its port, for the printed line.")
@role_options
@identity_option
def add(
    screen: Screen,
    name: str,
    out: str | None,
    host: str,
    port: int,
    role: str,
    devices: tuple[str, ...],
    identity: str | None,
) -> None:
    """Make the files for a client that can't pair, such as a stock rpyc: its key, its certificate and the CA's.

    Carry the folder to the client by a way that you trust, and remove it here: who has the key is the client.

    JSON: {"name", "fingerprint", "role", "devices", "added", "seen", "revoked", "folder", "rpyc"}.
    """
    default, own = roles_of(role, devices)
    authority = Authority.open(folder_of(identity))
    folder = Path(out if out is not None else name)
    client = export(authority, Clients(authority.folder), name, folder, role=default, devices=own)
    line = rpyc_line(host, port, str(folder))
    screen.document({**_document(client, None), "folder": str(folder), "rpyc": line})
    screen.line(f"{client.name} may come in ({client.role}) with the files in {folder}", style="green")
    screen.line("  import rpyc, ssl")
    screen.line(f"  {line}")


@subcommand("revoke")
@click.argument("name", metavar="NAME_OR_FINGERPRINT")
@identity_option
def revoke(screen: Screen, name: str, identity: str | None) -> None:
    """Let a client in no more. A running gateway ends its connections within about a second.

    JSON: {"name", "fingerprint", "role", "devices", "added", "seen", "revoked"}.
    """
    clients = Clients(folder_of(identity))
    client = clients.revoke(name)
    screen.document(_document(client, clients.last_seen().get(client.fingerprint)))
    screen.line(f"{client.name} is revoked since {_day(client.revoked)}")


for _each in (list_, add, revoke):
    command.add_command(_each)


def _document(client: Client, seen: datetime | None) -> dict[str, Any]:
    return {
        "name": client.name,
        "fingerprint": client.fingerprint,
        "role": client.role,
        "devices": client.devices,
        "added": client.added.isoformat(),
        "seen": None if seen is None else seen.isoformat(),
        "revoked": None if client.revoked is None else client.revoked.isoformat(),
    }


def _day(when: datetime | None) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M}"
