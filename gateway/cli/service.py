"""`gateway service install|uninstall|show`: the gateway as a service of systemd."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import click

from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.systemd.install import Installer, Outcome, Step, Target
from gateway.systemd.unit import CONFIG, setting

_STYLES = {Outcome.DONE: "green", Outcome.WOULD: "cyan", Outcome.KEPT: "yellow", Outcome.SKIPPED: "yellow"}

_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/",
    metavar="DIR",
    help="Install into the system under DIR, such as a mounted image.",
)
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_command = click.option(
    "--command",
    "executable",
    metavar="PATH",
    help="The command that the service runs, an absolute path; default: this gateway.",
)


@click.group("service")
def command() -> None:
    """Make the gateway a service that starts at boot: install, uninstall, show.

    Its config is /etc/instrument-gateway/gateway.toml.
    """


@subcommand("install")
@_root
@_dry_run
@_command
@click.option("--no-start", is_flag=True, help="Enable the service, but don't start it now.")
def install(screen: Screen, root: Path, dry_run: bool, executable: str | None, no_start: bool) -> None:
    """Write the systemd unit and udev rules, create the service's user, enable the service and start it.

    It is started if there is a config, and not restarted if it runs. Repeat it after an upgrade: what is as it should
    be is left alone. Takes root.

    JSON: {"steps": [{"what", "outcome", "note"}]}. `outcome` is done, unchanged, would, kept or skipped.
    """
    with _Steps(screen) as steps:
        Installer(Target(root.resolve(), dry_run), steps).install(
            command=executable or this_command(), start=not no_start
        )


@subcommand("uninstall")
@_root
@_dry_run
@click.option("--purge", is_flag=True, help="Remove the config, the certificates and the audit log too.")
def uninstall(screen: Screen, root: Path, dry_run: bool, purge: bool) -> None:
    """Stop the service, which makes every device safe, and undo what `install` did.

    The config and /var/lib/instrument-gateway stay, and belong to root then. Takes root.

    JSON: that of `gateway service install`.
    """
    with _Steps(screen) as steps:
        Installer(Target(root.resolve(), dry_run), steps).uninstall(purge=purge)


@subcommand("show")
@_root
@_command
def show(screen: Screen, root: Path, executable: str | None) -> None:
    """Print the unit and the udev rules that `install` would write, and whether they are in place.

    JSON: {"installed", "up_to_date", "command", "config", "files": [{"path", "text", "state"}]}. `state` is same,
    different or missing.
    """
    target = Target(root.resolve())
    installer = Installer(target, lambda _: None)
    there = installer.installed()
    used = executable or _command_of(there) or this_command()
    files = [
        {"path": path, "text": text, "state": _state(target.read(path), text)}
        for path, text in installer.texts(used).items()
    ]
    screen.document(
        {
            "installed": there is not None,
            "up_to_date": all(file["state"] == "same" for file in files),
            "command": used,
            "config": CONFIG,
            "files": files,
        }
    )
    for file in files:
        screen.line(f"# {file['path']}: {_WORDS[file['state']]}", style="bold")
        for line in file["text"].splitlines():
            screen.line(line)
        screen.line()


for each in (install, uninstall, show):
    command.add_command(each)

_WORDS = {
    "same": "in place",
    "different": "another text is in place; `sudo gateway service install` writes this one",
    "missing": "not there; `sudo gateway service install` writes it",
}


def this_command() -> str:
    """The absolute path of the command `gateway` of the environment that runs now."""
    return str(Path(sys.executable).parent / "gateway")


def _command_of(unit: str | None) -> str | None:
    words = setting(unit or "", "ExecStart").rsplit(" serve ", 1)
    return words[0].strip('"').replace("%%", "%") or None


def _state(there: str | None, wanted: str) -> str:
    return "missing" if there is None else "same" if there == wanted else "different"


class _Steps:
    """Shows each step when it is done, and all of them as one document at the end."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._steps: list[dict[str, Any]] = []

    def __call__(self, step: Step) -> None:
        self._steps.append(asdict(step))
        note = f" ({step.note})" if step.note else ""
        self._screen.line(f"{step.outcome:9}  {step.what}{note}", style=_STYLES.get(step.outcome, "dim"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self._screen.document({"steps": self._steps})
