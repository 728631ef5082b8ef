"""How many of the shipped head's top 8 a head keeps, over a sample of texts."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grpo.head import top_tokens
from personality_common.contract import TOP_K

CLOSE: Final = 24
"""Of a text's tokens, the shipped head's likeliest, that are looked at whatever becomes of their bias."""
_NETWORK: Final = (
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3), (4, 5), (6, 7),
    (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
)  # fmt: skip
"""Pairs of 8 rows, of which the lesser goes first, in turn: then all are in order (Knuth 5.3.4)."""
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
        logits = products + bias
        self.tokens = top_tokens(logits)
        rest = logits.scatter(1, self.tokens, -torch.inf)
        runners_up = top_tokens(rest, min(CLOSE, logits.shape[1]) - TOP_K)
        self._products, self._bias = products, bias.numpy()
        self._close = _columns(torch.cat([self.tokens, runners_up], 1))
        self._of_close = np.take_along_axis(products.numpy().T, self._close, axis=0)
        self._shipped = np.take_along_axis(logits.numpy().T, self._close, axis=0)
        self._far = _columns(products)
        np.put_along_axis(self._far, self._close, -np.inf, axis=0)
        self._outside = np.empty((len(self._close) + len(self._far), len(products)), np.float32)

    def overlap(self, logits: Tensor) -> Overlap:
        """Of a head with logits (R, V) float32."""
        return _share(_left(*_apart(logits, self.tokens)))

    def overlap_by_bias(self, bias: Tensor) -> Overlap:
        """Of the shipped head with another bias (V,) float32; the same as of its logits.

        A token that is not close and whose bias has not grown cannot enter where 8 close ones have not
        fallen: each of those was, and is, ahead of it. So it is not looked at. Rounding keeps to that, as
        it never turns an order round.
        """
        theirs = bias.numpy()
        close = np.take(theirs, self._close)
        close += self._of_close
        grown = np.flatnonzero(theirs > self._bias)
        outside = self._outside[: len(close) - TOP_K + len(grown)]
        outside[: len(close) - TOP_K] = close[TOP_K:]
        far = outside[len(close) - TOP_K :]
        np.take(self._far, grown, axis=0, out=far, mode="clip")
        far += theirs[grown, None]
        left = _left(close[:TOP_K], outside)
        unsure = np.flatnonzero(_counted(close >= self._shipped) < TOP_K)
        if len(unsure):
            logits = self._products[unsure] + bias
            left[unsure] = _left(*_apart(logits, self.tokens[unsure]))
        return _share(left)


def _columns(rows: Tensor) -> NDArray[Any]:
    """(R, n) to (n, R)."""
    return np.array(rows.numpy().T, order="C")


def _apart(logits: Tensor, top: Tensor) -> tuple[Array, Array]:
    """(8, R) logits of the top 8, and (V, R) of the others: -inf in place of the top 8."""
    outside, at = _columns(logits), top.numpy().T
    inside = np.take_along_axis(outside, at, axis=0)
    np.put_along_axis(outside, at, -np.inf, axis=0)
    return inside, outside


def _left(inside: Array, outside: Array) -> NDArray[np.int64]:
    """How many of the 8 leave; (R,).

    The j + 1 worst leave if j + 1 of the others beat the best of them. If they do not, neither do more, so
    the number is found by halving: nothing is sorted but the 8.
    """
    ordered = _sorted(inside)
    left = 4 * (_counted(outside > ordered[3]) > 3)
    worst = np.where(left, ordered[5], ordered[1])
    left += 2 * (_counted(outside > worst) > left + 1)
    few, many = (np.where(left & 2, ordered[i + 2], ordered[i]) for i in (0, 4))
    worst = np.where(left > 3, many, few)
    left += _counted(outside > worst) > left
    if (left == TOP_K - 1).any():
        left += (left == TOP_K - 1) & (_counted(outside > ordered[-1]) >= TOP_K)
    return left


def _sorted(rows: Array) -> list[Array]:
    """(8, R) to 8 rows, of which the first has the least of each column."""
    ordered = list(rows)
    for i, j in _NETWORK:
        a, b = ordered[i], ordered[j]
        ordered[i], ordered[j] = np.minimum(a, b), np.maximum(a, b)
    return ordered


def _counted(hits: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """(rows, R) to (R,): how many rows hit."""
    found = np.zeros(hits.shape[1], np.uint16)
    for start in range(0, len(hits), _COUNTED):
        found += np.add.reduce(hits[start : start + _COUNTED].view(np.uint8), axis=0, dtype=np.uint8)
    return found


def _share(left: NDArray[np.int64]) -> Overlap:
    mean, square = int(left.sum()) / len(left), int(left @ left) / len(left)
    error = math.sqrt(max(0.0, square - mean**2) / (len(left) - 1))
    return Overlap(1 - mean / TOP_K, error / TOP_K)
