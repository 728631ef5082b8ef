"""BERT on the host: texts or token ids -> base embeddings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.text.bert_folder import (
    bert_layers,
    read_bert_shape,
    read_bert_tensors,
    read_tokenizer,
    read_wordpiece_vocabulary,
)
from personality_common.text.wordpiece import MAX_TOKENS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BATCH_TOKENS: Final = 1536
"""Most tokens computed at once: they fill two cores and stay in their caches."""

LEAST_TOKENS: Final = 32
"""Fewest tokens computed at once: products of a few rows take other paths, and give other bits."""


class Bert:
    """BERT, the mean of the token vectors, unit length.

    Texts of as many tokens are computed together, so that none is padded and nothing is masked. What a text
    gets then depends on no other text, bit for bit, as far as the machine's matrix product computes a row
    alike among however many. Measured in float32, on an x86 CPU with AVX2: from 12 rows on; a test says
    whether it holds where it runs.
    """

    pooling = "Transformer > Pooling(mean) > Normalize"
    max_length = MAX_TOKENS

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        """Load a saved SentenceTransformer.

        Args:
            folder: of BERT with uncased BERT's tokenizer, mean pooling and normalization.
            device, dtype: of weights and arithmetic; embeddings are float32 whatever they are.

        Raises:
            ToolkitError: another architecture.
            DataError: files that are missing, malformed, or hold other tensors than the architecture.
        """
        import torch

        self._shape = shape = read_bert_shape(folder)
        vocabulary = read_wordpiece_vocabulary(folder)
        self._cls, self._sep = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
        self._tokenizer = read_tokenizer(folder)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS - 2)
        self._device = device
        held = {name: t.to(device, dtype) for name, t in read_bert_tensors(folder, shape).items()}
        self._words = held["word_embeddings"]
        # Every text is of the first type.
        self._positions = held["position_embeddings"] + held["token_type_embedding"]
        self._norm = held["LayerNorm.weight"], held["LayerNorm.bias"]
        self._layers = bert_layers(held, shape, torch.cat)

    @property
    def dim(self) -> int:
        return self._shape.hidden

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, dim) float32, L2-normalized, in the order of `texts`."""
        return self._embed(self.token_ids(texts))

    def encode_tokens(self, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> NDArray[np.float32]:
        """As `SentenceEncoder.encode_tokens`; a row's mask has a 1 at least."""
        rows = [
            (ids[kept], kept.nonzero()[0]) for ids, kept in zip(input_ids, attention_mask > 0, strict=True)
        ]
        return self._embed([ids.tolist() for ids, _ in rows], [places.tolist() for _, places in rows])

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text with the special ones, cut off at `max_length`, unpadded."""
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[self._cls, *encoding.ids, self._sep] for encoding in found]

    def _embed(
        self, ids: Sequence[Sequence[int]], positions: Sequence[Sequence[int]] | None = None
    ) -> NDArray[np.float32]:
        """Ids of each text, and their positions if not 0, 1, 2, … -> (N, dim) float32, L2-normalized."""
        import torch

        found = torch.empty(len(ids), self._shape.hidden)
        by_length = defaultdict[int, list[int]](list)
        for i, row in enumerate(ids):
            by_length[len(row)].append(i)
        with torch.inference_mode():
            for length, members in by_length.items():
                rows = max(1, BATCH_TOKENS // length)
                for first in range(0, len(members), rows):
                    picked = members[first : first + rows]
                    computed = picked + picked[-1:] * (-(-LEAST_TOKENS // length) - len(picked))
                    tokens = torch.tensor([ids[i] for i in computed], device=self._device)
                    places = (
                        torch.arange(length, device=self._device)
                        if positions is None
                        else torch.tensor([positions[i] for i in computed], device=self._device)
                    )
                    found[picked] = self._forward(tokens, places)[: len(picked)].to("cpu", torch.float32)
        return torch.nn.functional.normalize(found, dim=-1).numpy()

    def _forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """(B, T) ids, (B, T) or (T,) positions -> (B, hidden), the mean of the token vectors."""
        from torch.nn import functional as F

        shape = self._shape
        batch, length = tokens.shape
        hidden, heads = shape.hidden, shape.heads

        def normalized(x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
            return F.layer_norm(x, (hidden,), *norm, shape.layer_norm_eps)

        x = (self._words[tokens] + self._positions[places]).view(-1, hidden)
        x = normalized(x, self._norm)
        for projections, merge, merge_norm, widen, narrow, narrow_norm in self._layers:
            parts = F.linear(x, *projections).view(batch, length, 3, heads, hidden // heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            scores = query @ key.transpose(-1, -2) * (hidden // heads) ** -0.5
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, hidden)
            x = normalized(F.linear(mixed, *merge) + x, merge_norm)
            x = normalized(F.linear(F.gelu(F.linear(x, *widen)), *narrow) + x, narrow_norm)
        return x.view(batch, length, hidden).mean(dim=1)
