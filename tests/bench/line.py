"""The serial link on paced lines, and rpyc 6.0.2's own PipeStream over the same lines where it can run.

    python tests/bench/line.py [--quick] [--only NAME] [--json]

A line is a pair of ptys joined by `hil.PtyWire`, which carries bytes no faster than a UART of that speed. Both ends are
processes of their own. Every figure is held against its anchor, which is measured in the same run: the rate of the
line, the time the call's own bytes need on it, or rpyc over the same line.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any, Final

from link_million import million
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from hil.faults import CLEAN, End, FaultPlan  # noqa: E402
from hil.pty_wire import PtyWire  # noqa: E402

BITS: Final = 10
"""On the line for each byte: start, eight bits, stop."""
ANSWER_S: Final = 240.0
AWAY_S: Final = 0.5
MESSAGE: Final = 32 * 1024


class Failed(Exception):
    """A row gave no figure; the text says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    what: str
    value: str
    anchor: str
    ratio: float | None
    """Of the value to its anchor."""
    target: str
    reached: bool | None


class Peer:
    """One process of `line_peer.py`."""

    def __init__(self, mode: str, kind: str, port: str, options: str) -> None:
        self._what = f"{kind} {'server' if mode == 'serve' else 'client'}"
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "line_peer.py"), mode, kind, port, options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
        )
        self.greeting = self.answer()

    def order(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Raises Failed when none comes, or it tells of an error."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], ANSWER_S)[0]:
            raise Failed(f"no answer from the {self._what}")
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the {self._what} has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer and "at_s" not in answer:
            raise Failed(f"{self._what}: {answer['error']}")
        return answer

    def ask(self, **order: Any) -> dict[str, Any]:
        self.order(**order)
        return self.answer()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class Pair:
    """A client, and the wire between it and its server."""

    client: Peer
    wire: PtyWire

    @property
    def passed(self) -> int:
        """Bytes that the line has carried, both ways together."""
        return self.wire.sent(End.A) + self.wire.sent(End.B)

    def counted(self, **order: Any) -> tuple[dict[str, Any], int]:
        """The answer to an order of two steps, and the bytes the line carried in the second."""
        self.client.ask(**order)
        before = self.passed
        answer = self.client.ask()
        return answer, self.passed - before


@contextmanager
def line(kind: str, baud: int, options: str = "", faults: FaultPlan = CLEAN) -> Iterator[Pair]:
    """Both ends of `kind` over a line of that speed. The faults begin when both are connected."""
    url_options = f"baudrate={baud}" + (f"&{options}" if options else "")
    with PtyWire(baud=baud, bits=BITS) as wire:
        server = Peer("serve", kind, wire.by_id(End.B), url_options)
        client = None
        try:
            client = Peer("drive", kind, wire.by_id(End.A), url_options)
            wire.inflict(faults)
            yield Pair(client, wire)
        finally:
            if client is not None:
                client.end()
            server.end()


# -- rows ------------------------------------------------------------------------------------------------------------


def goodput(kind: str, baud: int, seconds: float, options: str = "", faults: FaultPlan = CLEAN) -> dict[str, Any]:
    with line(kind, baud, options, faults) as pair:
        return pair.client.ask(do="bulk", seconds=seconds, size=MESSAGE)


def bulk_row(baud: int, frame: int) -> Callable[[float], list[Figure]]:
    def measure(seconds: float) -> list[Figure]:
        ours = goodput("gateway", baud, seconds, f"frame={frame}")
        stock = goodput("rpyc", baud, seconds)
        rate = ours["bytes"] / ours["elapsed_s"]
        anchor = baud / BITS
        stock_rate = stock["bytes"] / stock["elapsed_s"]
        busy = max(ours["cpu_s"], ours["server_cpu_s"]) / ours["elapsed_s"]
        name = f"bulk-{baud}-{frame}"
        what = f"bulk up, {baud} baud, frames of {frame}"
        figures = [
            Figure(
                name,
                what,
                f"{rate:.0f} B/s",
                f"line: {anchor:.0f} B/s",
                rate / anchor,
                ">= 0.95",
                rate >= 0.95 * anchor,
            ),
            Figure(
                name, "  against rpyc", f"{rate:.0f} B/s", f"rpyc: {stock_rate:.0f} B/s", rate / stock_rate, "", None
            ),
        ]
        if baud == 921600:
            text = f"{busy:.1%} of a core"
            figures.append(Figure(name, "  CPU of the busier end", text, "a core", busy, "<= 0.25", busy <= 0.25))
        return figures

    return measure


def call_row(seconds: float) -> list[Figure]:
    baud, count = 115200, max(20, int(seconds * 30))
    figures = []
    for kind in ("gateway", "rpyc"):
        with line(kind, baud) as pair:
            answer, passed = pair.counted(do="calls", count=count, size=100)
        own_s = passed / count * BITS / baud
        took_s = median(answer["times_s"])
        ours = kind == "gateway"
        figures.append(
            Figure(
                "call",
                f"call with 100 bytes, {baud} baud, {'ours' if ours else 'rpyc'}",
                f"{took_s * 1e3:.2f} ms",
                f"its {passed / count:.0f} bytes need {own_s * 1e3:.2f} ms",
                took_s / own_s,
                f"<= {1.25 * own_s * 1e3 + 2:.2f} ms" if ours else "",
                took_s <= 1.25 * own_s + 0.002 if ours else None,
            )
        )
    return figures


def first_row(seconds: float) -> list[Figure]:
    baud, count = 115200, max(3, int(seconds))
    found: dict[str, list[float]] = {"gateway": [], "rpyc": []}
    for _ in range(count):
        for kind, times in found.items():
            with line(kind, baud) as pair:
                times.append(pair.client.greeting["first_s"])
    ours, stock = median(found["gateway"]), median(found["rpyc"])
    return [
        Figure(
            "first",
            f"first call of a new connection, {baud} baud",
            f"{ours * 1e3:.1f} ms",
            f"rpyc: {stock * 1e3:.1f} ms",
            ours / stock,
            "<= 100 ms",
            ours <= 0.1,
        )
    ]


def bytes_row(seconds: float) -> list[Figure]:
    figures, count = [], 20
    costs: dict[str, float] = {}
    for name, kind, options in (("rpyc", "rpyc", ""), ("deflate", "gateway", ""), ("plain", "gateway", "deflate=off")):
        with line(kind, 921600, options) as pair:
            _, passed = pair.counted(do="set_voltage", count=count)
        costs[name] = passed / count
    for name, limit in (("deflate", 60), ("plain", 110)):
        figures.append(
            Figure(
                "bytes",
                f"bytes per root.psu1.set_voltage(3.3), {'with deflate' if name == 'deflate' else 'without'}",
                f"{costs[name]:.1f}",
                f"rpyc: {costs['rpyc']:.1f}",
                costs[name] / costs["rpyc"],
                f"<= {limit}",
                costs[name] <= limit,
            )
        )
    return figures


def noise_row(baud: int) -> Callable[[float], list[Figure]]:
    def measure(seconds: float) -> list[Figure]:
        clean = goodput("gateway", baud, seconds)
        clean_rate = clean["bytes"] / clean["elapsed_s"]
        figures = []
        for chance, target in ((1e-4, 0.85), (1e-3, None)):
            noisy = goodput("gateway", baud, seconds, "", FaultPlan(seed=1, drop=chance / 2, flip=chance / 2))
            rate = noisy["bytes"] / noisy["elapsed_s"]
            figures.append(
                Figure(
                    f"noise-{baud}",
                    f"{baud} baud, 1 byte in {1 / chance:.0f} damaged, each message checked",
                    f"{rate:.0f} B/s",
                    f"clean: {clean_rate:.0f} B/s",
                    rate / clean_rate,
                    ">= 0.85" if target else "intact",
                    rate >= target * clean_rate if target else True,
                )
            )
        return figures

    return measure


def million_row(seconds: float) -> list[Figure]:
    """Over a wire in memory, in virtual time; how many messages depends on how long the other rows take."""
    began = monotonic()
    tally = million(round(125_000 * seconds))
    damaged = tally.crc_errors + tally.overruns
    spoilt = tally.lost + tally.doubled + tally.altered
    what = f"{tally.messages} messages, {damaged} of {tally.frames} frames damaged"
    value = f"lost {tally.lost}, doubled {tally.doubled}, altered {tally.altered}"
    anchor = f"in {monotonic() - began:.0f} s, {tally.virtual_s:.0f} of the line"
    return [Figure("million", what, value, anchor, None, "0, 0, 0", spoilt == 0)]


def share_row(seconds: float) -> list[Figure]:
    """A small call on one channel, while another one of the same line is kept full."""
    baud, frame, window = 115200, 512, 16
    with line("gateway", baud) as pair:
        url = f"serial://{pair.wire.by_id(End.A)}?baudrate={baud}"
        times = pair.client.ask(do="share", seconds=seconds, url=url)["times_s"]
    window_s = window * frame * BITS / baud
    worst, usual = max(times), median(times)
    what = f"small call beside bulk, {baud} baud"
    anchor = f"a window: {window_s:.3f} s"
    return [
        Figure(
            "share",
            f"{what}, the worst of {len(times)}",
            f"{worst:.3f} s",
            anchor,
            worst / window_s,
            "<= 1",
            worst <= window_s,
        ),
        Figure("share", "  usually", f"{usual:.3f} s", anchor, usual / window_s, "", None),
    ]


def unplug_row(seconds: float) -> list[Figure]:
    lost, back = [], []
    for _ in range(max(3, round(seconds))):
        with line("gateway", 115200) as pair:
            pair.client.ask(do="until_lost", size=50)
            sleep(0.2)
            pulled = monotonic()
            pair.wire.unplug()
            lost.append(pair.client.answer()["at_s"] - pulled)
            pair.client.order(do="reconnect")
            sleep(AWAY_S)
            for end in End:
                pair.wire.replug(end, f"tty{end.name}1")
            plugged = monotonic()
            back.append(pair.client.answer()["at_s"] - plugged)
    return [
        Figure(
            "unplug",
            "unplugged to typed error, the worst",
            f"{max(lost):.3f} s",
            "",
            None,
            "<= 0.2 s",
            max(lost) <= 0.2,
        ),
        Figure(
            "unplug",
            "replugged to first good call, the worst",
            f"{max(back):.3f} s",
            "",
            None,
            "<= 1 s",
            max(back) <= 1,
        ),
    ]


ROWS: Final[dict[str, Callable[[float], list[Figure]]]] = {
    "bulk-115200": bulk_row(115200, 512),
    "bulk-115200-256": bulk_row(115200, 256),
    "bulk-921600": bulk_row(921600, 512),
    "bulk-921600-256": bulk_row(921600, 256),
    "call": call_row,
    "first": first_row,
    "bytes": bytes_row,
    "noise-115200": noise_row(115200),
    "noise-921600": noise_row(921600),
    "million": million_row,
    "share": share_row,
    "unplug": unplug_row,
}


def show(figures: list[Figure], console: Console) -> None:
    table = Table("", "measured", "anchor", "ratio", "target", "", title="The serial link on paced lines")
    for row in figures:
        mark = "" if row.reached is None else ("[green]yes[/]" if row.reached else "[red]no[/]")
        table.add_row(row.what, row.value, row.anchor, f"{row.ratio:.3f}" if row.ratio else "", row.target, mark)
    console.print(table)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="line.py", description="The serial link on paced lines.")
    parser.add_argument("--quick", action="store_true", help="rough figures within a minute")
    parser.add_argument("--only", action="append", metavar="NAME", choices=list(ROWS), help="may be repeated")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    options = parser.parse_args(argv)
    seconds = 2.0 if options.quick else 8.0
    figures: list[Figure] = []
    failures: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        names = options.only or list(ROWS)
        bar = progress.add_task("", total=len(names))
        for name in names:
            progress.update(bar, description=name)
            try:
                figures += ROWS[name](seconds)
            except Failed as failure:
                failures.append(f"{name}: {failure}")
            progress.advance(bar)
    if options.json:
        print(json.dumps({"figures": [asdict(row) for row in figures], "failures": failures}, indent=2))
    else:
        show(figures, Console(width=None if sys.stdout.isatty() else 150))
    sys.stderr.writelines(f"error: {failure}\n" for failure in failures)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
