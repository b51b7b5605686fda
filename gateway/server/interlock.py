"""Interlocks: conditions over other devices' readings, such as `door.closed and chiller.flow > 2`. Pure.

    condition  = comparison or number, joined by and, or, not, brackets
    comparison = value < <= > >= == != value, also chained (0 < a.b < 5)
    value      = DEVICE.PROPERTY (HOST.DEVICE.PROPERTY) | number | text in quotes | true | false | - value

Nothing else of Python's language is understood: no calls, no arithmetic, no names but readings.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.errors import ConfigError

MAX_NODES: Final = 200
MAX_DEPTH: Final = 20

_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_WORDS: Final = {"true": True, "false": False, "True": True, "False": False}

Read = Callable[[str, str], Any]
"""`read(device, property)` gives a reading, or raises."""


class Interlock:
    """A condition, parsed. Raises ConfigError for a text that is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise ConfigError(f"{text!r:.200} is no condition: {reason}") from None
        self.readings: frozenset[tuple[str, str]] = frozenset(_check(self._tree))
        """`(device, property)` of all that it depends on."""
        if not self.readings:
            raise ConfigError(f"{text!r:.200} depends on no reading; name one, such as door.closed")

    def failing(self, read: Read) -> str:
        """The part of the condition for which it does not hold, with what was read; empty where it holds.

        Where a reading that decides can't be had it does not hold: neither `a` then, nor `not a`. Only what is needed
        is read: `a or b` does not ask for b where a holds.
        """
        holds, why = _judge(self._tree, read)
        return "" if holds else why or self.text


def _check(tree: ast.expr) -> list[tuple[str, str]]:
    readings = []
    pending: list[tuple[ast.expr, int, bool]] = [(tree, 0, True)]
    for count, (node, depth, is_condition) in enumerate(pending):
        if count >= MAX_NODES or depth > MAX_DEPTH:
            raise ConfigError(f"the condition has more than {MAX_NODES} parts or {MAX_DEPTH} levels")
        match node:
            case ast.BoolOp(values=values) if is_condition:
                pending += [(value, depth + 1, True) for value in values]
            case ast.UnaryOp(op=ast.Not(), operand=operand) if is_condition:
                pending.append((operand, depth + 1, True))
            case ast.Compare(left=left, comparators=others, ops=ops) if is_condition:
                unknown = [op for op in ops if type(op) not in _COMPARISONS]
                if unknown:
                    raise ConfigError(f"{ast.unparse(node)!r:.100}: only < <= > >= == != compare")
                pending += [(value, depth + 1, False) for value in (left, *others)]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
                pass
            case ast.Constant(value=bool() | int() | float() | str()):
                pass
            case ast.Name(id=name) if name in _WORDS:
                pass
            case ast.Attribute():
                readings.append(_reading(node))
            case _:
                raise ConfigError(
                    f"{ast.unparse(node)!r:.100} can't stand in a condition; write DEVICE.PROPERTY, numbers, < > == "
                    "and or not"
                )
    return readings


def _reading(node: ast.Attribute) -> tuple[str, str]:
    parts = [node.attr]
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name) or len(parts) > 2:
        raise ConfigError(f"{ast.unparse(node)!r:.100} is no DEVICE.PROPERTY")
    name, *rest = [inner.id, *reversed(parts)]
    return ".".join([name, *rest[:-1]]), rest[-1]


def _judge(node: ast.expr, read: Read) -> tuple[bool | None, str]:
    """Whether the condition holds, None where a reading that decides can't be had; and why it does not, if so."""
    match node:
        case ast.BoolOp(op=op, values=values):
            decides = isinstance(op, ast.Or)  # one that is so decides for all
            reasons: list[str] = []
            verdict: bool | None = not decides
            for value in values:
                one, why = _judge(value, read)
                if one is decides:
                    return decides, why
                verdict = None if one is None else verdict
                reasons += [why] if why else []
            return verdict, " and ".join(reasons)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            one, why = _judge(operand, read)
            return (None, why) if one is None else (not one, f"not ({ast.unparse(operand)})" if one else "")
    shown: list[str] = []
    try:
        holds = _holds(node, read, shown)
    except Exception as error:  # whatever a driver raises: the reading can't be had
        return None, f"{ast.unparse(node)} ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return holds, "" if holds else f"{ast.unparse(node)} ({', '.join(shown)})"


def _holds(node: ast.expr, read: Read, shown: list[str]) -> bool:
    if not isinstance(node, ast.Compare):
        return bool(_value(node, read, shown))
    left = _value(node.left, read, shown)
    for op, other in zip(node.ops, node.comparators, strict=True):
        right = _value(other, read, shown)
        if not _COMPARISONS[type(op)](left, right):
            return False
        left = right
    return True


def _value(node: ast.expr, read: Read, shown: list[str]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _WORDS[name]
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Attribute():
            reading = read(*_reading(node))
            shown.append(f"{ast.unparse(node)} is {reading!r:.60}")
            return reading
    raise AssertionError(ast.dump(node))
