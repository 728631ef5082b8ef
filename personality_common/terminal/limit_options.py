"""Options of the commands that open a Core ML model which may come from anywhere."""

from __future__ import annotations

from typing import Final

import click

from personality_common.coreml.limits import MODEL_MIB, SECONDS

max_model_mib: Final = click.option(
    "--max-model-mib",
    type=click.IntRange(min=1),
    default=MODEL_MIB,
    show_default=True,
    help="Refuse a model whose protobuf is larger; weight files do not count.",
)
max_seconds: Final = click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=SECONDS,
    show_default=True,
    help="Stop when loading the model, or evaluating it once, takes longer.",
)
