"""The text of a config file: TOML, and the line on which each key stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import ConfigError

MAX_SHOWN: Final = 40
"""Characters of a table's or key's name in an error."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a piece of configuration was written: the file, and the line of every key in it."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def error(self, path: KeyPath, problem: str) -> ConfigError:
        """A ConfigError that begins with `FILE:LINE: [table]`; the line is that of `path` or of what holds it."""
        line = next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)
        where = self.file if line is None else f"{self.file}:{line}"
        table = path[: 2 if path[:1] in (("devices",), ("hosts",)) else 1]
        label = f"[{'.'.join(part[:MAX_SHOWN] for part in table)}] " if len(path) > 1 else ""
        return ConfigError(f"{where}: {label}{problem}", file=self.file, line=line, key=".".join(filter(None, path)))


def read_tables(data: bytes, file: str) -> tuple[dict[str, Any], Source]:
    """The tables in `data`, and where they stand. Raises ConfigError for what is no TOML."""
    try:
        # Editors on Windows begin a file with a byte order mark, which is not TOML.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text; save it as UTF-8", file=file, line=line) from None
    source = Source(file, _line_index(text))
    if not text.strip():
        raise source.error((), "the file is empty; write one like examples/bench.toml")
    try:
        return tomllib.loads(text), source
    except tomllib.TOMLDecodeError as problem:
        message, _, where = str(problem).rpartition(" (at ")
        found = re.match(r"line (\d+)", where)
        line = int(found[1]) if found else text.rstrip().count("\n") + 1
        raise ConfigError(f"{file}:{line}: not TOML: {first_lower(message)}", file=file, line=line) from None
    except ValueError as problem:
        # A number with more digits than Python converts.
        raise ConfigError(f"{file}: {first_lower(str(problem).partition(';')[0])}", file=file) from None
    except RecursionError:
        raise ConfigError(f"{file}: lists or tables nested too deeply", file=file) from None


_HEADER: Final = re.compile(r"\s*\[{1,2}([^\[\]]+)\]{1,2}\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_KEY_PART: Final = re.compile(r"[\w-]+|\"[^\"]*\"|'[^']*'")


def _line_index(text: str) -> dict[KeyPath, int]:
    """Key path -> line. For error messages only: tomllib keeps no positions, so this reads headers and keys again."""
    index: dict[KeyPath, int] = {}
    table: KeyPath = ()
    inside = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not inside:
            if header := _HEADER.match(line):
                path = table = _key_path(header[1])
            elif key := _KEY.match(line):
                path = table + _key_path(key[1])
            else:
                path = ()
            for end in range(1, len(path) + 1):
                index.setdefault(path[:end], number)
        for quotes in ('"""', "'''"):
            if inside in ("", quotes) and line.count(quotes) % 2:
                inside = "" if inside else quotes
    return index


def _key_path(text: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in _KEY_PART.findall(text))


def first_lower(text: str) -> str:
    """`text`, to go on with in the middle of a sentence."""
    return text[:1].lower() + text[1:]
