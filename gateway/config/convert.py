"""Tables to structs, and msgspec's errors in our words."""

from __future__ import annotations

import difflib
import math
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
    near = nearest_word(word, known)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"known: {', '.join(known)}" if known else "none is known"


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` resembles most, if any."""
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)), None)


def unknown_keys(
    table: Table, known: Iterable[str], source: Source, path: KeyPath, *, what: str = "key", beside: Iterable[str] = ()
) -> list[ConfigError]:
    """One error for each key of `table` that is not in `known`. Those in `beside` are suggested too, but not listed."""
    known = list(known)
    problems = []
    for key in table:
        if key not in known:
            near = nearest_word(key, [*known, *beside])
            hint = f"did you mean {near!r}?" if near is not None else nearest(key, known)
            problems.append(
                source.error((*path, key), f"unknown {what} {key[:MAX_SHOWN]!r}; {hint}", nearest=near),
            )
    return problems


def converted(
    table: Table, struct: type[T], source: Source, path: KeyPath, *, beside: Iterable[str] = ()
) -> tuple[T | None, list[ConfigError]]:
    """`table` as a msgspec struct or dataclass, or None and every problem that keeps it from being one.

    `beside` are keys that stand in the same table of the file and belong to another struct: suggested for a typo.
    """
    fields = fields_of(struct)
    problems = unknown_keys(table, fields, source, path, beside=beside)
    rest = {key: value for key, value in table.items() if key in fields}
    for key in [key for key, value in rest.items() if _has_nan(value)]:
        problems.append(source.error((*path, key), f"{key!r} must be a number, not nan"))
        del rest[key]
    dropped: set[KeyPath] = {(key,) for key in table if key in fields and key not in rest}
    for key, row in fields.items():
        if row.required and key not in table:
            problems.append(source.error(path, f"missing key {key!r}"))
            dropped.add((key,))
    while True:
        try:
            made = msgspec.convert(rest, struct, strict=True)
        except msgspec.ValidationError as problem:
            told, where = _in_our_words(str(problem), rest, fields, source, path)
            if where not in dropped and (where or not dropped):
                problems.append(told)
            # Msgspec tells of one problem at a time: without what this one is about it goes on to the next. What is
            # missing only because it was dropped is no problem, and makes what holds it go too.
            while where and not _drop(rest, where):
                where = where[:-1]
            if not where:
                return None, problems
            dropped.add(where)
        else:
            return (None, problems) if problems else (made, [])


def _drop(table: dict[str, Any], path: KeyPath) -> bool:
    """Take what stands at `path` out of the tables in `table`; False if that is not there, or within a list."""
    holder: Any = table
    for key in path[:-1]:
        if not isinstance(holder, dict) or key not in holder:
            return False
        if isinstance(holder[key], dict):
            holder[key] = dict(holder[key])
        holder = holder[key]
    return isinstance(holder, dict) and holder.pop(path[-1], table) is not table


def fields_of(struct: type[Any]) -> dict[str, msgspec.inspect.Field]:
    """The fields of a msgspec struct or dataclass, by the key in a file. Raises TypeError for anything else."""
    described = msgspec.inspect.type_info(struct)
    if not isinstance(described, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        raise TypeError(f"{struct!r} is neither a msgspec struct nor a dataclass")
    return {row.encode_name: row for row in described.fields}


def _has_nan(value: Any) -> bool:
    match value:
        case float():
            return math.isnan(value)
        case list():
            return any(map(_has_nan, value))
        case dict():
            return any(map(_has_nan, value.values()))
        case _:
            return False


def _in_our_words(
    message: str, table: Table, fields: Mapping[str, msgspec.inspect.Field], source: Source, path: KeyPath
) -> tuple[ConfigError, KeyPath]:
    """The ConfigError for one message of msgspec, which reads ``Expected `int`, got `str` - at `$.port` ``, and the
    path in `table` of what it is about; empty for a check of the struct as a whole.
    """
    what, _, where = message.partition(" - at `$")
    inner, of_each = _inner(where)
    if missing := re.match(r"Object missing required field `(.+)`", what):
        return source.error(path + inner, f"missing key {missing[1]!r}"), (*inner, missing[1])
    if unknown := re.match(r"Object contains unknown field `(.+)`", what):
        inside = (*inner, unknown[1])
        known = _fields_at(fields, inner)
        told = f"unknown key {'.'.join(inside)[: 2 * MAX_SHOWN]!r}; {nearest(unknown[1], known)}"
        return source.error(path + inside, told, nearest=nearest_word(unknown[1], known)), inside
    if not inner:
        # A check of the struct's own, such as Limits': its words name the key.
        named = next((key for key in table if re.search(rf"\b{re.escape(key)}\b", what)), "")
        return source.error((*path, named), what), ()
    value: Any = table
    for part in inner:
        value = _member(value, part)
    key, found, near = ".".join(inner), as_found(value), None
    described = _described(fields[inner[0]].type, inner[1:])
    choices = _choices(described)
    expected = re.sub(r"`([^`]+)`", lambda kind: _kinds(kind[1]), re.sub(r", got .*", "", what))
    wanted = expected.removeprefix("Expected ")
    if of_each:
        told = f"{key!r}: each of its values must be {wanted}"
    elif choices:
        near = nearest_word(value, choices) if isinstance(value, str) else None
        hint = f"; {nearest(value, choices)}" if isinstance(value, str) else ""
        told = f"{key!r} must be one of {', '.join(choices)}, not {found}{hint}"
    elif wanted == expected:
        told = f"{key!r}: {first_lower(expected)}, found {found}"
    else:
        told = f"{key!r} must be {re.sub(r' matching regex .*', '', wanted)}{_example(described)}, not {found}"
    return source.error(path + inner, told, nearest=near), inner


