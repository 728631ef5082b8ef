"""Print what a prediction costs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from personality_common.inspection.cost import Cost
from personality_common.inspection.layout import (
    ROWS,
    cells,
    how_many,
    human_bytes,
    print_pairs,
    print_section,
    texts,
)
from personality_common.terminal.tables import Column, Grid, figures


def cost_table(costs: Sequence[tuple[str, Cost]]) -> Grid:
    """One package a row."""
    columns = (
        *texts("package"), Column("at", "text", drop=1), *figures("multiply-adds"),
        Column("operations", "figure", drop=2), *figures("bytes moved"), Column("peak", "figure", drop=3),
    )  # fmt: skip
    rows = [
        cells(
            name, _shapes(cost), f"{cost.multiply_adds:,}", f"{cost.operations:,}", human_bytes(cost.moved),
            human_bytes(cost.peak),
        )
        for name, cost in costs
    ]  # fmt: skip
    return Grid(columns, rows)


def render_cost(cost: Cost, console: Console) -> None:
    """The sums, and the ops that multiply and move most."""
    pairs = [
        ("inputs", _shapes(cost)),
        ("multiply-adds", f"{cost.multiply_adds:,}"),
        ("operations", f"{cost.operations:,}"),
        ("bytes moved", f"{human_bytes(cost.moved)}, {human_bytes(cost.weights)} of them weights"),
        ("peak memory", f"{human_bytes(cost.peak)} beside the weights"),
    ]
    if cost.uncounted:
        pairs.append(("not counted", ", ".join(f"{n} {kind}" for kind, n in cost.uncounted.items())))
    print_pairs(console, "Cost of one prediction, counted from the program", pairs)
    columns = (
        *texts("op", "type"), *figures("multiply-adds"), Column("operations", "figure", drop=3),
        Column("read", "figure", drop=4), Column("weights", "figure", drop=2),
        Column("written", "figure", drop=5), Column("live", "figure", drop=1),
    )  # fmt: skip
    first = sorted(cost.ops, key=lambda op: (-(op.multiply_adds or 0), -(op.read + op.weights + op.written)))[
        :ROWS
    ]
    rows = [
        cells(
            op.name,
            op.type,
            *("?" if n is None else f"{n:,}" for n in (op.multiply_adds, op.operations)),
            *map(human_bytes, (op.read, op.weights, op.written, op.live)),
        )
        for op in first
    ]
    print_section(console, "Ops, the costliest first" + how_many(cost.ops), Grid(columns, rows))


def _shapes(cost: Cost) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in cost.shapes.items())
