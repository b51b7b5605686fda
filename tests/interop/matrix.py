"""The matrix as a table: `python tests/interop/matrix.py [CLIENT-SERVER-TRANSPORT ...]`, exit status 1 if a cell fails.

Without arguments all cells are run. A cell outside the matrix, such as rpyc5-rpyc5-tcp, can be asked for by name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.interop.cells import Cell, Results

AT_ONCE = 2


def table(results: Mapping[Cell, Results]) -> list[str]:
    """Lines: a row per case, a column per cell. `ok`, `FAIL`, or `-` where the case makes no sense."""
    from tests.interop.cells import cases_of

    cells = list(results)
    names: dict[str, None] = dict.fromkeys(name for cell in cells for name in cases_of(cell.transport))
    width = max((len(title(name)) for name in names), default=0)
    lines = [
        " ".join([end.ljust(width), *(f"{getattr(cell, end):6}" for cell in cells)]).rstrip()
        for end in ("client", "server", "transport")
    ]
    for name in names:
        marks = (mark(results[cell], name) for cell in cells)
        lines.append(" ".join([title(name).ljust(width), *(f"{text:6}" for text in marks)]).rstrip())
    passed = sum(result.ok for of_cell in results.values() for result in of_cell.values())
    total = sum(map(len, results.values()))
    lines.append(f"{passed} of {total} passed in {len(cells)} cells")
    return lines


def title(name: str) -> str:
    return name.replace("_", " ")


def mark(results: Results, name: str) -> str:
    result = results.get(name)
    return "-" if result is None else "ok" if result.ok else "FAIL"


def main(arguments: list[str]) -> int:
    from tests.interop.cells import CELLS, Cell, run_cell, why_unavailable

    start = time.monotonic()
    cells = [Cell(*argument.split("-")) for argument in arguments] or list(CELLS)
    for cell in list(cells):
        reason = why_unavailable(cell)
        if reason:
            print(f"skipped {cell}: {reason}")
            cells.remove(cell)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = dict(zip(cells, pool.map(run_cell, cells), strict=True))
    print("\n".join(table(results)))
    for cell, of_cell in results.items():
        for error in dict.fromkeys(result.error for result in of_cell.values() if not result.ok):
            names = [title(name) for name, result in of_cell.items() if result.error == error]
            print(f"{cell} {', '.join(names)}: {error}")
    print(f"{time.monotonic() - start:.1f} s")
    return 0 if all(result.ok for of_cell in results.values() for result in of_cell.values()) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sys.exit(main(sys.argv[1:]))
