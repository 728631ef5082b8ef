"""The learning curve of a run, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personality_common.files.atomic import atomic_writer


def draw_learning_curve(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Validation loss above its floor, and recall, by epoch; PNG, 1200 x 450 pixels."""
    from matplotlib.figure import Figure

    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(12, 4.5), dpi=100, layout="constrained")
    loss, ranking = figure.subplots(1, 2)
    gaps = [entry["val_loss"] - entry["val_loss_floor"] for entry in history]
    loss.plot(epochs, gaps, marker="o", color="#b3446c")
    loss.set(title="validation BCE above its floor", ylim=(0, 1.1 * max(gaps)))
    loss.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    lowest = 1.0
    for key, label, colour in (
        ("val_top5_recall", "top-5 recall", "#1f6f8b"),
        ("val_top8_recall", "top-8 recall", "#5aa469"),
        ("val_ndcg8", "NDCG@8", "#d4a017"),
    ):
        figures = [entry[key] for entry in history]
        lowest = min(lowest, *figures)
        ranking.plot(epochs, figures, marker="o", label=label, color=colour)
    # A change in the third decimal should not look like a cliff.
    ranking.set(title="ranking on held-out texts", ylim=(min(0.9, lowest - 0.05), 1.005))
    ranking.legend()
    for axes in (loss, ranking):
        axes.set_xlabel("epoch (0: the start)")
        axes.set_xticks(epochs)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    with atomic_writer(path) as file:
        file.write(picture.getvalue())
