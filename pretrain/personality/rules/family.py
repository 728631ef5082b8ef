"""What a bundle of the personality model holds."""

from __future__ import annotations

from typing import Final

from personality_common.bundle.family import Family
from personality_common.contract import (
    EMBEDDING_DIM,
    ENCODER_PACKAGE,
    HEAD_BIAS,
    HEAD_PACKAGE,
    HEAD_WEIGHT,
    LATENT_DIM,
    MODEL_PACKAGE,
    STATE_BIAS,
    STATE_WEIGHT,
    STATEFUL_PACKAGE,
    UPDATABLE_PACKAGE,
    VOCAB_SIZE,
)
from pretrain.personality.rules.tolerances import TOLERANCES

PARTS: Final = {
    "model": MODEL_PACKAGE,
    "updatable": UPDATABLE_PACKAGE,
    "head": HEAD_PACKAGE,
    "stateful": STATEFUL_PACKAGE,
    "encoder": ENCODER_PACKAGE,
}
"""Name of each part -> its package. Vocabulary, golden vectors and manifest are in every bundle."""

PERSONALITY: Final = Family(
    parts=PARTS,
    golden={"embeddings": EMBEDDING_DIM, "latents": LATENT_DIM, "logits": VOCAB_SIZE},
    tolerances=TOLERANCES,
)

STATE_PARAMETERS: Final = {STATE_WEIGHT: HEAD_WEIGHT, STATE_BIAS: HEAD_BIAS}
"""State buffer -> the parameter that it holds."""
INITIAL_STATE_DIR: Final = "initial_state"
