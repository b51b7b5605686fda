"""`gateway lease`: run a command under a lease, show who has what, end a lease by force."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from types import FrameType
from typing import Any, Final

import click

from gateway.cli.exits import one_line
from gateway.cli.leases import duration, holder_of, plain
from gateway.cli.main import subcommand
from gateway.cli.reach import ENVIRONMENT, Reached, gateway_options, reached
from gateway.cli.screen import Screen
from gateway.config import nearest
from gateway.errors import LeaseLost, NotFound
from gateway.sync.leasing import LEASE_VARIABLE, Lease

COMMAND_KEY: Final = "gateway.cli.lease.command"
_PASSED_ON: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_BY_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these to the command too."""
PROGRAM: Final = 60
"""Characters of the command that others see."""
SIGNALLED: Final = 128
"""The exit code of a command that a signal ended is this and the signal's number, as in a shell."""
CANNOT_RUN: Final = 126
NO_COMMAND: Final = 127


class LeaseCommand(click.Command):
    """Keeps what stands behind `--` as it is: the command to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            split = args.index("--")
            ctx.meta[COMMAND_KEY] = tuple(args[split + 1 :])
            if not ctx.meta[COMMAND_KEY]:
                raise click.UsageError("say behind -- which command to run", ctx)
            args = args[:split]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND [ARGS]...]"]


@subcommand("lease", cls=LeaseCommand)
@click.argument("devices", nargs=-1, metavar="[DEVICE]...")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait so long at most.")
@click.option("--no-wait", is_flag=True, help="Do not wait at all.")
@click.option("--ask", is_flag=True, help="Ask who has the devices to hand them over.")
@click.option("--soft", type=float, metavar="SECONDS", help="End the lease when nothing is done for so long.")
@click.option("--hard", type=float, metavar="SECONDS", help="End the lease after so long in any case.")
@click.option("--force", metavar="REASON", help="Take the devices from whoever has them. For administrators.")
@click.option("--yield", "yields", is_flag=True, help="Hand the devices over when somebody asks; default: keep them.")
@click.option("--release", metavar="DEVICE", help="End the lease of DEVICE, whoever has it. For administrators.")
@click.option("--reason", metavar="TEXT", help="With --release: what the holder is told.")
@gateway_options
@click.pass_context
def command(
    ctx: click.Context,
    screen: Screen,
    devices: tuple[str, ...],
    wait_s: float | None,
    no_wait: bool,
    ask: bool,
    soft: float | None,
    hard: float | None,
    force: str | None,
    yields: bool,
    release: str | None,
    reason: str | None,
    where: str | None,
    timeout: float,
) -> None:
    """Run COMMAND while you alone may control the DEVICEs; they are made safe when it ends.

    Programs in COMMAND that connect to the same gateway use the lease by themselves, whether by gateway.connect or by
    gateway call. The exit code is that of COMMAND; 1 if the lease was lost, and COMMAND then gets a SIGTERM.

    Without COMMAND: show who has which devices, since when, for how long, and who waits.

    JSON with COMMAND (whose own output then goes to stderr): {"gateway", "devices", "number", "exit", "lost": null or
    {"by", "why"}}. Without: {"gateway", "leases": [{"device", "needs_lease", "state", "holder", "number", "devices",
    "held_s", "idle_end_s", "hard_end_s", "left_s", "asked_by", "grace_s", "waiting"}]}. With --release: {"gateway",
    "device", "released"}.
    """
    words: tuple[str, ...] = ctx.meta.get(COMMAND_KEY, ())
    for_running = {
        "--wait": wait_s is not None,
        "--no-wait": no_wait,
        "--ask": ask,
        "--soft": soft is not None,
        "--hard": hard is not None,
        "--force": force is not None,
        "--yield": yields,
    }
    given = [option for option, is_given in for_running.items() if is_given]
    if (release is None) != (reason is None):
        raise click.UsageError("--release DEVICE and --reason TEXT go together")
    if release is not None and (words or devices or given):
        raise click.UsageError("--release stands alone: it ends somebody's lease")
    if words and not devices:
        raise click.UsageError("say which devices: gateway lease psu1 -- COMMAND")
    if given and not words:
        raise click.UsageError(f"{given[0]} needs a command to run: gateway lease psu1 {given[0]} ... -- COMMAND")
    if no_wait and (wait_s is not None or ask):
        raise click.UsageError("--no-wait goes neither with --wait nor with --ask")
    if force is not None and not force.strip():
        raise click.UsageError("--force needs a reason, which the holder is told")
    with reached(screen, where, timeout) as at:
        if release is not None:
            at.root.revoke_lease(release, reason)
            screen.document({"gateway": at.where, "device": release, "released": True})
            screen.line(f"the lease of {release} is over, and its devices are made safe")
        elif words:
            run = Run(screen, at, devices, yields)
            wait: float | bool = False if no_wait else True if wait_s is None else wait_s
            how = {"wait": wait, "ask": ask, "soft": soft, "hard": hard, "force": force or ""}
            ctx.exit(run.under_lease(words, how))
        else:
            _show(screen, at, devices)


class Run:
    """One command under a lease."""

    def __init__(self, screen: Screen, at: Reached, devices: tuple[str, ...], yields: bool) -> None:
        self._screen = screen
        self._at = at
        self._devices = devices
        self._yields = yields
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lost: LeaseLost | None = None
        self._early = 0
        """A signal that came before the command ran."""

    def under_lease(self, words: tuple[str, ...], how: dict[str, Any]) -> int:
        """Get the lease, run the command, give the lease back; the exit code. Raises LeaseConflict, NotFound."""
        screen = self._screen
        waiting = Waiting(screen, self._devices)
        with waiting:
            lease = self._at.conn.lease(
                *self._devices,
                **how,
                program=_program(words),
                on_wait=waiting.show,
                on_ask=self._asked,
                on_lost=self._end,
            )
        with lease:
            code = self._run(words, lease)
        lost = self._lost
        screen.document(
            {
                "gateway": self._at.where,
                "devices": list(self._devices),
                "number": lease.number,
                "exit": code,
                "lost": None if lost is None else {"by": lost.by, "why": lost.why},
            }
        )
        return 1 if lost is not None else code

    def _run(self, words: tuple[str, ...], lease: Lease) -> int:
        variables = {**os.environ, LEASE_VARIABLE: lease.token, ENVIRONMENT: self._at.url}
        with _signals(self._pass_on):
            try:
                process = subprocess.Popen(words, env=variables, stdout=sys.stderr if self._screen.as_json else None)
            except OSError as problem:
                self._screen.note(f"can't run {words[0]!r}: {problem.strerror}", style="bold red")
                return CANNOT_RUN if shutil.which(words[0]) else NO_COMMAND
            with self._lock:
                self._process = process
                if self._lost is not None:
                    process.terminate()
            if self._early:
                process.send_signal(self._early)
            code = process.wait()
        return SIGNALLED - code if code < 0 else code

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """A signal for the command. It has one of the terminal's already, as a member of the same group."""
        if self._process is None:
            self._early = number
        elif number not in _BY_TERMINAL or not _in_foreground():
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _asked(self, by: str) -> bool:
        verdict = "they get it" if self._yields else "you keep it; --yield would hand it over"
        self._screen.note(f"{by} asks for {', '.join(self._devices)}: {verdict}", style="yellow")
        return self._yields

    def _end(self, lost: LeaseLost) -> None:
        # Told first: the command may be quick to end, and this process with it.
        self._screen.note(one_line(f"lease lost: {lost.why} (by {lost.by}); ending the command"), style="bold red")
        with self._lock:
            self._lost = lost
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.terminate()


