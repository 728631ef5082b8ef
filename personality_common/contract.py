"""Dimensions, feature names and file names that the app, the packages and the run agree on."""

from typing import Final

VOCAB_SIZE: Final = 325
MINILM_DIM: Final = 384
EMBEDDING_DIM: Final = 1536
LATENT_DIM: Final = 512
TOP_K: Final = 8
"""How many tokens the app shows and conditions its prompt on."""

EMBEDDING: Final = "embedding"
LATENT: Final = "latent"
LOGITS: Final = "logits"
INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
SENTENCE_EMBEDDING: Final = "sentence_embedding"

HEAD_WEIGHT: Final = "projection.weight"
HEAD_BIAS: Final = "output_bias"
HEAD_PARAMETERS: Final = (HEAD_WEIGHT, HEAD_BIAS)
"""All that a device may change."""

TOKENS_FILE: Final = "personality-tokens.json"
RUN_FILE: Final = "run.json"
HISTORY_FILE: Final = "training_history.json"
MODEL_WEIGHTS_FILE: Final = "personality_model_weights.safetensors"
PROJECTOR_WEIGHTS_FILE: Final = "embedding_projector_weights.safetensors"
CHECKPOINTS_DIR: Final = "checkpoints"
CACHE_DIR: Final = "cache"

MANIFEST_FILE: Final = "manifest.json"
GOLDEN_DIR: Final = "golden"
GOLDEN_FILE: Final = "golden.json"
MODEL_PACKAGE: Final = "PersonalityModel.mlpackage"
UPDATABLE_PACKAGE: Final = "PersonalityModelUpdatable.mlpackage"
HEAD_PACKAGE: Final = "PersonalityHead.mlpackage"
STATEFUL_PACKAGE: Final = "PersonalityModelStateful.mlpackage"
ENCODER_PACKAGE: Final = "TextEncoder.mlpackage"
WORDPIECE_FILE: Final = "vocab.txt"
TOKENIZER_FILE: Final = "tokenizer.json"

TARGET: Final = "target"
"""Training input of the updatable packages: what the mean squared error compares the logits with."""
STATE_WEIGHT: Final = "projection_weight"
STATE_BIAS: Final = "output_bias"
"""State buffers that hold the head in the stateful package."""

MAX_BATCH: Final = 64
ENCODER_VERSION: Final = "encoder_v1"
"""How texts become embeddings; an app keeps it with the embeddings that it stores."""
