"""The table as a picture: one bar for each ratio, with its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from report import OURS, STOCK, Line
from rows import FLOOR, FLOOR_BULK

CONTROLS: Final = {FLOOR, FLOOR_BULK}
TICKS: Final = (0.5, 1, 2, 3, 5, 10, 20, 50)


def draw(lines: Sequence[Line], facts: Mapping[str, Any], path: Path) -> None:
    """Write a PNG. Raises SystemExit where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise SystemExit(
            "error: --plot needs matplotlib; install it with: pip install 'instrument-gateway[bench]'"
        ) from None
    shown = [line for line in lines if line.client == line.server and line.name not in CONTROLS][::-1]
    figure = Figure(figsize=(10, 1.2 + 0.27 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(shown))
    ratios = [line.ratio for line in shown]
    spread = (
        [line.ratio - line.lowest for line in shown],
        [line.highest - line.ratio for line in shown],
    )
    axes.barh(places, ratios, xerr=spread, color="#3b7dd8", ecolor="#888888", height=0.7)
    axes.axvline(1.0, color="#c0392b", linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_yticks(places, [line.title for line in shown], fontsize=8)
    axes.margins(y=0.01)
    for place, line in zip(places, shown, strict=True):
        axes.annotate(
            f"{line.ratio:.1f} x",
            (line.highest, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlabel(f"times better than {facts[STOCK]} (log scale; median and range of the rounds)")
    axes.set_title(f"{facts[OURS]} against {facts[STOCK]}, both ends on one CPU, Python {facts['python']}", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)
