"""Attention. Source: coremltools, mil/ops/defs/iOS18/transformers.py."""

from __future__ import annotations

import math

import numpy as np

from device_sim.mil.kernels.activation import softmax
from device_sim.mil.kernels.linear import product_size, product_work
from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.types import Array, prod


def _size(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> int:
    if not query.ndim == key.ndim == value.ndim >= 3 or key.shape[-2] != value.shape[-2]:
        shapes = f"{list(query.shape)}, {list(key.shape)}, {list(value.shape)}"
        raise ValueError(f"query, key and value must have one rank of 3 or more and chain, got {shapes}")
    scores = (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
    if attn_mask is not None and np.broadcast_shapes(scores, attn_mask.shape) != scores:
        raise ValueError(f"attn_mask{list(attn_mask.shape)} must broadcast to the scores, {list(scores)}")
    batch = np.broadcast_shapes(scores[:-2], value.shape[:-2])
    return max(prod(scores), prod((*batch, query.shape[-2], value.shape[-1])))


def _work(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> int:
    scores = product_work(query, key, transpose_y=True)
    return scores + prod((product_size(query, key, transpose_y=True), value.shape[-1]))


@op("scaled_dot_product_attention", "iOS18", size=_size, work=_work)
def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None, *, acc: Accumulator
) -> Array:
    """query (…, L, E), key (…, S, E), value (…, S, EV); mask (…, S) added, or where true, kept."""
    scores = acc.matmul(query, np.swapaxes(key, -1, -2))
    scores /= scores.dtype.type(math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        added = np.where(attn_mask, 0, -np.inf) if attn_mask.dtype.kind == "b" else attn_mask
        scores += added.astype(scores.dtype)
    return acc.matmul(softmax(scores, acc=acc), value)
