"""The packages of a bundle."""

from __future__ import annotations

from typing import Final

from personality_common.contract import (
    ENCODER_PACKAGE,
    HEAD_BIAS,
    HEAD_PACKAGE,
    HEAD_WEIGHT,
    MODEL_PACKAGE,
    STATE_BIAS,
    STATE_WEIGHT,
    STATEFUL_PACKAGE,
    UPDATABLE_PACKAGE,
)

PARTS: Final = {
    "model": MODEL_PACKAGE,
    "updatable": UPDATABLE_PACKAGE,
    "head": HEAD_PACKAGE,
    "stateful": STATEFUL_PACKAGE,
    "encoder": ENCODER_PACKAGE,
}
"""Name of each part -> its package. Vocabulary, golden vectors and manifest are in every bundle."""

STATE_PARAMETERS: Final = {STATE_WEIGHT: HEAD_WEIGHT, STATE_BIAS: HEAD_BIAS}
"""State buffer -> the parameter that it holds."""
INITIAL_STATE_DIR: Final = "initial_state"
