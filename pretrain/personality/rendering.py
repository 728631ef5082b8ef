"""How predictions and evaluations look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from personality_common.terminal.tables import NO_BREAK, Column, Grid, figures
from pretrain.personality.evaluation import Evaluation
from pretrain.personality.label_metrics import HITS
from pretrain.personality.prediction import Prediction


def prediction_table(predictions: Sequence[Prediction]) -> Grid:
    """A row per text: its tokens, the likeliest first, each with its own probability in percent."""
    rows = []
    for prediction in predictions:
        tokens = Text()
        for i, (token, probability) in enumerate(
            zip(prediction.tokens, prediction.probabilities, strict=True)
        ):
            tokens.append("  " if i else "")
            tokens.append(token.replace(" ", NO_BREAK))
            tokens.append(f"{NO_BREAK}{probability:.0%}", style="dim")
        rows.append((Text(prediction.text), tokens))
    columns = (Column("text", "text"), Column("tokens", "text"))
    return Grid(columns, rows, note=INDEPENDENT, spaced=True)


INDEPENDENT = (
    "each percentage is a token's own (a sigmoid): whether it fits, whatever the others do; they do not sum"
    " to 100%"
)


def measured_table(found: Evaluation) -> Grid:
    """A row for the model and for each baseline."""
    hits = [Column(f"hit@{k}", "figure", drop=i) for i, k in enumerate(HITS, start=1)]
    columns = (Column(""), *figures("AUC", "AP"), *hits, *figures("coverage", "ECE"))
    rows = []
    for name, one in found.measured.items():
        values = (one.auc, one.average_precision, *one.hits.values(), one.coverage, one.calibration_error)
        rows.append((name, *(f"{value:.3f}" for value in values)))
    return Grid(columns, rows)


def confusion_table(found: Evaluation) -> Grid:
    """The pairs that are most often confused."""
    columns = (
        Column("label", "text"),
        Column("ranked above it", "text"),
        *figures("texts", "of the label's"),
    )
    rows = [(pair.label, pair.instead, str(pair.texts), f"{pair.share:.0%}") for pair in found.confusions]
    return Grid(columns, rows)
