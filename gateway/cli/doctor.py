"""`gateway doctor`: what is wrong with this computer, and the commands that mend it."""

from __future__ import annotations

import os
from typing import Any

import click

from gateway import config as configuration
from gateway.app import build
from gateway.cli.exits import Exit
from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.config import Config
from gateway.doctor import CHECKS, Examined, System, Verdict, examine
from gateway.doctor.subject import subject_of
from gateway.systemd.unit import CONFIG


@subcommand("doctor")
@click.option(
    "--config", "path", type=click.Path(), metavar="FILE", help=f"The config; default: {CONFIG}, else your own."
)
@click.option("--user", metavar="NAME", help="Who runs the gateway; default: the installed service's user, else you.")
@click.option(
    "--only",
    metavar="CHECK",
    multiple=True,
    type=click.Choice(list(CHECKS)),
    help="Only this check; may be repeated.",
)
@click.pass_context
def command(ctx: click.Context, screen: Screen, path: str | None, user: str | None, only: tuple[str, ...]) -> None:
    """Find out why the gateway does not work here, and print the commands that mend it. Changes nothing.

    Looks at Python, the config, serial ports, programs that grab them, USB, the network, certificates, the clock, the
    supply voltage, disk and memory. As root it sees more. Exit code 1 if there is a problem; warnings are none.

    JSON: {"verdict", "config", "user", "findings": [{"check", "verdict", "what", "fix": [...]}]}. `verdict` is ok,
    warning, problem or skipped; that of the whole is the worst.
    """
    system = System()
    chosen = os.path.abspath(path) if path else CONFIG if system.exists(CONFIG) else str(configuration.default_path())
    subject = subject_of(system, config=chosen, user=user, load=_load)
    with screen.busy("looking"):
        found = list(examine(system, subject, only or None))
    worst = verdict_of(found)
    screen.document(
        {
            "verdict": worst,
            "config": subject.config,
            "user": subject.user.name,
            "findings": [_row(each) for each in found],
        }
    )
    show(screen, found)
    ctx.exit(Exit.RAISED if worst is Verdict.PROBLEM else Exit.OK)


def _load(path: str) -> Config:
    """The config, with its drivers and their options checked. Raises ConfigError."""
    found = configuration.load(path)
    build(found)
    return found


def verdict_of(found: list[Examined]) -> Verdict:
    """The worst of all."""
    verdicts = {each.finding.verdict for each in found}
    return next((each for each in (Verdict.PROBLEM, Verdict.WARNING) if each in verdicts), Verdict.OK)


def show(screen: Screen, found: list[Examined]) -> None:
    """A table of all findings, then the fixes of those that have one, to be copied, and a count."""
    screen.table(("", "check", "finding"), [(each.finding.verdict, each.check, each.finding.what) for each in found])
    for each in found:
        if each.finding.fix:
            screen.line()
            screen.line(f"{each.check}: {each.finding.what}", style=_STYLES[each.finding.verdict])
            for line in each.finding.fix:
                screen.line(f"    {line}")
    counts = {verdict: sum(each.finding.verdict is verdict for each in found) for verdict in Verdict}
    problems, warnings, unseen = (counts[each] for each in (Verdict.PROBLEM, Verdict.WARNING, Verdict.SKIPPED))
    parts = [
        _counted(problems, "problem") if problems else "no problem",
        *([_counted(warnings, "warning")] if warnings else []),
        *([f"{unseen} not looked at"] if unseen else []),
    ]
    screen.line()
    screen.line(", ".join(parts), style="bold red" if problems else "bold yellow" if warnings else "bold green")


_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "red", Verdict.SKIPPED: "dim"}


def _row(each: Examined) -> dict[str, Any]:
    finding = each.finding
    return {"check": each.check, "verdict": finding.verdict, "what": finding.what, "fix": list(finding.fix)}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
