"""What an app may set when Core ML updates the head."""

from __future__ import annotations

from typing import Final

from personality_common.contract import HEAD_WEIGHT

LAYER: Final = HEAD_WEIGHT.removesuffix(".weight")
LOSS: Final = "loss"

LEARNING_RATES: Final = (0.01, 1e-8, 10.0)
"""Default, least, greatest. An app can set what is within, so the ranges are wide."""
MINI_BATCHES: Final = (16, 1, 64)
EPOCH_COUNTS: Final = (1, 1, 100)
SEEDS: Final = (0, 0, 2**31 - 1)
"""Of the order in which examples are shuffled."""
