"""The learning curve of a run, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personality_common.files.atomic import atomic_writer

_COLOURS: Final = ("#1f6f8b", "#5aa469", "#d4a017", "#b3446c")


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        lines: what each is called, and its figures, one per evaluation.
        limits: of the vertical axis.
    """

    title: str
    lines: Mapping[str, Sequence[float]]
    limits: tuple[float, float]


def draw_learning_curve(count: str, evaluations: Sequence[int], panels: Sequence[Panel], path: Path) -> None:
    """Plots side by side, over the same evaluations; PNG, each 600 x 450 pixels.

    Args:
        count: what `evaluations` are numbered in.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6 * len(panels), 4.5), dpi=100, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.set_prop_cycle(color=_COLOURS)
        for label, figures in panel.lines.items():
            axes.plot(evaluations, figures, marker="o", label=label)
        axes.set(title=panel.title, ylim=panel.limits, xlabel=f"{count} (0: the start)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        axes.legend()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    with atomic_writer(path) as file:
        file.write(picture.getvalue())
