"""Clients and servers of ours and of stock rpyc, each in its own process, over TCP, a Unix socket and a serial line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.cells import CELLS, Cell, Results, cases_of

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("cell", "case"),
    [pytest.param(cell, case, id=f"{cell}-{case}") for cell in CELLS for case in cases_of(cell.transport)],
)
def test_a_client_and_a_server_understand_each_other(
    results_of: Callable[[Cell], Results], cell: Cell, case: str
) -> None:
    result = results_of(cell)[case]
    assert result.ok, result.error
