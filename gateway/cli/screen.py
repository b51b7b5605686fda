"""What the command shows: tables and colour on a terminal, plain aligned text elsewhere, or one JSON document.

Text that came over the network is made printable first, so a peer's names and messages can't drive the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.exits import Exit, Failure, one_line

_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = "_.-=+*#@"


class Screen:
    """The two outputs of one run. `as_json` silences everything on stdout but `document` and `failed`."""

    def __init__(self, *, as_json: bool = False, debug: bool = False, wire_on_stdout: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self._documents: TextIO = sys.stderr if wire_on_stdout else sys.stdout
        self.out = Console(file=sys.stderr if wire_on_stdout else sys.stdout, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at stdout (and no JSON is wanted)."""
        return self.out.is_terminal and not self.as_json

    def document(self, value: Any) -> None:
        """The one JSON document, if JSON is wanted."""
        if self.as_json:
            print(json.dumps(value, allow_nan=False), file=self._documents, flush=True)

    def line(self, text: str = "", style: str = "") -> None:
        """One line on stdout, unless JSON is wanted."""
        if not self.as_json:
            self.out.print(Text(printable(text), style=style))
            self.out.file.flush()

    def note(self, text: str, style: str = "dim") -> None:
        """One line on stderr, in every format."""
        self.err.print(Text(printable(text), style=style))

    def failed(self, problem: Failure) -> None:
        """The error: a JSON document if JSON is wanted, else one line on stderr."""
        if self.as_json:
            self.document({"error": {"code": problem.code, "message": printable(one_line(problem.message))}})
        else:
            label = ("", "") if problem.exit is Exit.INTERRUPTED else ("error: ", "bold red")
            self.err.print(Text.assemble(label, printable(one_line(problem.message))))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
        """A table on stdout, or the line `empty` where there are no rows. Nothing if JSON is wanted."""
        if self.as_json:
            return
        if not rows:
            self.line(empty, style="dim")
            return
        clean = [[printable(cell) for cell in row] for row in rows]
        if not self.is_terminal:
            widths = [max(map(len, column)) for column in zip(columns, *clean, strict=True)]
            for row in (columns, *clean):
                self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
            return
        table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold cyan", show_edge=False)
        for row in clean:
            # Text, not str: brackets in a name are no markup.
            table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
        self.out.print(table, soft_wrap=False)

    def busy(self, text: str) -> Any:
        """A context manager: a spinner on stderr while something is waited for, nothing where no one looks."""
        return self.err.status(text) if self.err.is_terminal and not self.as_json else nullcontext()

    @contextmanager
    def live_line(self) -> Iterator[LiveLine]:
        """A line that is rewritten in place on a terminal and printed anew elsewhere."""
        line = LiveLine(self)
        try:
            yield line
        finally:
            line.end()

    def sparkline(self, values: Sequence[float]) -> str:
        """The values as bars, lowest to highest of them."""
        bars = _BARS if (self.out.encoding or "").lower().startswith("utf") else _ASCII_BARS
        finite = [value for value in values if abs(value) < float("inf")]
        if not finite:
            return ""
        low, high = min(finite), max(finite)
        span = high - low
        return "".join(
            bars[round((value - low) / span * (len(bars) - 1)) if span else len(bars) // 2]
            if abs(value) < float("inf")
            else " "
            for value in values
        )


class LiveLine:
    """See `Screen.live_line`."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._written = False

    def show(self, text: str) -> None:
        """Replace what the line says."""
        screen = self._screen
        if screen.as_json:
            return
        if not screen.is_terminal:
            screen.line(text)
            return
        out = screen.out
        cut = Text(printable(text), style="bold")
        cut.truncate(max(out.width - 1, 1), overflow="ellipsis")
        out.file.write("\r\x1b[2K")
        out.print(cut, end="")
        out.file.flush()
        self._written = True

    def end(self) -> None:
        """Leave what it says last on the terminal."""
        if self._written:
            self._screen.out.print()
            self._written = False


def printable(text: str) -> str:
    """`text` with everything that is not printable escaped: it may come from a peer."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


_STYLES: Final = {"ready": "green", "open": "green", "unavailable": "red", "closed": "yellow"} | {
    "ok": "green",
    "warning": "yellow",
    "problem": "bold red",
    "skipped": "dim",
    "missing": "red",
    "faulty": "red",
    "disabled": "dim",
    "verified": "green",
    "sent": "yellow",
    "failed": "bold red",
    "not reached": "bold red",
    "free": "green",
    "held": "yellow",
    "asked": "yellow",
    "allowed": "green",
    "refused": "bold red",
    "needed": "yellow",
}


def _style(cell: str) -> str:
    return _STYLES.get(cell, "")