def _inner(where: str) -> tuple[KeyPath, bool]:
    """The keys in msgspec's ``.match.vid_pid` ``. In a table with any keys it does not say which: (its key, True)."""
    parts = tuple(re.findall(r"[\w-]+|\.\.\.", where))
    return (parts[: parts.index("...")], True) if "..." in parts else (parts, False)


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return value


def _alternatives(described: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    """Without the null that TOML does not have."""
    while isinstance(described, msgspec.inspect.Metadata):
        described = described.type
    if isinstance(described, msgspec.inspect.UnionType):
        return [each for each in described.types if not isinstance(each, msgspec.inspect.NoneType)]
    return [described]


def _rows_of(described: msgspec.inspect.Type) -> dict[str, msgspec.inspect.Field]:
    structs = [each for each in _alternatives(described) if isinstance(each, msgspec.inspect.StructType)]
    return {row.encode_name: row for each in structs for row in each.fields}


def _described(described: msgspec.inspect.Type, inner: KeyPath) -> msgspec.inspect.Type:
    """The type of what stands at `inner` in a value of the type `described`, where that can be told."""
    for part in inner:
        rows = _rows_of(described)
        if part not in rows:
            return msgspec.inspect.AnyType()
        described = rows[part].type
    return described


def _fields_at(fields: Mapping[str, msgspec.inspect.Field], inner: KeyPath) -> list[str]:
    if not inner:
        return list(fields)
    described = _alternatives(_described(fields[inner[0]].type, inner[1:]))
    return [
        row.encode_name for each in described if isinstance(each, msgspec.inspect.StructType) for row in each.fields
    ]


def _choices(described: msgspec.inspect.Type) -> tuple[str, ...]:
    alternatives = _alternatives(described)
    if len(alternatives) != 1:
        return ()
    (only,) = alternatives
    if isinstance(only, msgspec.inspect.LiteralType):
        return tuple(str(value) for value in only.values)
    if isinstance(only, msgspec.inspect.EnumType):
        return tuple(str(member.value) for member in only.cls)
    return ()


def _example(described: msgspec.inspect.Type) -> str:
    """` like '0403:6001'` where the type's metadata has an example."""
    while isinstance(described, msgspec.inspect.Metadata):
        examples = (described.extra_json_schema or {}).get("examples")
        if examples:
            return f" like {examples[0]!r}"
        described = described.type
    if isinstance(described, msgspec.inspect.UnionType):
        return next(filter(None, map(_example, described.types)), "")
    return ""


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
