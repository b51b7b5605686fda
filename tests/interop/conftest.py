"""Runs each cell of the matrix once per session, and prints the table when the session ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.cells import Cell, Results, run_cell, why_unavailable
from tests.interop.matrix import table

RESULTS = pytest.StashKey[dict[Cell, Results]]()


@pytest.fixture(scope="session")
def results_of(pytestconfig: pytest.Config) -> Callable[[Cell], Results]:
    """The results of a cell, run when it is first asked for; skips where the cell can't be run."""
    known = pytestconfig.stash.setdefault(RESULTS, {})

    def results_of(cell: Cell) -> Results:
        if cell not in known:
            reason = why_unavailable(cell)
            if reason:
                pytest.skip(reason)
            known[cell] = run_cell(cell)
        return known[cell]

    return results_of


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash.get(RESULTS, {})
    if results:
        terminalreporter.section("interop matrix")
        for line in table(results):
            terminalreporter.line(line)
