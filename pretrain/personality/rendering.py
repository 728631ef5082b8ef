"""How predictions and evaluations look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from pretrain.personality.evaluation import Evaluation
from pretrain.personality.label_metrics import HITS
from pretrain.personality.prediction import Prediction


def prediction_table(predictions: Sequence[Prediction]) -> Table:
    """A row per text: its tokens, the likeliest first, with probabilities in percent."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=len(predictions) > 1, pad_edge=False)
    table.add_column("text", ratio=2, overflow="fold")
    table.add_column("tokens", ratio=3)
    for prediction in predictions:
        tokens = Text()
        for i, (token, probability) in enumerate(
            zip(prediction.tokens, prediction.probabilities, strict=True)
        ):
            tokens.append("  " if i else "")
            tokens.append(token.replace(" ", "\N{NO-BREAK SPACE}"))
            tokens.append(f"\N{NO-BREAK SPACE}{probability:.0%}", style="dim")
        table.add_row(Text(prediction.text), tokens)
    return table


def measured_table(found: Evaluation) -> Table:
    """A row for the model and for each baseline."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("AUC", "AP", *(f"hit@{k}" for k in HITS), "coverage", "ECE"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in found.measured.items():
        figures = (one.auc, one.average_precision, *one.hits.values(), one.coverage, one.calibration_error)
        table.add_row(name, *(f"{figure:.3f}" for figure in figures))
    return table


def confusion_table(found: Evaluation) -> Table:
    """The pairs that are most often confused."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("label", "ranked above it"):
        table.add_column(name)
    for name in ("texts", "of the label's"):
        table.add_column(name, justify="right")
    for pair in found.confusions:
        table.add_row(Text(pair.label), Text(pair.instead), str(pair.texts), f"{pair.share:.0%}")
    return table
