"""How `pt parity` shows a report on a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.text import Text

from device_sim.parity.report import Report
from device_sim.parity.text_path import told
from personality_common.contract import LOGITS
from personality_common.evidence.claims import number, share
from personality_common.evidence.distances import Measures
from personality_common.terminal.checks import ChecksTable
from personality_common.terminal.tables import Cell, Column, Grid


def render(report: Report, console: Console) -> None:
    """Print verdict, runtimes, one row per package and pair, and what failed."""
    console.print(_runtimes(report))
    console.print()
    console.print(_comparisons(report))
    files = [check for check in report.checks if not check.runtimes]
    good = sum(check.passed for check in files)
    console.print()
    console.print(f"files     {good} of {len(files)} checks of bytes, order and interface hold")
    numbers = [check for check in report.checks if check.runtimes and check.status != "not judged"]
    good = sum(check.passed for check in numbers)
    console.print(f"numbers   {good} of {len(numbers)} comparisons are within tolerance")
    for line in told(report.checks):
        console.print(f"text      {line}")
    console.print()
    if report.failures:
        console.print(ChecksTable(report.failures))
        console.print()
    console.print(Text("parity holds", "bold green") if report.passed else Text("parity fails", "bold red"))


def _runtimes(report: Report) -> RenderableType:
    rows: list[tuple[Cell, ...]] = []
    for runtime in report.runtimes:
        state = Text("used", "green") if runtime.unavailable is None else Text("left out", "dim")
        rows.append((runtime.name, state, runtime.unavailable or runtime.what))
    return Group(f"bundle    {report.bundle}", Grid((Column(""), Column(""), Column("", "text")), rows))


_COLUMNS: Final = (
    Column("package", "text"), Column("runtimes"), Column("feature"), Column("max |diff|", "figure"),
    Column("mean |diff|", "figure", drop=4), Column("relative", "figure", drop=5),
    Column("cosine", "figure", drop=2), Column("PSNR dB", "figure", drop=1),
    Column("top 8", "figure", drop=6), Column("rank", "figure", drop=3), Column(""),
)  # fmt: skip
_RANKS: Final = ("top 8", "rank")


def _comparisons(report: Report) -> Grid:
    """The worst inputs of each package, pair and feature; ranks where there are tokens to rank."""
    ranked = any(record.feature == LOGITS for record in report.worst())
    columns = [column for column in _COLUMNS if ranked or column.name not in _RANKS]
    rows: list[tuple[Cell, ...]] = []
    previous = ""
    for record in report.worst():
        title = record.package.removesuffix(".mlpackage")
        verdict = Text("passed", "green") if report.holds(record) else Text("failed", "bold red")
        cells = _cells(record.measures)
        if ranked:
            cells += _ranks(record.measures) if record.feature == LOGITS else ["", ""]
        rows.append((title if title != previous else "", record.runtimes, record.feature, *cells, verdict))
        previous = title
    return Grid(columns, rows)


def _cells(measures: Measures) -> list[str]:
    psnr = "equal" if measures.max_abs == 0 else number(measures.psnr)
    distances = [number(measures.max_abs), number(measures.mean_abs), number(measures.relative)]
    return [*distances, share(measures.cosine), psnr]


def _ranks(measures: Measures) -> list[str]:
    return [share(measures.top8), share(measures.rank)]
