"""Training and evaluation of a language model as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from pretrain.lm.training import GROUPS

MOST_ROWS: Final = 20
"""Of a table of measurements; of more, every second, third, … is shown."""


def health_table(history: Sequence[Mapping[str, Any]]) -> Table:
    """How training went: a row per measurement.

    Losses are in nats a token, `gain` what the held-out one lost since the measurement before; norms of the
    gradient are from before clipping; the last columns are the share of its own norm by which a step, the
    last before the measurement, changed each group of matrices.
    """
    columns = ("step", "training", "held out", "gain", "gradient", "greatest", "clipped", *GROUPS, "tokens/s")
    table = Table(title="health of training", box=None, title_justify="left")
    for column in columns:
        table.add_column(column.replace("_", "-"), justify="right", no_wrap=True)
    every = -(-len(history) // MOST_ROWS)
    for index, entry in enumerate(history):
        if index % every and index + 1 < len(history):
            continue
        row = [str(entry["step"]), "", f"{entry['val_loss']:.4f}"]
        if "train_loss" in entry:
            gradient, changed = entry["gradient_norm"], entry["update_to_weight"]
            row[1] = f"{entry['train_loss']:.4f}"
            row += [f"{entry['gain']:+.4f}", f"{gradient['mean']:.2f}", f"{gradient['max']:.2f}"]
            row += [f"{gradient['clipped']:.0%}", *(f"{changed[group]:.1e}" for group in GROUPS)]
            row.append(f"{entry['tokens_per_second']:,.0f}")
        table.add_row(*row)
    return table
