"""`gateway trust NAME_OR_ADDRESS`."""

from __future__ import annotations

import click

from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.discovery import locate
from gateway.errors import NotFound
from gateway.identity import trust
from gateway.identity.pairing import ClientSide
from gateway.identity.pairing_net import DEFAULT_PORT, pair_with
from gateway.identity.trust import Trusted, TrustStore

BROWSE_S = 3.0


@subcommand("trust")
@click.argument("where", metavar="NAME_OR_ADDRESS")
@click.option("--code", help="The code that `gateway pair` printed; asked for where it is not given.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(1, 65535), help="Where it waits.")
@click.option("--as", "name", metavar="NAME", help="What to call the gateway here; default: what it calls itself.")
@click.option("--me", metavar="NAME", help="What the gateway shall call this client; default: USER@HOST.")
@click.option("--forget", is_flag=True, help="Remove the gateway, and this client's key for it, instead.")
def command(
    screen: Screen, where: str, code: str | None, port: int, name: str | None, me: str | None, forget: bool
) -> None:
    """Pair this computer with a gateway, by the code that `gateway pair` prints there.

    Afterwards `gateway.connect("NAME")` works, and believes nobody else to be that gateway.

    JSON: {"name", "id", "address", "client", "folder", "rpyc"}; "rpyc" is the line for a stock rpyc client.
    """
    store = TrustStore()
    if forget:
        gone = store.forget(where)
        screen.document({"forgotten": gone.name, "id": gone.facts.id})
        screen.line(f"{gone.name} is forgotten; on the gateway: gateway clients revoke NAME")
        return
    host, called = _place(screen, where)
    typed = code if code is not None else click.prompt("code", prompt_suffix=": ", err=screen.as_json)
    side = ClientSide(str(typed), me or trust.own_name())
    with screen.busy(f"pairing with {where}"):
        paired = pair_with(host, port, side)
    facts = paired.facts(host, name or called)
    kept = store.keep(facts, ca=paired.ca, certificate=paired.certificate, key=paired.key)
    line = rpyc_line(kept.facts.host, kept.facts.port, str(kept.folder))
    screen.document(
        {
            "name": kept.name,
            "id": facts.id,
            "address": f"{facts.host}:{facts.port}",
            "client": paired.client,
            "folder": str(kept.folder),
            "rpyc": line,
        }
    )
    _tell(screen, kept, paired.client, line)


def _tell(screen: Screen, kept: Trusted, client: str, line: str) -> None:
    screen.line(f"paired with {kept.name!r}, which calls this computer {client!r}", style="green")
    screen.line(f"  conn = gateway.connect({kept.name!r})")
    screen.line(f"  its files are in {kept.folder}; with a stock rpyc:")
    screen.line(f"  {line}")


def rpyc_line(host: str, port: int, folder: str) -> str:
    """What a stock rpyc client writes. Without PROTOCOL_TLS_CLIENT rpyc would believe every CA of the system too."""
    files = ", ".join(
        f"{key}={f'{folder}/{file}'!r}"
        for key, file in (("keyfile", trust.KEY), ("certfile", trust.CERTIFICATE), ("ca_certs", trust.CA))
    )
    return f"conn = rpyc.ssl_connect({host!r}, {port}, {files}, ssl_version=ssl.PROTOCOL_TLS_CLIENT)"


def _place(screen: Screen, where: str) -> tuple[str, str | None]:
    """Where to go, and the name by which discovery knows the gateway there. Raises NotFound, Ambiguous."""
    if ":" in where or "." in where or where == "localhost":
        return where.removeprefix("[").removesuffix("]"), None
    try:
        with screen.busy(f"looking for {where}"):
            found = locate(where, BROWSE_S)
    except NotFound as problem:
        raise NotFound(f"{problem}; or give its address: gateway trust ADDRESS") from problem
    if not found.addresses:
        raise NotFound(f"{where!r} has a fixed URL, {found.shown_url}; give its address: gateway trust ADDRESS")
    return found.addresses[0], found.name
