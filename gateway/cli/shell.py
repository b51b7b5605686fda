"""`gateway shell`: a Python prompt with a gateway connected."""

from __future__ import annotations

import ast
import code
import io
import os
import rlcompleter
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Final

import click

import gateway
from gateway.cli.exits import one_line
from gateway.cli.lease import Waiting
from gateway.cli.main import subcommand
from gateway.cli.reach import Reached, gateway_options, reached
from gateway.cli.screen import Screen, printable
from gateway.cli.values import as_json
from gateway.errors import GatewayError, LeaseLost
from gateway.sync.leasing import Lease
from gateway.sync.netref import BaseNetref

HISTORY_LINES: Final = 1000


@subcommand("shell")
@click.option("-c", "--command", "source", metavar="CODE", help="Run CODE, print its last value, and end.")
@gateway_options
@click.pass_context
def command(ctx: click.Context, screen: Screen, source: str | None, where: str | None, timeout: float) -> None:
    """Open a Python prompt with a gateway connected: every device by its own name, and conn, root and gateway.

    lease("psu1") gets the lease that controlling a device may take; it ends with .release() and with the prompt. Tab
    completes names and members without asking the instruments. Ctrl-D ends it.

    JSON needs --command: {"gateway", "output": what it printed, "value": its last value}.
    """
    if screen.as_json and source is None:
        raise click.UsageError("--json needs --command CODE")
    with reached(screen, where, timeout) as at:
        names = {"conn": at.conn, "root": at.root, "gateway": gateway, "lease": Leases(screen, at)}
        # The devices of an instrument host are attributes of it.
        devices = {
            name: getattr(at.root, name) for name in dict.fromkeys(each.partition(".")[0] for each in at.root.names())
        }
        try:
            if source is not None:
                _run_once(screen, at, source, names | devices)
            else:
                _prompt(screen, at, names | devices, devices)
        except SystemExit as leave:
            ctx.exit(_exit_code(leave))


def _run_once(screen: Screen, at: Reached, source: str, names: dict[str, Any]) -> None:
    printed = io.StringIO()
    if not screen.as_json:
        value = _execute(source, names)
        if value is not None:
            screen.line(repr(value))
        return
    with redirect_stdout(printed):
        value = _execute(source, names)
        form = as_json(value)
    screen.document({"gateway": at.where, "output": printed.getvalue(), "value": form})


def _execute(source: str, names: dict[str, Any]) -> Any:
    """Run `source`; the value of its last statement if that is an expression."""
    try:
        tree = ast.parse(source, "<command>")
    except (SyntaxError, ValueError) as problem:
        raise click.UsageError(f"--command is not Python: {problem}") from problem
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<command>", "exec"), names)  # noqa: S102 - running the user's own code is what this is for
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "<command>", "eval"), names)  # noqa: S307


def _prompt(screen: Screen, at: Reached, names: dict[str, Any], devices: dict[str, Any]) -> None:
    listed = ", ".join(f"{name} ({device['driver']})" for name, device in at.describe().items())
    banner = f"connected to {at.where}: {listed or 'no devices'}"
    banner += "\nconn, root, gateway and lease(...) are there too; Ctrl-D ends"
    console = Prompt(names, screen.debug)
    if not sys.stdin.isatty():
        # Piped code: what it prints is all that should be seen.
        sys.ps1 = sys.ps2 = ""
        banner = ""
    with _line_editing(Completer(names, at, devices)):
        console.interact("\n".join(map(printable, banner.splitlines())), exitmsg="")


class Leases:
    """`lease("psu1")`: the lease of devices, and a word on what happens to it."""

    def __init__(self, screen: Screen, at: Reached) -> None:
        self._screen = screen
        self._at = at

    def __call__(self, *devices: str, **how: Any) -> Lease:
        """The right to control `devices`; waits for it. Takes what `conn.lease` takes."""
        waiting = Waiting(self._screen, devices)
        told = {"on_wait": waiting.show, "on_ask": self._asked, "on_lost": self._lost}
        with waiting:
            return self._at.conn.lease(*devices, **{**told, **how})

    def __repr__(self) -> str:
        return 'lease("psu1") gets a lease; .release() ends it'

    def _asked(self, by: str) -> bool:
        self._screen.note(f"{by} asks for a device that you have; you keep it until you .release() it", style="yellow")
        return False

    def _lost(self, lost: LeaseLost) -> None:
        self._screen.note(one_line(str(lost)), style="bold red")


class Prompt(code.InteractiveConsole):
    """A prompt that shows the gateway's errors, and Ctrl-C, in one line."""

    def __init__(self, names: dict[str, Any], debug: bool) -> None:
        super().__init__(names, "<gateway>")
        self._debug = debug

    def showtraceback(self) -> None:
        kind, problem, _ = sys.exc_info()
        if isinstance(problem, KeyboardInterrupt):
            self.write("\nKeyboardInterrupt\n")
        elif kind is not None and isinstance(problem, GatewayError) and not self._debug:
            self.write(f"{kind.__name__}: {printable(one_line(str(problem)))}\n")
        else:
            super().showtraceback()


class Completer(rlcompleter.Completer):
    """Completes members of proxies from what the gateway described: the stock way reads every property it meets."""

    def __init__(self, names: dict[str, Any], at: Reached, devices: dict[str, Any]) -> None:
        super().__init__(names)
        self._names = names
        self._at = at
        self._devices = devices
        self._members: dict[str, list[str]] = {}

    def attr_matches(self, text: str) -> list[str]:
        head, _, start = text.rpartition(".")
        try:
            members = self.members(head)
        except (GatewayError, OSError):
            members = []  # the link is down: the next statement says so
        if members is None:
            return super().attr_matches(text)
        return [f"{head}.{name}" for name in members if name.rstrip("(").startswith(start)]

    def members(self, head: str) -> list[str] | None:
        """What `head` has, if that is a proxy's name; None for anything local."""
        first, *rest = head.split(".")
        value = self._names.get(first)
        if value is self._at.conn and rest[:1] == ["root"]:
            value, rest = self._at.root, rest[1:]
        if not isinstance(value, BaseNetref):
            return None
        if value is self._at.root and rest:
            value = self._devices.get(rest.pop(0))
        if len(rest) == 1 and first in self._devices:
            return self._of_device(head)  # HOST.DEVICE
        if rest or value is None:
            return []
        name = next((name for name, device in self._devices.items() if device is value), None)
        return dir(value) if name is None else self._of_device(name)

    def _of_device(self, name: str) -> list[str]:
        if name not in self._members:
            rows = self._at.describe_device(name)["members"]
            self._members[name] = [row["name"] + ("" if row["kind"] == "property" else "(") for row in rows]
        return self._members[name]


@contextmanager
def _line_editing(completer: Completer) -> Iterator[None]:
    """Tab completion and a history that is kept, where there are a terminal and readline."""
    try:
        import readline
    except ImportError:
        readline = None  # type: ignore[assignment]
    if readline is None or not sys.stdin.isatty():
        yield
        return
    readline.set_completer(completer.complete)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    history = _history_file()
    with suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        readline.set_history_length(HISTORY_LINES)
        with suppress(OSError):
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)


def _history_file() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "instrument-gateway" / "shell_history"


def _exit_code(leave: SystemExit) -> int:
    if leave.code is None:
        return 0
    return leave.code if isinstance(leave.code, int) else 1
