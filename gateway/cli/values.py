"""Values between the command line, the wire, JSON and a person's eye."""

from __future__ import annotations

import ast
import base64
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

_KEYWORD: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_SUMMARY_FROM: Final = 12
"""A list of more items than this is summarised on a terminal."""
_JSON_DEPTH: Final = 64


_WORDS: Final = {"true": True, "false": False, "null": None}
"""As in JSON and TOML, which people also write by hand."""


def literal(word: str) -> Any:
    """`word` as a Python literal (`3.3`, `[1, 2]`, `True`, `'text'`), or `true`, `false`, `null`; else as a string."""
    if word.strip() in _WORDS:
        return _WORDS[word.strip()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(word.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return word


def call_arguments(words: Iterable[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of `call`: `name=value` is a keyword, a quoted word never is."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for word in words:
        if found := _KEYWORD.fullmatch(word):
            keywords[found[1]] = literal(found[2])
        else:
            positional.append(literal(word))
    return positional, keywords


def is_array(value: Any) -> bool:
    """Whether `value` is a numpy array, told without importing numpy."""
    return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray"


def as_json(value: Any, depth: int = _JSON_DEPTH) -> Any:
    """`value` in JSON's types.

    Tuples, sets and arrays become lists, bytes `{"base64": ...}`, a complex number `{"real":, "imag":}`, a float that
    JSON has no word for the string `"nan"`, `"inf"` or `"-inf"`, anything else `{"repr": ...}`.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case complex():
            return {"real": as_json(value.real), "imag": as_json(value.imag)}
        case bytes() | bytearray() | memoryview():
            return {"base64": base64.b64encode(value).decode("ascii")}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return as_json(value.tolist(), depth)
    if depth and isinstance(value, dict):
        return {str(key): as_json(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [as_json(item, depth - 1) for item in value]
    return {"repr": repr(value)}


def shown(value: Any, unit: str | None = None, *, brief: bool) -> str:
    """`value` as a person reads it, with its unit. `brief` summarises long lists and arrays."""
    text = _text(value, brief=brief)
    return f"{text} {unit}" if unit and value is not None else text


def _text(value: Any, *, brief: bool) -> str:
    if isinstance(value, str):
        return value
    if is_array(value):
        return _array_text(value, brief=brief)
    if isinstance(value, list | tuple):
        return _summary(value, f"{len(value)} items") if brief and len(value) > _SUMMARY_FROM else repr(value)
    if isinstance(value, bytes) and brief and len(value) > 256:
        return f"{value[:64]!r} ... ({len(value)} bytes)"
    return str(value)


def _array_text(value: Any, *, brief: bool) -> str:
    shape = " x ".join(str(length) for length in value.shape)
    flat = value.ravel()
    if brief and len(flat) > _SUMMARY_FROM:
        return _summary(flat, f"{shape} {value.dtype}")
    return repr(value.tolist())


def _summary(values: Sequence[Any], size: str) -> str:
    """`[1, 2, 3, ..., 9]  1000 items, min 1, max 9, mean 5`."""
    ends = ", ".join(number(value) for value in values[:3])
    text = f"[{ends}, ..., {number(values[-1])}]  {size}"
    numbers = [float(value) for value in values if _is_real(value)]
    if len(numbers) != len(values):
        return text
    mean = math.fsum(numbers) / len(numbers)
    return f"{text}, min {number(min(numbers))}, max {number(max(numbers))}, mean {number(mean)}"


def _is_real(value: Any) -> bool:
    if isinstance(value, bool) or not (isinstance(value, int | float) or type(value).__module__ == "numpy"):
        return False
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def number(value: Any) -> str:
    """A number in at most six significant digits; anything else as its repr."""
    if isinstance(value, float) or type(value).__module__ == "numpy":
        try:
            return f"{float(value):.6g}"
        except (TypeError, ValueError):
            return repr(value)
    return repr(value)


def quantity(value: Mapping[str, Any], key: str) -> str:
    """`value[key]` as text, empty where it is missing or None: for tables of what a gateway describes."""
    found = value.get(key)
    return "" if found is None else str(found)
