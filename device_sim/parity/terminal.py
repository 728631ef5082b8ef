"""How `pt parity` shows a report on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_sim.parity.report import Comparison, Report
from device_sim.parity.text_path import told
from personality_common.contract import LOGITS
from personality_common.evidence.claims import number
from personality_common.evidence.distances import Measures
from personality_common.terminal.checks import ChecksTable

WIDE = 140
"""Columns from which on the table has all measures."""


def render(report: Report, console: Console) -> None:
    """Print verdict, runtimes, one row per package and pair, and what failed."""
    console.print(_runtimes(report))
    console.print()
    console.print(_comparisons(report, console.width >= WIDE))
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
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for runtime in report.runtimes:
        state = Text("used", "green") if runtime.unavailable is None else Text("left out", "dim")
        table.add_row(runtime.name, state, runtime.unavailable or runtime.what)
    return Group(f"bundle    {report.bundle}", table)


def _comparisons(report: Report, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("package", overflow="fold")
    table.add_column("runtimes", no_wrap=True)
    names = ["max |diff|", "top 8", "rank"]
    if wide:
        names = ["feature", "max |diff|", "mean |diff|", "relative", "cosine", "PSNR dB", "top 8", "rank"]
    for name in names:
        table.add_column(name, justify="left" if name == "feature" else "right", no_wrap=True)
    table.add_column("", no_wrap=True)
    previous = ""
    for record in _rows(report, wide):
        title = record.package.removesuffix(".mlpackage")
        verdict = Text("passed", "green") if report.holds(record) else Text("failed", "bold red")
        cells = _cells(record.measures, record.feature, wide)
        table.add_row(title if title != previous else "", record.runtimes, *cells, verdict)
        previous = title
    return table


def _rows(report: Report, wide: bool) -> Iterator[Comparison]:
    """The worst inputs of each package, pair and feature; of the last feature alone where it is narrow."""
    worst = report.worst()
    last = {(record.package, record.runtimes): record for record in worst}
    yield from worst if wide else last.values()


def _cells(measures: Measures, feature: str, wide: bool) -> list[str]:
    ranked = feature == LOGITS
    short = [number(measures.max_abs)]
    ends = [_share(measures.top8), _share(measures.rank)] if ranked else ["", ""]
    if not wide:
        return short + ends
    psnr = "equal" if measures.max_abs == 0 else number(measures.psnr)
    middle = [number(measures.mean_abs), number(measures.relative), _share(measures.cosine), psnr]
    return [feature, *short, *middle, *ends]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"
