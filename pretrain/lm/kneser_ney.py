"""Interpolated, modified Kneser-Ney: what counting n-grams comes to, the honest baseline of a language model.

    p_k(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + gamma(h) p_{k-1}(w | h')

h' is h without its first token; c counts at the highest order how often, below it after how many different
tokens; gamma gives what the discounts D took. Below the first order stands the even distribution.

Source: Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling (1998), 4.1.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretrain.lm.chat import PAD_ID

ORDER: Final = 5
PLAIN_DISCOUNT: Final = 0.75
"""Where there are too few n-grams to estimate one."""

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length; each has the index of its key.

    Attributes:
        keys: sorted: index of the n-gram without its last token, times the vocabulary, plus that token.
        left: counts after their discount, not below 0.
        totals: by the index of the n-gram without its last token: of all counts that go on from it.
        gammas: the share of the total that the discounts took.
    """

    keys: Ids
    left: Floats
    totals: Floats
    gammas: Floats


class KneserNey:
    """Probabilities of a document's tokens, each after those before it; documents are apart.

    Args:
        documents: (n,) ids each, below `vocab_size`, without padding, which stands before each of them.
        order: tokens that are looked at, the one in question among them.
    """

    def __init__(self, documents: Sequence[Ids], vocab_size: int, order: int = ORDER) -> None:
        self.vocab_size, self.order = vocab_size, order
        stream = self._stream(documents)
        # Of each length, which n-gram ends at each place; its first place stands for it.
        index = np.zeros(len(stream), np.int64)
        found: list[tuple[Ids, Ids, Ids]] = []
        for _ in range(order):
            keys, first, index = np.unique(
                np.roll(index, 1) * vocab_size + stream, return_index=True, return_inverse=True
            )
            found.append((keys, first, index))
        self.levels: list[_Level] = []
        contexts = 1
        for length, (keys, _, index) in enumerate(found, 1):
            if length == order:
                ends = index[stream != PAD_ID]
            else:
                longer, places, _ = found[length]
                ends = index[places[longer % vocab_size != PAD_ID]]
            self.levels.append(_level(keys, np.bincount(ends, minlength=len(keys)), vocab_size, contexts))
            contexts = len(keys)

    def probabilities(self, documents: Sequence[Ids]) -> Floats:
        """Of each token of documents, one after the other."""
        stream = self._stream(documents)
        # All but padding, which is never asked for.
        p = np.full(len(stream), 1 / (self.vocab_size - 1))
        index = np.zeros(len(stream), np.int64)
        for level in self.levels:
            context = np.roll(index, 1)
            key = context * self.vocab_size + stream
            index = np.searchsorted(level.keys, key)
            index[index == len(level.keys)] = 0
            known = (context >= 0) & (level.keys[index] == key)
            goes_on = (context >= 0) & (level.totals[context] > 0)
            total = np.where(goes_on, level.totals[context], 1.0)
            left = np.where(known, level.left[index], 0.0)
            p = np.where(goes_on, left / total + level.gammas[context] * p, p)
            index = np.where(known, index, -1)
        asked: Floats = p[stream != PAD_ID]
        return asked

    def _stream(self, documents: Sequence[Ids]) -> Ids:
        padding = np.full(self.order - 1, PAD_ID, np.int64)
        return np.concatenate([part for document in documents for part in (padding, document)])


def _level(keys: Ids, counts: Ids, vocab_size: int, contexts: int) -> _Level:
    discounts = discounts_of(counts)[np.minimum(counts, 3)]
    context = keys // vocab_size
    totals = np.bincount(context, counts, contexts).astype(np.float64)
    taken = np.bincount(context, np.minimum(discounts, counts), contexts)
    gammas = np.divide(taken, totals, out=np.zeros(contexts), where=totals > 0)
    return _Level(keys, np.maximum(counts - discounts, 0.0), totals, gammas)


def discounts_of(counts: Ids) -> Floats:
    """(4,): what is taken of a count of 0, 1, 2, and 3 or more."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[:5].astype(np.float64)
    plain = np.array([0.0, *[PLAIN_DISCOUNT] * 3])
    if (n[1:] == 0).any():
        return plain
    y = n[1] / (n[1] + 2 * n[2])
    found = np.array([0.0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))])
    return found if (found[1:] > 0).all() else plain
