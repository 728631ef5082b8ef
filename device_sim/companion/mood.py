"""The mood of what the user says: the bundle's own text encoder, and its head or the one that learned since.

All of it runs in the interpreter, without PyTorch, whose import alone would take longer than the first
answer; a store of heads needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.mil import load_mil
from personality_common.bundle.bundle import open_bundle, verify
from personality_common.contract import (
    ATTENTION_MASK,
    EMBEDDING,
    INPUT_IDS,
    LATENT,
    LOGITS,
    SENTENCE_EMBEDDING,
    TOP_K,
    WORDPIECE_FILE,
)
from personality_common.errors import ConfigError
from personality_common.text.wordpiece import WordPiece
from pretrain.personality.rules.family import PERSONALITY

Array = NDArray[np.float32]
KEPT: Final = 64
"""Texts whose embeddings are kept: mood and memory ask for the same one."""


class BundleMood:
    """Reads moods, and is the encoder of the bundle's texts, see `personality_common.text.identity.Encoder`.

    Attributes:
        bundle: the bundle's fingerprint.
        head: version of the head in use; None: the one that shipped.
    """

    compute_dtype = "float32"

    def __init__(self, path: Path, heads: Path | None = None) -> None:
        """Open a bundle.

        Args:
            heads: store of its heads.

        Raises:
            ConfigError: it was exported without its text encoder, or without PersonalityModel.mlpackage.
            DataError, MismatchError: it is malformed; or the heads are another bundle's.
        """
        bundle = verify(open_bundle(path, PERSONALITY))
        if not bundle.has("encoder") or not bundle.has("model"):
            raise ConfigError(f"{path}: must have its text encoder and its model; export it with both")
        self.identity, self.source = bundle.encoder, f"bundle {path}"
        self.bundle = bundle.run_fingerprint
        self._tokens = bundle.vocabulary.tokens
        self._wordpiece = self._words(bundle.path / WORDPIECE_FILE)
        self._encoder = load_mil(bundle.package("encoder"))
        self._model = load_mil(bundle.package("model"))
        self._found: dict[str, tuple[Array, Array]] = {}
        self.head: str | None = None
        self._weights: tuple[Array, Array] | None = None
        if heads is not None:
            from device_sim.heads.heads import open_heads
            from device_sim.heads.shipped import identity
            from personality_common.registry.identity import require_same_identity

            store = open_heads(heads)
            require_same_identity(identity(bundle), store.pointers().identity, str(heads))
            self.head = store.active
            head = store.load(self.head)
            self._weights = head.weight.numpy(), head.bias.numpy()

    def latents(self, texts: Sequence[str]) -> Array:
        """(N, d): what the head reads of a text, whatever the head."""
        rows = [self._model.predict({EMBEDDING: self._embed(text)[1]})[LATENT] for text in texts]
        return np.concatenate(rows)

    def encode(self, texts: Sequence[str]) -> Array:
        """Base embeddings: (N, d), L2-normalized."""
        return np.concatenate([self._embed(text)[0] for text in texts])

    def read(self, text: str, top: int = TOP_K) -> tuple[str, ...]:
        """The likeliest tokens of a text, the likeliest first."""
        found = self._model.predict({EMBEDDING: self._embed(text)[1]})
        if self._weights is None:
            logits = found[LOGITS][0]
        else:
            weight, bias = self._weights
            logits = weight @ found[LATENT][0] + bias
        return tuple(self._tokens[i] for i in np.argsort(-logits, kind="stable")[:top])

    def _words(self, path: Path) -> WordPiece:
        return WordPiece(path.read_text(encoding="utf-8").split("\n")[:-1])

    def _embed(self, text: str) -> tuple[Array, Array]:
        """Base embedding (1, d) and embedding (1, 1536)."""
        if text not in self._found:
            if len(self._found) >= KEPT:
                self._found.clear()
            ids = np.array([self._wordpiece.ids(text)], np.int32)
            found = self._encoder.predict({INPUT_IDS: ids, ATTENTION_MASK: np.ones_like(ids)})
            self._found[text] = found[SENTENCE_EMBEDDING], found[EMBEDDING]
        return self._found[text]
