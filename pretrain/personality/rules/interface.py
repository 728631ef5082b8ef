"""What each package must take and give: the table that apps rely on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from personality_common.bundle.manifest import Port
from personality_common.contract import (
    ATTENTION_MASK,
    EMBEDDING,
    EMBEDDING_DIM,
    INPUT_IDS,
    LATENT,
    LATENT_DIM,
    LOGITS,
    MAX_BATCH,
    MINILM_DIM,
    SENTENCE_EMBEDDING,
    STATE_BIAS,
    STATE_WEIGHT,
    TARGET,
    VOCAB_SIZE,
)


@dataclass(frozen=True)
class Interface:
    """Of a package."""

    kind: str
    specification_version: int
    updatable: bool
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[Port, ...] = ()
    training_inputs: tuple[Port, ...] = ()


def _rows(name: str, width: int, flexible: bool = False) -> Port:
    return Port(name, "float32", (1, width), ((1, MAX_BATCH), (width, width)) if flexible else None)


def _tokens(name: str) -> Port:
    return Port(name, "int32", (1, 128), ((1, 1), (2, 256)))


_HEAD_TARGET: Final = _rows(TARGET, VOCAB_SIZE)
_FLEXIBLE: Final = (
    (_rows(EMBEDDING, EMBEDDING_DIM, True),),
    (_rows(LATENT, LATENT_DIM, True), _rows(LOGITS, VOCAB_SIZE, True)),
)

INTERFACES: Final = {
    "model": Interface("mlProgram", 8, False, *_FLEXIBLE),
    "updatable": Interface(
        "pipeline",
        8,
        True,
        (_rows(EMBEDDING, EMBEDDING_DIM),),
        (_rows(LOGITS, VOCAB_SIZE),),
        training_inputs=(_rows(EMBEDDING, EMBEDDING_DIM), _HEAD_TARGET),
    ),
    "head": Interface(
        "neuralNetwork",
        4,
        True,
        (_rows(LATENT, LATENT_DIM),),
        (_rows(LOGITS, VOCAB_SIZE),),
        training_inputs=(_rows(LATENT, LATENT_DIM), _HEAD_TARGET),
    ),
    "stateful": Interface(
        "mlProgram",
        9,
        False,
        *_FLEXIBLE,
        states=(
            Port(STATE_WEIGHT, "float16", (VOCAB_SIZE, LATENT_DIM), None),
            Port(STATE_BIAS, "float16", (VOCAB_SIZE,), None),
        ),
    ),
    "encoder": Interface(
        "mlProgram",
        8,
        False,
        (_tokens(INPUT_IDS), _tokens(ATTENTION_MASK)),
        (_rows(SENTENCE_EMBEDDING, MINILM_DIM), _rows(EMBEDDING, EMBEDDING_DIM)),
    ),
}
"""By part."""
