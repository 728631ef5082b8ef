"""How many of the shipped head's top 8 a head keeps, over a sample of texts."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grpo.head import top_tokens
from personality_common.contract import TOP_K

SHORT_LIST: Final = 64
"""Tokens of a text, the best after its top 8, that are looked at first where the bias alone has moved."""
_ROUNDING: Final = 1e-5
"""Of a logit and 1: more than float32 rounds a sum by."""

Array = NDArray[np.float32]


class Overlap(NamedTuple):
    """mean: share of the top 8 in common with the shipped head, over texts; error: its standard error."""

    mean: float
    error: float


class KeptTops:
    """The shipped head's top 8 on a sample.

    Attributes:
        tokens: (R, 8) int64, the top 8.
    """

    def __init__(self, products: Tensor, bias: Tensor) -> None:
        """
        Args:
            products: (R, V) float32, logits without the bias.
            bias: (V,) float32.
        """
        logits = products + bias
        self.tokens = top_tokens(logits)
        self._products, self._bias, self._top = products.numpy(), bias.numpy(), self.tokens.numpy()
        self._inside = products.gather(1, self.tokens).numpy()
        listed = min(SHORT_LIST, logits.shape[1])
        best, order = logits.scatter(1, self.tokens, -torch.inf).sort(dim=1, descending=True)
        self._order = order[:, :listed].contiguous().numpy()
        short = products.gather(1, order[:, :listed])
        # Of few tokens, the list holds the top 8 themselves, too.
        self._short = short.masked_fill(best[:, :listed].isinf(), -torch.inf).numpy()
        beyond = best[:, listed] if listed < logits.shape[1] else torch.full((len(logits),), -torch.inf)
        self._beyond = (beyond + _ROUNDING * (1 + beyond.nan_to_num(neginf=0.0).abs())).numpy()

    def overlap(self, logits: Tensor) -> Overlap:
        """Of a head with logits (R, V) float32."""
        return _share(_left(logits.gather(1, self.tokens).numpy(), _without(logits.numpy(), self._top)))

    def overlap_by_bias(self, bias: Tensor) -> Overlap:
        """Of the shipped head with another bias (V,) float32; the same as of its logits."""
        theirs = bias.numpy()
        inside, short = self._inside + theirs[self._top], self._short + theirs[self._order]
        worst, eighth, left = _held(inside, short)
        # No token beyond the list can have more than this.
        most = self._beyond + (theirs - self._bias).max()
        unsure = np.flatnonzero((most > worst) & (most > eighth))
        if len(unsure):
            rows = _without(self._products[unsure] + theirs, self._top[unsure])
            left[unsure] = _left(inside[unsure], rows)
        return _share(left)


def _without(logits: Array, top: NDArray[np.int64]) -> Array:
    """-inf in place of the top 8."""
    rest = logits.copy()
    np.put_along_axis(rest, top, -np.inf, axis=1)
    return rest


def _left(inside: Array, outside: Array) -> NDArray[np.int64]:
    return _held(inside, outside)[2]


def _held(inside: Array, outside: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """The worst of the 8, the eighth best of the others, and how many of the 8 leave; (R,) each.

    A token of the 8 leaves for each of the others' best that beats one of them: the best of the others is
    held against the worst of these, the second best against the second worst, and so on.
    """
    first = outside.shape[1] - TOP_K
    best = np.sort(np.partition(outside, first, axis=1)[:, first:], axis=1)[:, ::-1]
    ordered = np.sort(inside, axis=1)
    return ordered[:, 0], best[:, -1], (best > ordered).sum(1)


def _share(left: NDArray[np.int64]) -> Overlap:
    mean, square = float(left.mean()), float(np.square(left).mean())
    error = math.sqrt(max(0.0, square - mean**2) / (len(left) - 1))
    return Overlap(1 - mean / TOP_K, error / TOP_K)
