"""The text of a config file: TOML, and the line on which each key stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gateway.errors import ConfigError

MAX_SHOWN: Final = 40
"""Characters of a table's or key's name in an error."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a piece of configuration was written: the file, and the line of every key in it."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """The line of `path`, or of what holds it; None where nothing is known of either."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)

    def place(self, path: KeyPath) -> str:
        """`FILE:LINE` of `path`, or `FILE`."""
        line = self.line(path)
        return self.file if line is None else f"{self.file}:{line}"

    def error(self, path: KeyPath, problem: str, *, nearest: str | None = None) -> ConfigError:
        """A ConfigError that begins with `FILE:LINE: [table]`; the line is that of `path` or of what holds it.

        Its facts: `file`, `line`, `key`, `reason` (the problem without its place), and `nearest`, the known word that
        an unknown one resembles.
        """
        table = path[: 2 if path[:1] in (("devices",), ("hosts",)) else 1]
        label = f"[{'.'.join(part[:MAX_SHOWN] for part in table)}] " if len(path) > 1 else ""
        return ConfigError(
            f"{self.place(path)}: {label}{problem}",
            file=self.file,
            line=self.line(path),
            key=".".join(filter(None, path)),
            reason=problem,
            nearest=nearest,
        )


def read_tables(data: bytes, file: str) -> tuple[dict[str, Any], Source]:
    """The tables in `data`, and where they stand. Raises ConfigError for what is no TOML."""
    try:
        # Editors on Windows begin a file with a byte order mark, which is not TOML.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise _unreadable(file, line, "not UTF-8 text; save it as UTF-8") from None
    source = Source(file, _line_index(text))
    if not text.strip():
        raise source.error((), "the file is empty; write one like examples/bench.toml")
    try:
        return tomllib.loads(text), source
    except tomllib.TOMLDecodeError as problem:
        message, _, where = str(problem).rpartition(" (at ")
        found = re.match(r"line (\d+)", where)
        line = int(found[1]) if found else text.rstrip().count("\n") + 1
        raise _unreadable(file, line, f"not TOML: {first_lower(message)}") from None
    except ValueError as problem:
        # A number with more digits than Python converts.
        raise _unreadable(file, None, first_lower(str(problem).partition(";")[0])) from None
    except RecursionError:
        raise _unreadable(file, None, "lists or tables nested too deeply") from None


def _unreadable(file: str, line: int | None, reason: str) -> ConfigError:
    where = file if line is None else f"{file}:{line}"
    return ConfigError(f"{where}: {reason}", file=file, line=line, key="", reason=reason, nearest=None)


_HEADER: Final = re.compile(r"\s*\[{1,2}([^\[\]]+)\]{1,2}\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_KEY_PART: Final = re.compile(r"[\w-]+|\"[^\"]*\"|'[^']*'")


class Mark(NamedTuple):
    """One line that opens a table or sets a key."""

    line: int
    """From 1."""
    path: KeyPath
    table: bool
    """Whether it is a table's header."""


def marks(text: str) -> Iterator[Mark]:
    """The headers and keys of a TOML text, in order. tomllib keeps no positions, so this reads them again.

    It does not look into inline tables, and a key within a list of several lines would pass for one.
    """
    table: KeyPath = ()
    inside = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not inside:
            if header := _HEADER.match(line):
                table = _key_path(header[1])
                yield Mark(number, table, True)
            elif key := _KEY.match(line):
                yield Mark(number, table + _key_path(key[1]), False)
        for quotes in ('"""', "'''"):
            if inside in ("", quotes) and line.count(quotes) % 2:
                inside = "" if inside else quotes


def _line_index(text: str) -> dict[KeyPath, int]:
    """Key path -> line, for error messages."""
    index: dict[KeyPath, int] = {}
    for mark in marks(text):
        for end in range(1, len(mark.path) + 1):
            index.setdefault(mark.path[:end], mark.line)
    return index


def _key_path(text: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in _KEY_PART.findall(text))


def first_lower(text: str) -> str:
    """`text`, to go on with in the middle of a sentence."""
    return text[:1].lower() + text[1:]
