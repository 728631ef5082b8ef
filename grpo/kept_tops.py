"""How many of the shipped head's top 8 a head keeps, over a sample of texts."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from grpo.head import top_tokens
from personality_common.contract import TOP_K

_HALVES: Final = (4, 2, 1)
"""Steps of a search among 0 to 7."""
_COUNTED: Final = 255
"""Rows that are counted in 8 bits at once."""

Array = NDArray[np.float32]


class Overlap(NamedTuple):
    """mean: share of the top 8 in common with the shipped head, over texts; error: its standard error."""

    mean: float
    error: float


class KeptTops:
    """The shipped head's top 8 on a sample. Arrays inside have a column for each text: a token's number is
    then added to a whole row, and a row is compared at once.

    Attributes:
        tokens: (R, 8) int64, the top 8.
    """

    def __init__(self, products: Tensor, bias: Tensor) -> None:
        """
        Args:
            products: (R, V) float32, logits without the bias.
            bias: (V,) float32.
        """
        self.tokens = top_tokens(products + bias)
        self._top = np.ascontiguousarray(self.tokens.numpy().T)
        self._inside, self._outside = self._apart(products)
        self._logits = np.empty_like(self._outside)

    def overlap(self, logits: Tensor) -> Overlap:
        """Of a head with logits (R, V) float32."""
        return _share(_left(*self._apart(logits)))

    def overlap_by_bias(self, bias: Tensor) -> Overlap:
        """Of the shipped head with another bias (V,) float32; the same as of its logits."""
        theirs = bias.numpy()
        outside = np.add(self._outside, theirs[:, None], out=self._logits)
        return _share(_left(self._inside + theirs[self._top], outside))

    def _apart(self, values: Tensor) -> tuple[Array, Array]:
        """(8, R) of the top 8, and (V, R) of the others: -inf in place of the top 8."""
        inside = np.take_along_axis(values.numpy().T, self._top, axis=0)
        outside = np.array(values.numpy().T, order="C")
        np.put_along_axis(outside, self._top, -np.inf, axis=0)
        return inside, outside


def _left(inside: Array, outside: Array) -> NDArray[np.int64]:
    """How many of the 8 leave; (R,).

    The j + 1 worst leave if j + 1 of the others beat the best of them. If they do not, neither do more, so
    the number is found by halving: nothing is sorted but the 8.
    """
    ordered = np.sort(inside, axis=0)
    texts = np.arange(inside.shape[1])
    left = np.zeros(len(texts), np.int64)
    for half in _HALVES:
        worst = left + (half - 1)
        left += half * (_counted(outside > ordered[worst, texts]) > worst)
    if (left == TOP_K - 1).any():
        left += (left == TOP_K - 1) & (_counted(outside > ordered[-1]) >= TOP_K)
    return left


def _counted(hits: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """(rows, R) to (R,): how many rows hit."""
    found = np.zeros(hits.shape[1], np.uint16)
    for start in range(0, len(hits), _COUNTED):
        found += np.add.reduce(hits[start : start + _COUNTED].view(np.uint8), axis=0, dtype=np.uint8)
    return found


def _share(left: NDArray[np.int64]) -> Overlap:
    mean, square = float(left.mean()), float(np.square(left).mean())
    error = math.sqrt(max(0.0, square - mean**2) / (len(left) - 1))
    return Overlap(1 - mean / TOP_K, error / TOP_K)
