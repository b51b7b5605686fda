"""`gateway policy explain`: who may do what, and by which rule."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from gateway.app import closed_station
from gateway.channels import parse_url
from gateway.cli.exits import Exit
from gateway.cli.identities import identity_option
from gateway.cli.main import config_path, subcommand
from gateway.cli.reach import split_member
from gateway.cli.screen import Screen
from gateway.cli.values import call_arguments
from gateway.config import Config, load
from gateway.identity.clients import Client, Clients
from gateway.identity.principal import Kind, Principal
from gateway.server.explained import Explanation, Rule, Verdict, explain_call
from gateway.server.principals import THIS_MACHINE

LOCAL: Final = "local"


@click.group("policy")
def command() -> None:
    """Explain what a client may do with a device. On the gateway's machine; whether the gateway runs or not."""


@subcommand("explain", context_settings={"ignore_unknown_options": True})
@click.argument("client")
@click.argument("target", metavar="DEVICE.MEMBER")
@click.argument("arguments", nargs=-1)
@click.option("--config", "config_file", type=click.Path(), metavar="FILE", help="The gateway's config file.")
@identity_option
@click.pass_context
def explain_command(
    ctx: click.Context,
    screen: Screen,
    client: str,
    target: str,
    arguments: tuple[str, ...],
    config_file: str | None,
    identity: str | None,
) -> None:
    """Say what would become of CLIENT reading, setting or calling DEVICE.MEMBER, rule by rule, without doing it.

    CLIENT is a name or fingerprint of `gateway clients list`, or `local` for whoever is on the gateway's machine.
    ARGUMENTS are those of `gateway call`; with one, a property is set. What depends on the moment - who has the lease,
    what an interlock reads - is named and not judged. Exit code 1 if a rule refuses it.

    JSON: {"client", "call", "access", "allowed", "rules": [{"rule", "verdict": "allowed", "refused" or "needed",
    "why"}]}.
    """
    device, member = split_member(target)
    positional, keywords = call_arguments(arguments)
    config = load(config_path(config_file))
    known = None if client == LOCAL else Clients(_folder(config, identity)).named(client)
    found = explain_call(closed_station(config, device), _principal(known), member, tuple(positional), keywords)
    rules = (*_revoked(known), *found.rules)
    allowed = all(rule.verdict is not Verdict.REFUSED for rule in rules)
    name = LOCAL if known is None else known.name
    screen.document(
        {
            "client": name,
            "call": found.call,
            "access": found.access,
            "allowed": allowed,
            "rules": [asdict(rule) for rule in rules],
        }
    )
    _show(screen, name, found, rules, allowed)
    if not allowed:
        ctx.exit(Exit.RAISED)


command.add_command(explain_command)


def _show(screen: Screen, client: str, found: Explanation, rules: tuple[Rule, ...], allowed: bool) -> None:
    screen.line(f"{client}: {found.call} ({found.access})", style="bold")
    screen.table(("rule", "verdict", "why"), [(rule.rule, rule.verdict.value, rule.why) for rule in rules])
    needed = [rule.rule for rule in rules if rule.verdict is Verdict.NEEDED]
    if not allowed:
        screen.line("refused", style="bold red")
    else:
        screen.line(f"allowed, given: {', '.join(needed)}" if needed else "allowed", style="green")


def _folder(config: Config, identity: str | None) -> Path | None:
    """Where the gateway of this config keeps its list of clients."""
    if identity is not None:
        return Path(identity)
    folder = getattr(parse_url(config.gateway.listen).options, "identity", None)
    return Path(folder) if folder else None


def _principal(client: Client | None) -> Principal:
    return Principal(name=LOCAL, kind=Kind.LOCAL, default=THIS_MACHINE) if client is None else client.principal


def _revoked(client: Client | None) -> tuple[Rule, ...]:
    if client is None or client.revoked is None:
        return ()
    return (Rule("identity", Verdict.REFUSED, f"{client.name} was revoked on {client.revoked:%Y-%m-%d}"),)
