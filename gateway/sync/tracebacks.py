"""Traceback text for the peer: what `traceback` prints, several times faster."""

from __future__ import annotations

import linecache
import os
from traceback import walk_tb
from types import TracebackType
from typing import Final

_FRAMES: Final = 64
_PACKAGE: Final = os.path.dirname(os.path.dirname(__file__))
_DISPATCH: Final = tuple(os.path.join(_PACKAGE, layer, "") for layer in ("sync", "service"))
_CHAIN: Final = 8


def format_traceback(error: BaseException) -> str:
    """The error with its frames, source lines and causes, as Python prints them (no carets, no repeated look at the
    disk).
    """
    parts: list[str] = []
    seen: set[int] = set()
    link: str = ""
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < _CHAIN:
        seen.add(id(current))
        parts.append(_one(current) + link)
        if current.__cause__ is not None:
            current, link = current.__cause__, _CAUSE
        else:
            current, link = (None if current.__suppress_context__ else current.__context__), _CONTEXT
    return "".join(reversed(parts))


def without_frames(error: BaseException) -> BaseException:
    """The same error, and no frame any more in it or in what it came from: frames hold whatever passed through them."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = None
            pending += (current.__cause__, current.__context__)
    return error


_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def _one(error: BaseException) -> str:
    return "Traceback (most recent call last):\n" + _frames(error.__traceback__) + _headline(error)


def _frames(traceback: TracebackType | None) -> str:
    lines: list[str] = []
    for frame, number in walk_tb(_beyond_dispatch(traceback)):
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {number}, in {code.co_name}\n')
        source = linecache.getline(code.co_filename, number, frame.f_globals).strip()
        if source:
            lines.append(f"    {source}\n")
        if len(lines) > 2 * _FRAMES:
            lines.append("  ...\n")
            break
    return "".join(lines)


def _beyond_dispatch(traceback: TracebackType | None) -> TracebackType | None:
    """From where the called object's own code begins: how the call came there says nothing about the error."""
    inner = traceback
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_DISPATCH):
        inner = inner.tb_next
    return inner or traceback  # refused on the way there


def _headline(error: BaseException) -> str:
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        text = str(error)
    except Exception:
        text = "<exception without a str>"
    noted = getattr(error, "__notes__", ())
    notes = "".join(f"\n{note}" for note in noted if isinstance(note, str)) if isinstance(noted, list | tuple) else ""
    return f"{name}: {text}{notes}\n" if text else f"{name}{notes}\n"