class Waiting:
    """What is shown while a lease is waited for: a spinner on a terminal, a line for each change elsewhere."""

    def __init__(self, screen: Screen, devices: tuple[str, ...]) -> None:
        self._screen = screen
        self._devices = ", ".join(devices)
        self._spinner: Any = None
        self._shown = ""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        if self._spinner is not None:
            self._spinner.__exit__(*exc_info)

    def show(self, position: int | None, estimate_s: float | None) -> None:
        """The place in the queue, and how long it will take as far as is known."""
        estimate = duration(estimate_s)
        text = f"waiting for {self._devices}: number {position} in the queue" if position else ""
        if not text:
            return
        if not self._screen.err.is_terminal or self._screen.as_json:
            if text != self._shown:
                self._screen.note(f"{text}{f', about {estimate}' if estimate else ''}")
            self._shown = text
            return
        text = f"{text}{f', about {estimate}' if estimate else ''}; Ctrl-C gives up"
        if self._spinner is None:
            self._spinner = self._screen.busy(text)
            self._spinner.__enter__()
        else:
            self._spinner.update(text)


def _program(words: tuple[str, ...]) -> str:
    """`python sweep.py` of `/usr/bin/python /home/alice/sweep.py 5`: what others see."""
    return " ".join(os.path.basename(word) for word in words[:2])[:PROGRAM]


@contextmanager
def _signals(handler: Any) -> Iterator[None]:
    numbers = [getattr(signal, name) for name in _PASSED_ON if hasattr(signal, name)]
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _in_foreground() -> bool:
    """Whether the terminal sends its signals to this process, and so to its children."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


# -- who has what -----------------------------------------------------------------------------------------------------


def _show(screen: Screen, at: Reached, devices: tuple[str, ...]) -> None:
    described = at.describe()
    kept = {name: row for name, row in described.items() if "needs_lease" in row}
    for name in devices:
        if name not in kept:
            raise NotFound(f"no device {name!r} at {at.where} that can be leased; {nearest(name, kept)}", device=name)
    rows = [
        {"device": name, "needs_lease": kept[name]["needs_lease"], **plain(dict(at.root.lease_status(name)))}
        for name in devices or kept
    ]
    screen.document({"gateway": at.where, "leases": rows})
    screen.table(
        ("device", "state", "who has it", "since", "ends", "who waits"),
        [
            (
                row["device"],
                row["state"] if row["holder"] or row["needs_lease"] else "needs no lease",
                holder_of(row["holder"]) if row["holder"] else "",
                f"{duration(row['held_s'])} ago" if row["holder"] else "",
                _ends(row),
                ", ".join(f"{each['position']}. {holder_of(each)}" for each in row["waiting"]),
            )
            for row in rows
        ],
        empty="this gateway has no devices of its own",
    )
    if devices and screen.is_terminal:
        screen.line(f"to control: gateway lease {shlex.join(devices)} -- COMMAND", style="dim")


def _ends(row: dict[str, Any]) -> str:
    if not row["holder"]:
        return ""
    if row["asked_by"]:
        return f"asked to hand over to {holder_of(row['asked_by'])}, in {duration(row['grace_s'])} at the latest"
    if row["idle_end_s"] is not None and row["idle_end_s"] < row["hard_end_s"]:
        return f"in {duration(row['idle_end_s'])} if left alone"
    return f"in {duration(row['hard_end_s'])} at the latest"
