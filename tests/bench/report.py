"""What the benchmark found: per-round samples made into lines of a table, and the table printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import rows
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH: Final = 160
"""Columns when the output is no terminal, so that nothing is cut."""

LEGEND: Final = """
ratio: median of the per-round ratios, above 1 = ours is better. In the control row both sides run the same code.
TCP: both sides as shipped, so stock without NODELAY and with zlib; "with NODELAY": set on both of stock's ends.
Unix: stock's compression is off. What makes stock wait for delayed acknowledgements on TCP as shipped is measured on
a Unix socket; where it happens to stock in some rounds only, the brackets are wide."""

OURS: Final = "ours"
STOCK: Final = "stock"


@dataclass(frozen=True, slots=True)
class Pairing:
    """Who talked to whom: roles of the client and of the server."""

    client: str
    server: str

    def __str__(self) -> str:
        return f"{self.client} client -> {self.server} server"


BASELINE: Final = Pairing(STOCK, STOCK)
BOTH_OURS: Final = Pairing(OURS, OURS)
MIXED: Final = (Pairing(OURS, STOCK), Pairing(STOCK, OURS))

Samples = Mapping[tuple[str, Pairing], Sequence[float]]
"""(row name, pairing) -> one figure per round."""
Failures = Mapping[tuple[str, Pairing], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table, medians over the rounds. A ratio is one round's; above 1, ours is better."""

    name: str
    title: str
    unit: str
    client: str
    server: str
    ours: float
    stock: float
    ratio: float
    lowest: float
    highest: float
    ours_rounds: list[float]
    stock_rounds: list[float]


def lines(samples: Samples) -> list[Line]:
    """One line per row and pairing that was measured in every round, in the table's order."""
    found = []
    for pairings in ((BOTH_OURS,), MIXED):
        for name, row in rows.ROWS.items():
            stock = list(samples.get((name, BASELINE), ()))
            for pairing in pairings:
                ours = list(samples.get((name, pairing), ()))
                if ours and len(ours) == len(stock):
                    found.append(_line(name, row, pairing, ours, stock))
    return found


def _line(name: str, row: rows.Row, pairing: Pairing, ours: list[float], stock: list[float]) -> Line:
    ratios = [mine / theirs if row.more_is_better else theirs / mine for mine, theirs in zip(ours, stock, strict=True)]
    return Line(
        name=name,
        title=row.title if pairing == BOTH_OURS else f"{row.title}, {pairing}",
        unit=row.unit,
        client=pairing.client,
        server=pairing.server,
        ours=median(ours),
        stock=median(stock),
        ratio=median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        ours_rounds=ours,
        stock_rounds=stock,
    )


def floor_fractions(samples: Samples) -> dict[str, float]:
    """Cached calls as a fraction of the raw TCP ping-pong of the same processes; empty if either was not measured."""
    fractions = {}
    for role, pairing in ((OURS, BOTH_OURS), (STOCK, BASELINE)):
        calls, floor = samples.get((rows.CACHED, pairing), ()), samples.get((rows.FLOOR, pairing), ())
        if calls and len(calls) == len(floor):
            fractions[role] = median(call / raw for call, raw in zip(calls, floor, strict=True))
    return fractions


def as_json(samples: Samples, failures: Failures, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, with every round's figures."""
    return {
        "facts": dict(facts),
        "rows": [asdict(line) for line in lines(samples)],
        "fraction_of_floor": floor_fractions(samples),
        "failures": [
            {"name": name, "client": pairing.client, "server": pairing.server, "error": error}
            for (name, pairing), error in failures.items()
        ],
    }


def show(samples: Samples, failures: Failures, facts: Mapping[str, Any]) -> None:
    """Print the table: with rules and colour on a terminal, plain columns otherwise."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    table.add_column("what")
    table.add_column("unit", no_wrap=True)
    for heading in (OURS, STOCK, "ratio", "[min - max]"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for line in lines(samples):
        spread = Text(f"[{line.lowest:.2f} - {line.highest:.2f}]")
        ratio = Text(f"{line.ratio:.2f}", style="green" if line.ratio >= 1 else "red")
        table.add_row(line.title, line.unit, figure(line.ours), figure(line.stock), ratio, spread)
    for key, value in facts.items():
        console.print(Text(f"{key}: {value}"))
    console.print()
    console.print(table)
    console.print(LEGEND)
    for role, fraction in floor_fractions(samples).items():
        console.print(f"cached method, {role}: {fraction:.3f} of the floor (raw TCP ping-pong).")
    for (name, pairing), error in failures.items():
        console.print(Text(f"FAILED {name} ({pairing}): {error}", style="red"))


def figure(value: float) -> str:
    """Three significant digits, or whole numbers in groups of three."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
