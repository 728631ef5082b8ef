"""Training and evaluation of a language model as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from personality_common.terminal.tables import Column, Grid, figures
from pretrain.lm.evaluation import Evaluation
from pretrain.lm.training import GROUPS

MOST_ROWS: Final = 20
"""Of a table of measurements; of more, every second, third, … is shown."""


def health_tables(history: Sequence[Mapping[str, Any]]) -> Iterator[Grid]:
    """How training went, a row per measurement: what was learned, and how the steps were.

    Losses are in nats a token, `gain` what the held-out one lost since the measurement before; norms of the
    gradient are from before clipping; below a group of matrices stands the share of its own norm by which
    the last step before the measurement changed it.
    """
    every = -(-len(history) // MOST_ROWS)
    shown = [entry for i, entry in enumerate(history) if i % every == 0 or i + 1 == len(history)]
    learned, stepped = [], []
    for entry in shown:
        step, held_out = str(entry["step"]), f"{entry['val_loss']:.4f}"
        if "train_loss" not in entry:
            learned.append((step, "", held_out, "", ""))
            continue
        gradient, changed = entry["gradient_norm"], entry["update_to_weight"]
        trained, rate = f"{entry['train_loss']:.4f}", f"{entry['tokens_per_second']:,.0f}"
        learned.append((step, trained, held_out, f"{entry['gain']:+.4f}", rate))
        norms = (f"{gradient['mean']:.2f}", f"{gradient['max']:.2f}", f"{gradient['clipped']:.0%}")
        stepped.append((step, *norms, *(f"{changed[group]:.1e}" for group in GROUPS)))
    yield Grid(figures("step", "training", "held out", "gain", "tokens/s"), learned, "health of training")
    groups = [Column(group.replace("_", "-"), "figure", drop=i) for i, group in enumerate(GROUPS, start=1)]
    columns = (*figures("step", "gradient", "greatest", "clipped"), *groups)
    yield Grid(columns, stepped, "its steps: norm of the gradient, and updates to weights")


def evaluation_tables(evaluation: Evaluation) -> Iterator[Grid]:
    """Bits per byte by source, beside what counting and xz reach; shares of right answers; samples."""
    yield Grid(
        (
            Column("source", "text"), Column("documents", "figure", drop=2),
            Column("bytes", "figure", drop=1), *figures("this run", "Kneser-Ney", "xz"),
        ),
        [
            (source, str(b.documents), f"{b.bytes:,}", *(f"{x:.3f}" for x in (b.model, b.kneser_ney, b.xz)))
            for source, b in evaluation.bits.items()
        ],
        "bits per byte of test documents (lower is better)",
    )  # fmt: skip
    rows = [
        (
            f"call, {kind}",
            str(found.examples),
            *map(_shown, (found.exact, found.tool, found.valid, found.abstained)),
        )
        for kind, found in evaluation.calls.items()
    ]
    for name, share in (("no tool fits", evaluation.abstention), ("reasoning", evaluation.reasoning)):
        if share is not None:
            rows.append((name, str(share.examples), _shown(share.right), "", "", ""))
    if rows:
        named = figures("prompts", "right", "right tool", "valid call", "said none")
        yield Grid((Column("of", "text"), *named), rows, "answers, decoded greedily")
    if (tags := evaluation.tags) is not None:
        row = (str(tags.documents), f"{tags.right:.3f}", f"{tags.shuffled:.3f}")
        yield Grid(figures("documents", "right tag", "another"), [row], "bits per byte by tag")
    samples = [(one.source, one.prompt, one.text) for one in evaluation.samples]
    named = [Column(name, "text") for name in ("source", "after", "the model says")]
    yield Grid(named, samples, "samples")


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
