"""Exit codes, and how an exception becomes one line and one of them.

| code | meaning |
|---|---|
| 0 | done |
| 1 | the call or the device raised an error |
| 2 | the command line or the config is wrong |
| 3 | no such gateway, device or member, or several of them |
| 4 | cannot connect, the link broke, or no answer in time |
| 130 | Ctrl-C |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

import click

from gateway.errors import (
    Ambiguous,
    CallTimeout,
    ConfigError,
    GatewayError,
    LinkDown,
    NotFound,
    OutcomeUnknown,
    ProtocolError,
)


class Exit(IntEnum):
    """What the command tells its shell."""

    OK = 0
    RAISED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """What a user is told about an exception: a stable `code`, one line, and the exit code."""

    code: str
    message: str
    exit: Exit


_EXITS: tuple[tuple[type[GatewayError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (NotFound, Exit.NOT_FOUND),
    (Ambiguous, Exit.NOT_FOUND),
    (LinkDown, Exit.UNREACHABLE),
    (CallTimeout, Exit.UNREACHABLE),
    (OutcomeUnknown, Exit.UNREACHABLE),
    (ProtocolError, Exit.UNREACHABLE),
)


def failure(problem: BaseException) -> Failure:
    """The failure that `problem` is. Never raises."""
    match problem:
        case KeyboardInterrupt() | click.Abort():
            return Failure("interrupted", "interrupted", Exit.INTERRUPTED)
        case click.ClickException():
            return Failure("usage", _usage(problem), Exit.USAGE)
        case GatewayError():
            code = next((exit_ for kind, exit_ in _EXITS if isinstance(problem, kind)), Exit.RAISED)
            return Failure(problem.code, one_line(str(problem)) or problem.code, code)
        case TimeoutError():
            return Failure("call-timeout", one_line(str(problem)) or "no answer in time", Exit.UNREACHABLE)
        case _:
            return Failure(kebab(type(problem).__name__), f"{type(problem).__name__}: {problem}", Exit.RAISED)


def one_line(text: str) -> str:
    """`text` with its line breaks and runs of blanks made single spaces."""
    return " ".join(text.split())


def kebab(name: str) -> str:
    """`zero-division-error` of `ZeroDivisionError`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name.rpartition(".")[2]).lower()


def _usage(problem: click.ClickException) -> str:
    message = one_line(problem.format_message()).rstrip(".")
    context = problem.ctx if isinstance(problem, click.UsageError) else None
    return f"{message}; see {context.command_path} --help" if context is not None else message
