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

FLOORS: Final = (
    ("root-method", rows.FLOOR),
    (rows.CACHED, rows.FLOOR),
    ("pipelined-tcp", rows.FLOOR),
    ("array", rows.FLOOR_BULK),
    ("up-1", rows.FLOOR_BULK),
    ("down-1", rows.FLOOR_BULK),
)
"""(row, the control row that it is held against)."""
SHARES: Final = (
    ("device profile against seed profile, Unix", "device", "cached-unix"),
    ("50 busy clients, beside five that block against without", "busy-blocked", "busy"),
)

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
    """Rows as a fraction of what raw sockets do between the same processes; only what was measured."""
    return {
        f"{rows.ROWS[name].title}, {role}": fraction
        for name, floor in FLOORS
        for role, pairing in ((OURS, BOTH_OURS), (STOCK, BASELINE))
        if (fraction := _share(samples, (name, pairing), (floor, pairing))) is not None
    }


def within_ours(samples: Samples) -> dict[str, float]:
    """Rows of ours as a fraction of other rows of ours."""
    return {
        what: fraction
        for what, name, of in SHARES
        if (fraction := _share(samples, (name, BOTH_OURS), (of, BOTH_OURS))) is not None
    }


def _share(samples: Samples, one: tuple[str, Pairing], other: tuple[str, Pairing]) -> float | None:
    values, anchors = samples.get(one, ()), samples.get(other, ())
    if not values or len(values) != len(anchors):
        return None
    return median(value / anchor for value, anchor in zip(values, anchors, strict=True))


def longest_mean(samples: Samples) -> tuple[str, float] | None:
    """The operation that takes longest on average in any pairing that has a client or server of ours, in ms."""
    means = [
        (1000 / median(values), f"{rows.ROWS[name].title}, {pairing}")
        for (name, pairing), values in samples.items()
        if rows.ROWS[name].unit in ("calls/s", "gets/s", "objects/s", "errors/s") and pairing != BASELINE and values
    ]
    return max(means)[::-1] if means else None


def as_json(samples: Samples, failures: Failures, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, with every round's figures."""
    return {
        "facts": dict(facts),
        "rows": [asdict(line) for line in lines(samples)],
        "fraction_of_floor": floor_fractions(samples),
        "fraction_of_ours": within_ours(samples),
        "longest_mean_ms": longest_mean(samples),
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
    for what, fraction in floor_fractions(samples).items():
        console.print(f"{what}: {fraction:.3f} of the floor (raw sockets).")
    for what, fraction in within_ours(samples).items():
        console.print(f"{what}: {fraction:.3f}.")
    longest = longest_mean(samples)
    if longest is not None:
        console.print(f"longest mean of any operation with an end of ours: {longest[1]:.3f} ms ({longest[0]}).")
    for (name, pairing), error in failures.items():
        console.print(Text(f"FAILED {name} ({pairing}): {error}", style="red"))


def figure(value: float) -> str:
    """Three significant digits, or whole numbers in groups of three."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
