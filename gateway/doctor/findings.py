"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may not go on working."""
    PROBLEM = "problem"
    """It does not work."""
    SKIPPED = "skipped"
    """It could not be looked at; the fix says how it can."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    verdict: Verdict
    what: str
    """One line: what is so, and what it means for the gateway."""
    fix: tuple[str, ...] = ()
    """Commands for a shell, one after the other; a line that begins with `#` explains."""


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, what)


def warning(what: str, *fix: str) -> Finding:
    """It works for now."""
    return Finding(Verdict.WARNING, what, fix)


def problem(what: str, *fix: str) -> Finding:
    """It does not work."""
    return Finding(Verdict.PROBLEM, what, fix)


def skipped(what: str, *fix: str) -> Finding:
    """It was not looked at."""
    return Finding(Verdict.SKIPPED, what, fix)
