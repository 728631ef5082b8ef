"""`pt trace`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, Final, Literal

import click
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_sim.trace.trace import (
    AGAINST,
    NOT_COMPARED,
    Error,
    OpTrace,
    TraceConfig,
    by_accumulated,
    by_added,
    trace_package,
)

_DEFAULTS: Final = {name: field.default for name, field in TraceConfig.__dataclass_fields__.items()}
_PIPE_WIDTH: Final = 200
_ONE_LINE: Final = 130
"""Columns from which a record takes one line; below, two."""


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--input",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz|.json",
    help="The model's inputs by name; other arrays in the file are left alone.",
)
@click.option(
    "--against",
    type=click.Choice(AGAINST),
    default=_DEFAULTS["against"],
    show_default=True,
    help="float16: all values and weights, against float64. int8: the weights of matrix products, "
    "one scale per output channel, against float32. torch: the same ops in torch.",
)
@click.option("--top", type=int, default=_DEFAULTS["top"], show_default=True, help="Ops to show.")
@click.option("--json", "as_json", is_flag=True, help="Print both rankings as JSON.")
def trace(package: Path, input: Path, against: str, top: int, as_json: bool) -> None:
    """Say which op of PACKAGE loses the precision.

    Each op is computed by the reference, on the reference's inputs in the lower precision (the
    error it adds), and on inputs of the lower precision (the error that has accumulated).
    """
    config = TraceConfig(package, input, against, top)

    from device_sim.mil import load_mil
    from device_sim.runtimes.arrays import read_arrays
    from personality_common.coreml.package import Package

    opened = Package.open(config.package)
    model = load_mil(opened)
    arrays = read_arrays(config.input, model.inputs)
    records = list(trace_package(opened, arrays, config.against))
    if as_json:
        click.echo(json.dumps(_json(config, records), allow_nan=False))
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(_report(config, records, [f.name for f in model.outputs], console.width >= _ONE_LINE))


def _json(config: TraceConfig, records: list[OpTrace]) -> dict[str, Any]:
    return {
        "package": str(config.package),
        "input": str(config.input),
        "against": config.against,
        "values": len(records),
        "not_compared": dict(_not_compared(records)),
        "added": [_plain(record) for record in by_added(records)[: config.top]],
        "accumulated": [_plain(record) for record in by_accumulated(records)[: config.top]],
    }


def _plain(record: OpTrace) -> dict[str, Any]:
    """With null for what is not finite, which JSON has no number for."""
    plain = dataclasses.asdict(record)
    for name in ("added", "accumulated"):
        if plain[name] is not None:
            plain[name] = {k: v if math.isfinite(v) else None for k, v in plain[name].items()}
    return plain


def _report(config: TraceConfig, records: list[OpTrace], outputs: list[str], wide: bool) -> RenderableType:
    ranked = [record for record in by_added(records) if _wrong(record)][: config.top]
    accumulated = {id(record): rank for rank, record in enumerate(by_accumulated(records), 1)}
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for headers, justify in _COLUMNS:
        for header in headers if wide else ("\n".join(headers),):
            table.add_column(header, justify=justify, overflow="fold")
    for rank, record in enumerate(ranked, 1):
        cells = _cells(rank, record, accumulated[id(record)])
        table.add_row(*(cell for pair in cells for cell in (pair if wide else [Text("\n").join(pair)])))
    if not ranked:
        return Text(f"{config.package}: {len(records)} values against {config.against}, all the same")
    lines: list[RenderableType] = [
        Text(f"{config.package}: {len(records)} values against {config.against}, by the error added"),
        table,
        Text(
            "error: root mean square over that of the reference; max: greatest difference; "
            "#: rank by accumulated error"
        ),
    ]
    for worst in by_accumulated(records)[:1]:
        lines.append(Text(f"most has accumulated in {_place(worst)}: {_number(worst.accumulated.relative)}"))
    ends = {record.output: record for record in records if record.output in outputs}
    for name, end in ends.items():
        lines.append(Text(f"output {name}: {_number(end.accumulated.relative)}"))
    if missing := _not_compared(records):
        names = ", ".join(f"{op} ({count})" for op, count in sorted(missing.items()))
        lines.append(Text(f"not compared: {names}"))
    return Group(*lines)


_COLUMNS: Final[tuple[tuple[tuple[str, str], Literal["left", "right"]], ...]] = (
    (("", "at"), "right"),
    (("op", "output"), "left"),
    (("error added", "max added"), "right"),
    (("accumulated", "#"), "right"),
    (("shape", "range"), "left"),
    (("overflow", ""), "left"),
)


def _wrong(record: OpTrace) -> bool:
    return bool(record.overflow or record.accumulated.max_abs or (record.added and record.added.max_abs))


def _cells(rank: int, record: OpTrace, accumulated: int) -> list[tuple[Text, Text]]:
    position = "" if record.position is None else str(record.position)
    model = f"{record.model}/" if record.model else ""
    error = record.added
    low, high = record.low, record.high
    flag = {
        "here": Text("overflows", "bold red"),
        "before": Text("overflowed before", "yellow"),
        "": Text(""),
    }
    return [
        (Text(str(rank)), Text(position, "dim")),
        (Text(record.op, "bold"), Text(model + record.output)),
        (_shown(error, "relative"), _shown(error, "max_abs")),
        (_shown(record.accumulated, "relative"), Text(str(accumulated), "dim")),
        (Text(str(record.shape)), Text(f"{low:.3g} … {high:.3g}", no_wrap=True)),
        (flag[record.overflow], Text(record.note, "dim")),
    ]


def _shown(error: Error | None, name: str) -> Text:
    return Text("–" if error is None else _number(getattr(error, name)))


def _number(value: float) -> str:
    return f"{value:.2g}" if value in (0, math.inf) else f"{value:.1e}"


def _place(record: OpTrace) -> str:
    model = f"{record.model}/" if record.model else ""
    at = "" if record.position is None else f", operation {record.position}"
    return f"{model}{record.output} ({record.op}{at})"


def _not_compared(records: list[OpTrace]) -> Counter[str]:
    return Counter(record.op for record in records if record.note == NOT_COMPARED)
