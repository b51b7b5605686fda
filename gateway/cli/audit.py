"""`gateway audit verify` and `gateway audit show`: the record of what was done through a gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from gateway.cli.exits import Exit
from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.config import nearest
from gateway.discovery.identity import state_path
from gateway.errors import ConfigError
from gateway.server.audit import Mark, Record, last_records, verify

AUDIT_FILE: Final = "audit.jsonl"
MAX_SHOWN: Final = 100_000

_KNOWN: Final = re.compile(r"([0-9]{1,20}):([0-9a-f]{64})")


def default_path() -> Path:
    """Where a gateway of this user keeps its audit log: beside its id."""
    return state_path().with_name(AUDIT_FILE)


def _path(given: str | None) -> Path:
    return Path(given) if given is not None else default_path()


@subcommand("verify")
@click.argument("path", required=False)
@click.option("--known", metavar="NUMBER:HASH", help="A record that was noted before: it must still be there.")
def verify_command(screen: Screen, path: str | None, known: str | None) -> None:
    """Check that nothing in the audit log was changed, removed, inserted or put in another order.

    PATH is the log's file (default: that of this user's gateway); the older files beside it belong to it. The log may
    be in use. Exit code 1 says that something is wrong.

    JSON: {"path", "ok", "files", "records", "first", "last", "hash", "since", "until", "torn", "findings": [{"file",
    "line", "what"}], "more"}.
    """
    log = _path(path)
    with screen.busy(f"reading {log}"), _readable(log):
        report = verify(log, _mark(known))
    screen.document({"path": str(log), "ok": report.ok, **asdict(report)})
    for finding in report.findings:
        place = f"{finding.file}:{finding.line}" if finding.line else finding.file
        screen.line(f"{place}: {finding.what}", style="red")
    if report.more:
        screen.line(f"... and {report.more} more", style="red")
    if report.torn:
        screen.line(f"{report.torn} holds the ends of lines that a crash cut", style="yellow")
    if report.last is not None:
        files = "1 file" if len(report.files) == 1 else f"{len(report.files)} files"
        screen.line(f"{report.records} records in {files}, {report.since} to {report.until}")
        screen.line(f"the last one is {report.last}:{report.hash}")
    if not report.ok:
        screen.line("the audit log is not whole", style="bold red")
        raise click.exceptions.Exit(Exit.RAISED)
    screen.line("the audit log is whole" if report.records else "the audit log is empty", style="green")


@subcommand("show")
@click.argument("path", required=False)
@click.option("--device", metavar="NAME", help="Only what concerns this device.")
@click.option(
    "--last",
    type=click.IntRange(1, MAX_SHOWN),
    default=20,
    show_default=True,
    metavar="N",
    help="Show so many records.",
)
def show_command(screen: Screen, path: str | None, device: str | None, last: int) -> None:
    """Show the last records of the audit log, without checking it.

    PATH is the log's file (default: that of this user's gateway).

    JSON: {"path", "records": [{"seq", "prev", "time", "identity", "peer", "device", "method", "arguments", "outcome",
    "duration_s", "lease", "note", "hash"}]}.
    """
    log = _path(path)
    with screen.busy(f"reading {log}"), _readable(log):
        records = last_records(log, last, device)
    screen.document({"path": str(log), "records": [{**record.fields, "hash": record.hash} for record in records]})
    screen.table(
        ("number", "time", "who", "from", "what", "outcome", "s", "lease", "note"),
        [_row(record) for record in records],
        empty="no record" if device is None else f"no record of {device}",
    )


class _Commands(click.Group):
    """Two words on the command line; what is wrong in the second one is said as in the first."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}; {nearest(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group("audit", cls=_Commands, commands={"verify": verify_command, "show": show_command})
def command() -> None:
    """Check or show the record of what was done through a gateway, by whom, and of what was refused."""


@contextmanager
def _readable(log: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise ConfigError(f"the audit log {log} can't be read: {problem.strerror or problem}") from None


def _mark(known: str | None) -> Mark | None:
    if known is None:
        return None
    found = _KNOWN.fullmatch(known)
    if found is None:
        raise click.BadParameter("it is NUMBER:HASH, as `gateway audit verify` prints it", param_hint="--known")
    return Mark(int(found[1]), found[2])


def _row(record: Record) -> tuple[str, ...]:
    def text(name: str) -> str:
        value = record.fields.get(name)
        return "" if value is None else str(value)

    called = f"{text('method')}({text('arguments')})" if text("device") else text("method")
    return (
        str(record.seq),
        text("time"),
        text("identity"),
        text("peer"),
        f"{text('device')}.{called}" if text("device") else called,
        text("outcome") if record.intact else "changed",
        text("duration_s"),
        text("lease"),
        text("note"),
    )
