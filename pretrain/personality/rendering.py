"""How predictions look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

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
