"""A GGUF file as a model of ours: shape, tensors and tokenizer belong together.

llama.cpp ends the whole process over some files that do not (a head count of 0, a vector that is too short),
and takes others for something else (no `pre`): so it is given none that was not looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.typed import from_json
from pretrain.lm.bundle.gguf_file import GgufFile, read_gguf
from pretrain.lm.bundle.names import tensor_names
from pretrain.lm.chat import END_ID, PAD_ID, SPECIAL_TOKENS
from pretrain.lm.config import ModelConfig
from pretrain.lm.model import Decoder

ARCHITECTURE: Final = "starcoder2"
PRE: Final = {False: "gpt-2", True: "smollm"}
"""How llama.cpp splits text before BPE, without and with digits apart; where a file does not say, it silently
splits otherwise."""
SHAPE_KEYS: Final = {
    "vocab_size": "vocab_size",
    "context_length": "context_length",
    "layers": "block_count",
    "heads": "attention.head_count",
    "embedding_size": "embedding_length",
    "feed_forward_size": "feed_forward_length",
    "rope_base": "rope.freq_base",
    "layer_norm_eps": "attention.layer_norm_epsilon",
}
CONTROL: Final = 3
"""Type of a token that text does not make."""
_TENSORS_A_LAYER: Final = 16
_IDS: Final = {"bos": END_ID, "eos": END_ID, "padding": PAD_ID}


def read_model(path: Path) -> tuple[GgufFile, ModelConfig]:
    """A file's directory, and the shape of the decoder that is in it.

    Raises:
        DataError: no GGUF, or one that is malformed.
        MismatchError: not a model as `pt lm export` writes it.
    """
    file = read_gguf(path)
    if file.metadata.get("general.architecture") != ARCHITECTURE:
        raise MismatchError(f"{path}: must be of the architecture {ARCHITECTURE}; pt lm export writes such")
    entries = {
        name: _shortest(file.metadata.get(f"{ARCHITECTURE}.{key}")) for name, key in SHAPE_KEYS.items()
    }
    try:
        config = from_json(ModelConfig, entries, str(path))
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None
    _require_tensors(file, config)
    _require_tokenizer(file, config)
    return file, config


def _shortest(value: Any) -> Any:
    """A float32 as the shortest decimal that it is nearest to: 1e-05, not 9.99999974e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _require_tensors(file: GgufFile, config: ModelConfig) -> None:
    expected = 3 + _TENSORS_A_LAYER * config.layers
    if len(file.tensors) != expected:
        raise MismatchError(f"{file.path}: must have {expected} tensors, has {len(file.tensors)}")
    for key, value in {
        "attention.head_count_kv": config.heads,
        "rope.dimension_count": config.head_size,
    }.items():
        _require(file, f"{ARCHITECTURE}.{key}", value)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Decoder(config).state_dict().items()}
    for n in tensor_names(config):
        if n.gguf not in file.tensors or file.tensors[n.gguf].shape != shapes[n.ours]:
            found = file.tensors[n.gguf].shape if n.gguf in file.tensors else "missing"
            raise MismatchError(f"{file.path}: {n.gguf} must have the shape {shapes[n.ours]}, is {found}")


def _require_tokenizer(file: GgufFile, config: ModelConfig) -> None:
    _require(file, "tokenizer.ggml.model", "gpt2")
    _require(file, "tokenizer.ggml.pre", *PRE.values())
    for name, value in _IDS.items():
        _require(file, f"tokenizer.ggml.{name}_token_id", value)
    for name in ("bos", "eos"):
        _require(file, f"tokenizer.ggml.add_{name}_token", False)
    lists = [file.metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "merges")]
    tokens, types, merges = (value if isinstance(value, list) else [] for value in lists)
    strings = all(isinstance(token, str) for token in (*tokens, *merges))
    if not strings or len(tokens) != config.vocab_size or len(set(tokens)) != config.vocab_size:
        raise MismatchError(f"{file.path}: must have {config.vocab_size} tokens, each once")
    special = [(tokens[index], index) for index, kind in enumerate(types) if kind == CONTROL]
    if special != [(token, index) for index, token in enumerate(SPECIAL_TOKENS)] or len(types) != len(tokens):
        raise MismatchError(
            f"{file.path}: the special tokens must be {', '.join(SPECIAL_TOKENS)}, in this order, alone"
        )


def _require(file: GgufFile, key: str, *allowed: Any) -> None:
    found = file.metadata.get(key)
    if found not in allowed:
        wanted = " or ".join(map(repr, allowed))
        raise MismatchError(f"{file.path}: {key} must be {wanted}, is {str(found)[:80]!r}; export it again")
