"""Tables to structs, and msgspec's errors in our words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from gateway.config.source import MAX_SHOWN, KeyPath, Source, first_lower
from gateway.errors import ConfigError

T = TypeVar("T")
Table = Mapping[str, Any]


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'port'?`, or the list of what is known where nothing is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if known else "none is known"


def refuse_unknown(table: Table, known: Iterable[str], source: Source, path: KeyPath, *, what: str = "key") -> None:
    """Raise ConfigError for the first key of `table` that is not in `known`."""
    known = list(known)
    for key in table:
        if key not in known:
            raise source.error((*path, key), f"unknown {what} {key[:MAX_SHOWN]!r}; {nearest(key, known)}")


def to_struct(table: Table, struct: type[T], source: Source, path: KeyPath) -> T:
    """`table` as a msgspec struct or dataclass. Raises ConfigError with file, line and key."""
    described = msgspec.inspect.type_info(struct)
    if not isinstance(described, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        raise TypeError(f"{struct!r} is neither a msgspec struct nor a dataclass")
    fields = {row.encode_name: row for row in described.fields}
    refuse_unknown(table, fields, source, path)
    try:
        return msgspec.convert(table, struct, strict=True)
    except msgspec.ValidationError as problem:
        raise _in_our_words(str(problem), table, fields, source, path) from None


def _in_our_words(
    message: str, table: Table, fields: Mapping[str, msgspec.inspect.Field], source: Source, path: KeyPath
) -> ConfigError:
    """The ConfigError for one message of msgspec, which reads ``Expected `int`, got `str` - at `$.port` ``."""
    what, _, where = message.partition(" - at `$")
    inner = tuple(re.findall(r"[\w-]+|\.\.\.", where))
    if missing := re.match(r"Object missing required field `(.+)`", what):
        return source.error(path + inner, f"missing key {missing[1]!r}")
    if unknown := re.match(r"Object contains unknown field `(.+)`", what):
        return source.error((*path, *inner, unknown[1]), f"unknown key {unknown[1]!r}")
    if not inner:
        # A check of the struct's own, such as Limits': its words name the key.
        named = next((key for key in table if re.search(rf"\b{re.escape(key)}\b", what)), "")
        return source.error((*path, named), what)
    value: Any = table
    for part in inner:
        value = _member(value, part)
    key = ".".join(inner)
    choices = _choices(fields[inner[0]].type) if len(inner) == 1 else ()
    if choices:
        hint = f"; {nearest(value, choices)}" if isinstance(value, str) else ""
        return source.error(
            (*path, *inner), f"{key!r} must be one of {', '.join(choices)}, not {as_found(value)}{hint}"
        )
    expected = re.sub(r"`([^`]+)`", lambda kind: _kinds(kind[1]), re.sub(r", got .*", "", what))
    if not expected.startswith("Expected "):
        return source.error((*path, *inner), f"{key!r}: {first_lower(expected)}, found {as_found(value)}")
    return source.error((*path, *inner), f"{key!r} must be {expected.removeprefix('Expected ')}, not {as_found(value)}")


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return value


def _choices(described: msgspec.inspect.Type) -> tuple[str, ...]:
    if isinstance(described, msgspec.inspect.LiteralType):
        return tuple(str(value) for value in described.values)
    if isinstance(described, msgspec.inspect.EnumType):
        return tuple(str(member.value) for member in described.cls)
    return ()


_KINDS: Final = {
    "str": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _kinds(names: str) -> str:
    """msgspec's `int | null` as `a whole number`: TOML has no null, so it is never what to write."""
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | ") if name != "null")


def as_found(value: Any) -> str:
    """What was found where something else should be, in words."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"the text {value[:60]!r}"
        case int() | float():
            # Above this, an int may have more digits than str() converts.
            return f"the number {value}" if abs(value) < 1e18 else "a number that large"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"{str(value)[:60]}"
