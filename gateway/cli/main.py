"""The group of commands and the one place where an exception becomes a line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from gateway.cli.exits import Exit, failure
from gateway.cli.screen import Screen
from gateway.config import default_path, nearest

COMMANDS: Final = {
    "demo": "Start three simulated instruments and a gateway that serves them.",
    "serve": "Serve the instruments of a config file.",
    "check": "Find every mistake in a config file, without touching hardware.",
    "adopt": "Find instruments that are not in the config yet, and write them into it.",
    "disable": "Take a device out of use, with a reason for who calls it.",
    "enable": "Put a disabled device back into use.",
    "host": "Serve the instruments of a config file to a gateway, over a serial line.",
    "list": "Find the gateways on the network.",
    "describe": "Show a gateway's devices, or one device's members.",
    "read": "Read a property of a device.",
    "watch": "Show a property of a device as it changes.",
    "call": "Call a method of a device.",
    "shell": "Open a Python prompt with the gateway connected.",
    "lease": "Run a command while you have devices to yourself, or show who has which.",
    "estop": "Stop everything: bring every device to its safe state, and keep it there.",
    "test-safe": "Bring a device to its safe state, and see whether it got there.",
    "policy": "Explain what a client may do with a device, and by which rule.",
    "pair": "Let a client in: prints a one-time code, on the gateway's machine.",
    "trust": "Pair this computer with a gateway, by the code that it printed.",
    "clients": "Show, add and revoke the clients of this machine's gateway.",
    "audit": "Check or show the record of what was done through a gateway.",
    "ports": "List this machine's serial ports and USB devices.",
    "udev": "Let people open a USB device.",
    "firmware": "Look at, reset and fill the boards that speak the protocol themselves.",
    "service": "Make the gateway a service that starts at boot: install, uninstall, show.",
    "doctor": "Find out why the gateway does not work here, and print the fix.",
    "stdio": "Serve a config over stdin and stdout, for ssh://host.",
}


class LazyGroup(click.Group):
    """Imports a command's module when it is run, so that `gateway --help` and `gateway ports` start quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}; {nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = importlib.import_module(f"gateway.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 the call raised, 2 wrong usage or config, 3 not found or ambiguous, "
    "4 unreachable or timed out, 130 Ctrl-C.",
)
@click.version_option(package_name="instrument-gateway", prog_name="gateway", message="%(prog)s %(version)s")
def group() -> None:
    """Instruments on the network, as Python objects."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Never raises, never shows a traceback without `--debug`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    screen = _screen(words)
    try:
        _tolerant_streams()
        # Not click's own main(): it takes every EOFError, which LinkDown is, for Ctrl-D.
        with group.make_context("gateway", words, obj=screen) as context:
            group.invoke(context)
        sys.stdout.flush()
        return Exit.OK
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as problem:
        problem.show(sys.stderr)
        return Exit.USAGE
    except BrokenPipeError:
        # The reader of our output has gone, as in `gateway list | head`; the interpreter's own flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.RAISED
    except (Exception, KeyboardInterrupt) as problem:  # noqa: BLE001 - a command ends in one line, whatever happened
        if screen.debug and not isinstance(problem, KeyboardInterrupt | click.ClickException):
            traceback.print_exc()
        failed = failure(problem)
        screen.failed(failed)
        return failed.exit


def subcommand(name: str, **settings: Any) -> Callable[[Callable[..., None]], click.Command]:
    """Decorator: a command with the options every command has. Its function gets the `Screen` first."""
    kind: type[click.Command] = settings.pop("cls", click.Command)

    def decorate(function: Callable[..., None]) -> click.Command:
        decorated: Callable[..., Any] = click.pass_obj(function)
        debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
        as_json = click.option("--json", is_flag=True, expose_value=False, help="Print one JSON document on stdout.")
        return click.command(name=name, cls=kind, **settings)(debug(as_json(decorated)))

    return decorate


def config_path(*named: str | None) -> str:
    """The config that a command line names in one of several ways, or the default. Raises click.UsageError for two."""
    paths = [path for path in named if path is not None]
    if len(paths) > 1:
        raise click.UsageError("the config is named twice", click.get_current_context())
    return paths[0] if paths else str(default_path())


def _screen(words: Sequence[str]) -> Screen:
    # Looked up before click parses, so that errors of the parsing itself have the wanted form.
    flags = words[: words.index("--")] if "--" in words else words
    subcommand = next((word for word in words if not word.startswith("-")), "")
    return Screen(as_json="--json" in flags, debug="--debug" in flags, wire_on_stdout=subcommand == "stdio")


def _tolerant_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character shows an escape instead of ending the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
