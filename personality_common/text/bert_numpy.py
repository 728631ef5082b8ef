"""BERT in NumPy: one text at a time, where the import of PyTorch would take longer than the answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.erf import gelu
from personality_common.text.bert_folder import (
    bert_layers,
    read_bert_arrays,
    read_bert_shape,
    read_wordpiece_vocabulary,
)
from personality_common.text.wordpiece import MAX_TOKENS, WordPiece

Array = NDArray[np.float32]
_KEPT: Final = 16


class NumpyBert:
    """BERT, the mean of the token vectors, unit length, as `bert.Bert` in float32 to 2e-6.

    Each text is computed alone, so what it gets depends on no other; among many, PyTorch is faster. What was
    asked for just now is kept: a turn is searched for, remembered and routed by the same text.
    """

    pooling = "Transformer > Pooling(mean) > Normalize"
    max_length = MAX_TOKENS

    def __init__(self, folder: Path) -> None:
        """Load a saved SentenceTransformer.

        Args:
            folder: of BERT with uncased BERT's tokenizer, mean pooling and normalization.

        Raises:
            ToolkitError: another architecture, or weights that are not float32.
            DataError: files that are missing, malformed, or hold other tensors than the architecture.
        """
        self._shape = shape = read_bert_shape(folder)
        self._tokens = WordPiece(read_wordpiece_vocabulary(folder))
        held = read_bert_arrays(folder, shape)
        self._words = held["word_embeddings"]
        # Every text is of the first type.
        self._positions = held["position_embeddings"] + held["token_type_embedding"]
        self._norm = held["LayerNorm.weight"], held["LayerNorm.bias"]
        self._layers = bert_layers(held, shape, np.concatenate)
        self._of = lru_cache(_KEPT)(self._text)

    @property
    def dim(self) -> int:
        return self._shape.hidden

    def encode(self, texts: Sequence[str]) -> Array:
        """(N, dim) float32, L2-normalized, in the order of `texts`."""
        return self._stack([self._of(text) for text in texts])

    def encode_tokens(self, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> Array:
        """As `SentenceEncoder.encode_tokens`; a row's mask has a 1 at least."""
        rows = zip(input_ids, attention_mask > 0, strict=True)
        return self._stack([self._embed(ids[kept], kept.nonzero()[0]) for ids, kept in rows])

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text with the special ones, cut off at `max_length`, unpadded."""
        return [self._tokens.ids(text) for text in texts]

    def _text(self, text: str) -> Array:
        ids = self._tokens.ids(text)
        return self._embed(ids, np.arange(len(ids)))

    def _stack(self, rows: list[Array]) -> Array:
        return np.stack(rows) if rows else np.empty((0, self.dim), np.float32)

    def _embed(self, ids: Sequence[int] | NDArray[Any], places: NDArray[Any]) -> Array:
        """Ids and positions of T tokens -> (hidden,), unit length."""
        shape = self._shape
        length, width = len(ids), shape.hidden // shape.heads
        x = self._normalized(self._words[np.asarray(ids)] + self._positions[places], self._norm)
        for projections, merge, merge_norm, widen, narrow, narrow_norm in self._layers:
            parts = _linear(x, projections).reshape(length, 3, shape.heads, width)
            query, key, value = parts.transpose(1, 2, 0, 3)
            scores = _softmax(query @ key.transpose(0, 2, 1) * np.float32(width**-0.5))
            mixed = (scores @ value).transpose(1, 0, 2).reshape(length, shape.hidden)
            x = self._normalized(_linear(mixed, merge) + x, merge_norm)
            x = self._normalized(_linear(gelu(_linear(x, widen)), narrow) + x, narrow_norm)
        mean = x.mean(axis=0)
        # As torch.nn.functional.normalize, which divides by no zero.
        return np.asarray(mean / max(np.linalg.norm(mean), np.float32(1e-12)), np.float32)

    def _normalized(self, x: Array, norm: tuple[Array, Array]) -> Array:
        weight, bias = norm
        x = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(x).mean(axis=-1, keepdims=True)
        return np.asarray(
            x / np.sqrt(variance + np.float32(self._shape.layer_norm_eps)) * weight + bias, np.float32
        )


def _linear(x: Array, layer: tuple[Array, Array]) -> Array:
    weight, bias = layer
    # The same as x @ weight.T, in two thirds of the time where x has few rows, as a question has.
    return np.ascontiguousarray((weight @ x.T).T) + bias


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
