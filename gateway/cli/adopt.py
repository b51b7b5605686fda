"""`gateway adopt`: from plugged in to served."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.adopt import (
    KnownDriver,
    Proposal,
    Seen,
    ask_all,
    may_be_asked,
    on_network,
    plugged_in,
    propose,
    read_current,
    recognised,
    taken_names,
    write_proposal,
)
from gateway.cli.main import config_path, subcommand
from gateway.cli.screen import Screen, printable
from gateway.config import Config
from gateway.discovery import browse_instruments
from gateway.drivers import installed_drivers
from gateway.hardware import entries_of
from gateway.hardware.matching import BAUDRATES


@subcommand("adopt")
@click.option("--config", type=click.Path(), help="The config file; default: the one that `gateway serve` would take.")
@click.option("--port", "ports", multiple=True, metavar="PATH", help="Look at this port only; may be repeated.")
@click.option("--probe", is_flag=True, help="Send *IDN? to every port that is free, without asking for each.")
@click.option("--baudrate", "baudrates", type=int, multiple=True, help="Try this speed only; may be repeated.")
@click.option("--lan/--no-lan", default=True, help="Look on the network too.  [default: lan]")
@click.option(
    "--timeout", default=2.0, type=click.FloatRange(min=0.1, max=60), help="Seconds to listen on the network."
)
@click.option("--yes", is_flag=True, help="Write every proposal without asking.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would be written.")
def command(
    screen: Screen,
    config: str | None,
    ports: tuple[str, ...],
    probe: bool,
    baudrates: tuple[int, ...],
    lan: bool,
    timeout: float,
    yes: bool,
    dry_run: bool,
) -> None:
    """Find instruments that are not in the config yet, and write them into it.

    Looks at what is plugged in, and at what says on the network that it is an instrument. Asks those who they are
    (*IDN?) that you agree to, shows what the config could say about each, and writes devices.d/NAME.toml after a yes. A
    port that another program has open is never asked.

    Without a terminal, --probe agrees to asking and --yes to writing.

    JSON, for which nothing is written without --yes: {"config", "proposals": [{"name", "driver", "where", "identity",
    "table", "text", "written"}], "others": [{"where", "transport", "identity", "device", "note"}], "troubles": [...]}.
    """
    path = config_path(config)
    current = read_current(path)
    drivers = [KnownDriver.of(name, driver) for name, driver in installed_drivers().items()]
    seen, troubles = _look(screen, current, ports, timeout if lan else None)
    agreed = _agreed(screen, seen, probe)
    with screen.busy("asking *IDN?"):
        asked = ask_all(seen, lambda each: each.where in agreed, baudrates=baudrates or BAUDRATES)
    seen = recognised(asked, entries_of(current))
    proposals = propose(seen, drivers, entries_of(current), taken_names(path, current))
    _show(screen, proposals, seen, troubles)
    written = _write(screen, path, proposals, yes=yes and not dry_run, dry_run=dry_run)
    screen.document(
        {
            "config": path,
            "proposals": [_document(each, written.get(each.name)) for each in proposals],
            "others": [
                {key: getattr(each, key) for key in ("where", "transport", "identity", "device", "note")}
                for each in _others(seen, proposals)
            ],
            "troubles": troubles,
        }
    )


def _look(
    screen: Screen, current: Config, ports: tuple[str, ...], listen_s: float | None
) -> tuple[list[Seen], list[str]]:
    seen = plugged_in(entries_of(current), ports)
    if listen_s is None:
        return seen, []
    with screen.busy("listening on the network"):
        found = browse_instruments(listen_s)
    known = {port for section in current.devices if isinstance(port := section.options.get("port"), str)}
    return [*seen, *on_network(found.found, known)], list(found.troubles)


def _agreed(screen: Screen, seen: list[Seen], probe: bool) -> set[str]:
    """Where *IDN? may be sent: everywhere by --probe, else where the user says yes."""
    askable = [each.where for each in seen if may_be_asked(each)]
    if probe:
        return set(askable)
    if screen.as_json or not sys.stdin.isatty():
        return set()
    if askable:
        screen.line('Asking sends "*IDN?" at several speeds; what is no instrument may take that for something else.')
    return {where for where in askable if click.confirm(f"ask {printable(where)}?", default=False, err=True)}


def _show(screen: Screen, proposals: list[Proposal], seen: list[Seen], troubles: list[str]) -> None:
    screen.table(
        ("name", "driver", "found by", "identity"),
        [(each.name, each.driver, each.found_by, each.seen.identity) for each in proposals],
        empty="nothing to adopt",
    )
    others = _others(seen, proposals)
    if others:
        screen.line()
        screen.table(("also there", "identity", "note"), [(each.where, each.identity, _note(each)) for each in others])
    if not screen.as_json:
        if any(each.note == "not asked" for each in others):
            screen.note("what was not asked is asked with --probe, or on a terminal after a yes", style="yellow")
        for trouble in troubles:
            screen.note(f"not looked on {trouble}", style="yellow")


def _others(seen: list[Seen], proposals: list[Proposal]) -> list[Seen]:
    proposed = {each.seen.where for each in proposals}
    return [each for each in seen if each.where not in proposed]


def _note(seen: Seen) -> str:
    if seen.identity and not seen.device and not seen.note:
        return "no installed driver is for it" + ("" if seen.transport == "serial" else f" over {seen.transport}")
    return seen.note


def _write(screen: Screen, path: str, proposals: list[Proposal], *, yes: bool, dry_run: bool) -> dict[str, str]:
    """Name -> file, of what was written."""
    written: dict[str, str] = {}
    asks = not yes and not dry_run and not screen.as_json and sys.stdin.isatty()
    for each in proposals:
        if asks or dry_run:
            screen.line()
            screen.line(f"devices.d/{each.name}.toml:", style="bold")
            for line in each.text.splitlines():
                screen.line(f"  {line}")
        if yes or (asks and click.confirm(f"write it beside {path}?", default=False, err=True)):
            written[each.name] = write_proposal(path, each)
            screen.line(f"wrote {written[each.name]}", style="green")
    if written:
        screen.line(f"serve it: gateway serve {path} (one that runs takes it up by SIGHUP)", style="dim")
    elif proposals and not asks and not dry_run and not screen.as_json:
        screen.note("nothing was written; --yes writes it", style="yellow")
    return written


def _document(proposal: Proposal, written: str | None) -> dict[str, Any]:
    return {
        "name": proposal.name,
        "driver": proposal.driver,
        "where": proposal.seen.where,
        "identity": proposal.seen.identity,
        "table": dict(proposal.table),
        "text": proposal.text,
        "written": written,
    }
