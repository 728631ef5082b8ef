"""BERT on the host: texts or token ids -> base embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
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

    Layer = tuple[Tensor, Tensor]
    """Weight and bias."""

BATCH_TOKENS: Final = 1536
"""Tokens computed together: they stay in the caches of two cores."""

LENGTH_STEP: Final = 16
"""Attention is over lengths that are multiples of it: others take a path that is twice as slow."""


class Bert:
    """BERT, the mean of the token vectors, unit length.

    What a text gets depends on no other text, bit for bit. A matrix product chooses how to compute by its
    shape, so all have one: tokens of any texts lie one behind the other, and go through the layers in windows
    of always as many rows, the last of which is filled up. Attention alone is by text, each padded to the
    next multiple of `LENGTH_STEP`, and texts of as many steps together.
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
        self._window = _window(device, dtype)
        self._linear = _Packed(self._window) if _packs(device, dtype) else _Plain()
        self._layers = [
            tuple(self._linear.prepare(step) if step[0].ndim == 2 else step for step in layer)
            for layer in bert_layers(held, shape, torch.cat)
        ]

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
        waiting = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        with torch.inference_mode():
            while waiting:
                tokens, first = 0, len(waiting)
                while first and tokens + len(ids[waiting[first - 1]]) <= max(BATCH_TOKENS, self._window):
                    first -= 1
                    tokens += len(ids[waiting[first]])
                waiting, picked = waiting[:first], waiting[first:]
                places = [range(len(ids[i])) if positions is None else positions[i] for i in picked]
                found[picked] = self._forward([ids[i] for i in picked], places).to("cpu", torch.float32)
        return torch.nn.functional.normalize(found, dim=-1).numpy()

    def _forward(self, ids: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]) -> Tensor:
        """Ids and positions of B texts, in any order -> (B, hidden) float32, means of the token vectors."""
        import torch
        from torch.nn import functional as F

        shape, linear, window = self._shape, self._linear, self._window
        hidden = shape.hidden
        lengths = [len(row) for row in ids]
        used = sum(lengths)
        rows = -(-used // window) * window
        tokens, places = (
            torch.tensor([*chain.from_iterable(lists), *[0] * (rows - used)], device=self._device)
            for lists in (ids, positions)
        )
        classes, back = self._by_length(lengths, rows)

        def normalized(x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
            return F.layer_norm(x, (hidden,), *norm, shape.layer_norm_eps)

        x = self._words.index_select(0, tokens) + self._positions.index_select(0, places)
        x = normalized(x, self._norm)
        for projections, merge, merge_norm, widen, narrow, narrow_norm in self._layers:
            parts = torch.cat([linear(part, projections) for part in torch.split(x, window)])
            mixed = torch.cat([self._attention(parts, *one) for one in classes]).index_select(0, back)
            done = []
            for part, beside in zip(torch.split(x, window), torch.split(mixed, window), strict=True):
                part = normalized(linear.added(beside, merge, part), merge_norm)
                inner = linear.gelu(part, widen)
                done.append(normalized(linear.added(inner, narrow, part), narrow_norm))
            x = torch.cat(done)
        counts = torch.tensor(lengths, device=self._device)
        return torch.segment_reduce(x[:used].float(), "mean", lengths=counts)

    def _by_length(
        self, lengths: Sequence[int], rows: int
    ) -> tuple[list[tuple[int, Tensor, Tensor]], Tensor]:
        """Where texts of a class lie among the rows, for its attention, and back.

        Returns:
            For each class its padded length T, the (texts * T,) rows of its tokens, and the (texts, 1, 1, T)
            mask that attention adds; and for each of the `rows`, where it stands when all classes are one
            behind the other.
        """
        import torch

        length = torch.tensor(lengths)
        start = length.cumsum(0) - length
        padded = (length + LENGTH_STEP - 1) // LENGTH_STEP * LENGTH_STEP
        classes, back, before = [], torch.zeros(rows, dtype=torch.long), 0
        for size in sorted(set(padded.tolist())):
            of_class = (padded == size).nonzero()[:, 0]
            there = torch.arange(size) < length[of_class, None]
            row = torch.where(there, start[of_class, None] + torch.arange(size), 0)
            back[row[there]] = there.flatten().nonzero()[:, 0] + before
            before += row.numel()
            mask = torch.zeros(len(of_class), 1, 1, size, dtype=self._words.dtype)
            mask.masked_fill_(~there[:, None, None], -torch.inf)
            classes.append((size, row.flatten().to(self._device), mask.to(self._device)))
        return classes, back.to(self._device)

    def _attention(self, parts: Tensor, size: int, row: Tensor, mask: Tensor) -> Tensor:
        """(rows, 3 * hidden) queries, keys and values -> (texts * size, hidden) of a class of texts."""
        from torch.nn import functional as F

        heads, hidden = self._shape.heads, self._shape.hidden
        picked = parts.index_select(0, row).view(-1, size, 3, heads, hidden // heads)
        query, key, value = picked.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, mask)
        return mixed.transpose(1, 2).reshape(-1, hidden)


class _Plain:
    """Linear layers as PyTorch has them."""

    def prepare(self, layer: Layer) -> Layer:
        return layer

    def __call__(self, x: Tensor, layer: Layer) -> Tensor:
        from torch.nn import functional as F

        return F.linear(x, *layer)

    def gelu(self, x: Tensor, layer: Layer) -> Tensor:
        from torch.nn import functional as F

        return F.gelu(self(x, layer))

    def added(self, x: Tensor, layer: Layer, beside: Tensor) -> Tensor:
        return self(x, layer) + beside


class _Packed:
    """Linear layers of oneDNN on a CPU: weights reordered once, and what follows a product inside it.

    PyTorch reorders them at every product, which takes as long as a product of a few rows. These are the
    operators that torch.compile uses; it would need a C++ compiler, and a minute.
    """

    def __init__(self, rows: int) -> None:
        import torch

        self._rows, self._ops = rows, torch.ops.mkldnn

    def prepare(self, layer: Layer) -> Layer:
        weight, bias = layer
        return self._ops._reorder_linear_weight(weight.contiguous(), self._rows), bias

    def __call__(self, x: Tensor, layer: Layer) -> Tensor:
        done: Tensor = self._ops._linear_pointwise(x, *layer, "none", [], "")
        return done

    def gelu(self, x: Tensor, layer: Layer) -> Tensor:
        done: Tensor = self._ops._linear_pointwise(x, *layer, "gelu", [], "none")
        return done

    def added(self, x: Tensor, layer: Layer, beside: Tensor) -> Tensor:
        done: Tensor = self._ops._linear_pointwise.binary(x, beside, *layer, "add")
        return done


def _packs(device: str, dtype: torch.dtype) -> bool:
    """Whether `_Packed` computes it; in float32 it gains nothing."""
    import torch

    ops = torch.ops.mkldnn
    return (
        device == "cpu"
        and dtype == torch.bfloat16
        and torch._C._has_mkldnn
        and hasattr(ops, "_linear_pointwise")
        and hasattr(ops, "_reorder_linear_weight")
        and bool(ops._is_mkldnn_bf16_supported())
    )


def _window(device: str, dtype: torch.dtype) -> int:
    """Rows of every product: few, since one short text takes as long as a window, yet as fast as many."""
    import torch

    if device != "cpu":
        return 2048
    return 256 if dtype == torch.float32 else 512
