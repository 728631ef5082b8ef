"""How `pt parity` shows a report on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from device_sim.parity.report import Comparison, Report
from device_sim.parity.verdict import figure
from personality_common.contract import LOGITS
from personality_common.evidence.distances import Measures

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
    numbers = [check for check in report.checks if check.runtimes]
    good = sum(check.passed for check in numbers)
    console.print(f"numbers   {good} of {len(numbers)} comparisons are within tolerance")
    for check in report.failures:
        where = " ".join(filter(None, (check.package.removesuffix(".mlpackage"), check.runtimes)))
        value = f" {check.value}, must be {check.limit}" if check.limit else ""
        console.print()
        title = f"[bold]{escape(where or 'bundle')}[/]: {escape(check.check)}{value}"
        table = Table.grid(padding=(0, 4))
        table.add_row("[bold red]failed[/]", "\n".join(filter(None, (title, escape(check.detail)))))
        console.print(table)
    console.print()
    console.print("[bold green]parity holds[/]" if report.passed else "[bold red]parity fails[/]")


def _runtimes(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for runtime in report.runtimes:
        state = "[green]used[/]" if runtime.unavailable is None else "[dim]left out[/]"
        table.add_row(runtime.name, state, escape(runtime.unavailable or runtime.what))
    return Group(f"bundle    {escape(report.bundle)}", table)


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
    for package, pair, feature, record in _rows(report, wide):
        title = package.removesuffix(".mlpackage")
        verdict = _verdict(report, package, pair)
        cells = _cells(record.measures, feature, wide)
        table.add_row(title if title != previous else "", pair, *cells, verdict)
        previous = title
    return table


def _rows(report: Report, wide: bool) -> Iterator[tuple[str, str, str, Comparison]]:
    """For each package, pair and feature, the inputs that are no hostile ones and do worst."""
    best: dict[tuple[str, str, str], Comparison] = {}
    for record in report.comparisons:
        if record.inputs.startswith("hostile"):
            continue
        key = (record.package, f"{record.value} / {record.reference}", record.feature)
        if key not in best or (record.measures.max_abs or 0) > (best[key].measures.max_abs or 0):
            best[key] = record
    last = {(package, pair): feature for package, pair, feature in best}
    for (package, pair, feature), record in best.items():
        if wide or feature == last[package, pair]:
            yield package, pair, feature, record


def _cells(measures: Measures, feature: str, wide: bool) -> list[str]:
    ranked = feature == LOGITS
    short = [figure(measures.max_abs)]
    ends = [_share(measures.top8), _share(measures.rank)] if ranked else ["", ""]
    if not wide:
        return short + ends
    psnr = "equal" if measures.max_abs == 0 else figure(measures.psnr)
    middle = [figure(measures.mean_abs), figure(measures.relative), _share(measures.cosine), psnr]
    return [feature, *short, *middle, *ends]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def _verdict(report: Report, package: str, pair: str) -> str:
    own = [check for check in report.checks if check.package == package and check.runtimes == pair]
    return "[green]passed[/]" if all(check.passed for check in own) else "[bold red]failed[/]"
