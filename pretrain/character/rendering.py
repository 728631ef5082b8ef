"""Figures of a run as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from personality_common.terminal.tables import Column, Grid, figures
from pretrain.character.baselines import BASELINE_NAMES
from pretrain.character.evaluation import OURS, Evaluation
from pretrain.character.quality import OutputQuality

_COLUMNS: Final = (OURS, *BASELINE_NAMES)
_TITLES: Final = {OURS: "this run", "linear": "logistic"}


def evaluation_tables(evaluation: Evaluation) -> Iterator[Grid]:
    """A table for each set of examples: a row per output and figure, a column per model.

    Accuracy and KL (nats) are taken from the true probabilities where the data have them; ECE is the expected
    calibration error, from the true probabilities, too; `possible` is what the truth itself would reach.
    """
    for name, found in evaluation.figures.items():
        speak, truly = evaluation.likeliest_speak[name]
        titles = [_TITLES.get(column, column) for column in _COLUMNS]
        baselines = [Column(title, "figure", drop=i) for i, title in enumerate(titles[:0:-1], start=1)]
        columns = (
            Column("output"),
            Column("figure"),
            *figures(titles[0]),
            *baselines[::-1],
            *figures("possible"),
        )
        rows = [
            row
            for key in found[OURS]
            for row in _rows(key, {column: found[column][key] for column in _COLUMNS})
        ]
        yield Grid(
            columns,
            rows,
            title=f"{name}: {evaluation.sizes[name]} examples",
            note=f"speaking is the likeliest action of {speak:.0%}, and done in {truly:.0%}",
        )


def _rows(key: str, found: Mapping[str, OutputQuality]) -> Iterator[tuple[str, ...]]:
    ours = found[OURS]
    if ours.expected_accuracy is not None:
        values = [_shown(found[c].expected_accuracy) for c in _COLUMNS]
        yield key, "accuracy", *values, _shown(ours.ceiling)
        yield "", "KL", *(_shown(found[c].kl) for c in _COLUMNS), "0"
    elif ours.accuracy is not None:
        yield key, "accuracy", *(_shown(found[c].accuracy) for c in _COLUMNS), "1"
    if ours.ece is not None:
        yield "", "ECE", *(_shown(found[c].ece) for c in _COLUMNS), _shown(ours.least_ece)
    if ours.error is not None:
        name = key if ours.accuracy is None else ""
        yield name, "RMS error", *(_shown(found[c].error) for c in _COLUMNS), "0"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
