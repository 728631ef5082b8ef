"""What a night's feedback says about taste, as sums of products: evidence of several nights adds up.

A candidate a of text x is taken to be rewarded with

    r = mu_x + alpha m + X theta + e,    e ~ N(0, s2)

X_v = 1/|a| for the tokens v of the set: theta (V,) is the taste, the mean of what its tokens are worth;
m is the mean over the set of the shipped logits, centred per text: alpha is how much the user cares that
tokens fit the text; mu_x ~ N(mean of the night + z_x beta, w s2) is what depends on the text alone. So
rewards count relative to their text's, as in GRPO, and a little relative to their night's. z_x (L,) says how
like the text is to some of the reference's, and beta how much texts like those are liked, on any night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, NamedTuple

import torch
from torch import Tensor

from grpo.groups import Groups
from grpo.scoring import combined_reward

TEXT_VARIANCE: Final = 1.0
"""w: variance of what depends on the text alone, in units of s2."""
FARTHEST: Final = 4.0
"""Deviations from a night's median beyond which a reward counts as being that far."""
DEVIATION: Final = 1.4826
"""Of normal numbers, in units of their median distance from the median."""


@dataclass(frozen=True)
class Heard:
    """The n candidates of a night that were heard, text by text.

    Attributes:
        tokens: (n, K) int64, padded with -1.
        text: (n,) int64, row of the night's texts, ascending.
        relevance: (n,) float64, m.
        reward: (n,) float64.
        vocabulary: V.
    """

    tokens: Tensor
    text: Tensor
    relevance: Tensor
    reward: Tensor
    vocabulary: int

    def __len__(self) -> int:
        return self.text.shape[0]

    @cached_property
    def columns(self) -> Tensor:
        """(n, K) int64: the tokens, with 0 at the padding."""
        return self.tokens.clamp(min=0)

    @cached_property
    def shares(self) -> Tensor:
        """(n, K) float64: 1/|a|, 0 at the padding."""
        return _shares(self.tokens)

    @cached_property
    def whitening(self) -> Whitening:
        return Whitening(self)

    def worth(self, values: Tensor) -> Tensor:
        """(n,): X values, the mean over each set of what its tokens are worth, (V,)."""
        return (values[self.columns] * self.shares).sum(-1)

    def per_token(self, values: Tensor) -> Tensor:
        """(V, k): X^T values for values (n, k) of the sets."""
        found = torch.zeros(self.vocabulary, values.shape[1], dtype=torch.float64)
        spread = (self.shares[..., None] * values[:, None]).flatten(0, 1)
        return found.index_add_(0, self.columns.flatten(), spread)

    def rows(self) -> Tensor:
        """(n, V + 2) float64: [X m y]."""
        rows = torch.zeros(len(self), self.vocabulary + 2, dtype=torch.float64)
        rows.scatter_add_(1, self.columns, self.shares)
        rows[:, -2], rows[:, -1] = self.relevance, self.reward
        return rows


def hear(groups: Groups, shipped: Tensor, weights: Mapping[str, float]) -> Heard:
    """The candidates with a reward from every function that counts.

    Args:
        shipped: (N, V) logits of the head that shipped.
        weights: of reward functions; 1 for those not named.
    """
    reward = combined_reward(groups.rewards, weights)
    text, candidate = (~reward.isnan() & (groups.actions >= 0).any(-1)).nonzero(as_tuple=True)
    tokens = groups.actions[text, candidate]
    logits = shipped.double()
    fits = (logits - logits.mean(-1, keepdim=True))[text[:, None], tokens.clamp(min=0)]
    relevance = (fits * _shares(tokens)).sum(-1)
    return Heard(tokens, text, relevance, bounded(reward[text, candidate]), shipped.shape[1])


def _shares(tokens: Tensor) -> Tensor:
    there = tokens >= 0
    return there / there.sum(-1, keepdim=True).double()


def bounded(reward: Tensor) -> Tensor:
    """(n,) rewards of a night, of which those beyond `FARTHEST` deviations of its median are brought there.

    One reward of a hundred times the usual size would count as ten thousand. Bounds that are the same
    whichever set has which reward leave the gate's bets fair. Where half of the rewards or more are equal, as
    with thumbs, nothing tells what is usual, and none is moved.
    """
    if not len(reward):
        return reward
    middle = reward.median()
    far = FARTHEST * DEVIATION * (reward - middle).abs().median()
    return reward.clamp(middle - far, middle + far) if far > 0 else reward


class Whitening:
    """Turns the night's n rows into rows whose errors are N(0, s2 I) and that know no mean of the night.

    Of a text with n candidates, every row loses c times the mean row, c = 1 - 1 / sqrt(1 + n w): that makes
    the covariance I + w 1 1^T of the text's rewards the identity. What the night's mean, which is free,
    would explain of the rows is then projected out.
    """

    def __init__(self, heard: Heard) -> None:
        self._text = heard.text
        self._texts = int(heard.text[-1]) + 1 if len(heard) else 0
        self.count = count = torch.bincount(heard.text, minlength=self._texts).double()
        variance = 1 + count * TEXT_VARIANCE
        left = 1 / variance.sqrt()  # of a text's mean row
        self._part = (1 - left) / count.clamp(min=1)
        self._ones = left[heard.text]
        self._square = self._ones.square().sum()
        self.of_text = TEXT_VARIANCE / variance

    def sums(self, values: Tensor) -> Tensor:
        """(n, k) to (texts, k)."""
        zeros = torch.zeros(self._texts, values.shape[1], dtype=torch.float64)
        return zeros.index_add_(0, self._text, values)

    def apply(self, values: Tensor) -> Tensor:
        """(n, k) columns, whitened."""
        return self._without_mean(self._within(values))

    def back(self, values: Tensor) -> Tensor:
        """(n, k): the transpose of `apply`."""
        return self._within(self._without_mean(values))

    def _within(self, values: Tensor) -> Tensor:
        return values - (self.sums(values) * self._part[:, None])[self._text]

    def _without_mean(self, values: Tensor) -> Tensor:
        return values - self._ones[:, None] * (self._ones @ values / self._square)


class Evidence(NamedTuple):
    """Sums over candidates; of several nights they add up.

    products: (V + 2, V + 2) float64, R^T R for the whitened rows R = [X m y].
    contrasts: how many independent numbers the rows hold: one a candidate, less one a night, its mean.
    moments: (V, T) float64, X^T of what the taste left unexplained, times each of the T topics of the text;
        see `posterior.conclude`.
    of_texts: (L, V + 2 + L) float64, Z^T [X m y Z] of the whitened rows.
    """

    products: Tensor
    contrasts: int
    moments: Tensor
    of_texts: Tensor

    @classmethod
    def none(cls, vocabulary: int, topics: int, likenesses: int) -> Evidence:
        """Of no night; its tensors are everybody's, and not to be written to."""
        return _none(vocabulary, topics, likenesses)

    def none_like(self) -> Evidence:
        """Of no night, in the same shapes."""
        return _none(len(self.products) - 2, self.moments.shape[1], len(self.of_texts))

    def plus(self, other: Evidence) -> Evidence:
        if not other.contrasts:
            return self
        if not self.contrasts:
            return other
        return Evidence(
            self.products + other.products, self.contrasts + other.contrasts, self.moments + other.moments,
            self.of_texts + other.of_texts,
        )  # fmt: skip

    def with_moments(self, moments: Tensor) -> Evidence:
        """With a night's moments, (V, T), added."""
        return self._replace(moments=self.moments + moments)


@cache
def _none(vocabulary: int, topics: int, likenesses: int) -> Evidence:
    size = vocabulary + 2
    with torch.inference_mode(False):
        zeros = torch.zeros(size, size, dtype=torch.float64)
        moments = torch.zeros(vocabulary, topics, dtype=torch.float64)
        return Evidence(zeros, 0, moments, torch.zeros(likenesses, size + likenesses, dtype=torch.float64))


def evidence_of(heard: Heard, topics: int, likeness: Tensor) -> Evidence:
    """A night's evidence, with moments of 0.

    The rows are sparse, so their products are counted, and what whitening takes off them is subtracted:

        R^T W^2 R = R^T R - sum over texts of w / (1 + n w) s s^T - t t^T / sum over texts of n / (1 + n w)

    where s is the sum of a text's rows, and t the sum over texts of s / (1 + n w).

    Args:
        topics: T.
        likeness: (N, L) float64, z of the night's texts.
    """
    none = Evidence.none(heard.vocabulary, topics, likeness.shape[1])
    if not len(heard):
        return none
    vocabulary, size = heard.vocabulary, heard.vocabulary + 2
    # Constants cancel; without them, little is lost to rounding.
    numbers = torch.stack([heard.relevance, heard.reward], 1)
    numbers = numbers - numbers.mean(0)
    tokens, shares = heard.columns, heard.shares
    pairs = (tokens * size)[:, :, None] + tokens[:, None]
    counted = torch.bincount(
        pairs.flatten(), (shares[:, :, None] * shares[:, None]).flatten(), minlength=size**2
    )
    products = counted.view(size, size)
    products[:vocabulary, vocabulary:] = of_numbers = heard.per_token(numbers)
    products[vocabulary:, :vocabulary] = of_numbers.T
    products[vocabulary:, vocabulary:] = numbers.T @ numbers

    whitening = heard.whitening
    count = whitening.count
    cells = heard.text[:, None] * size + tokens
    sums = torch.bincount(cells.flatten(), shares.flatten(), minlength=len(count) * size).view(-1, size)
    sums[:, vocabulary:] = whitening.sums(numbers)
    left = 1 - count * whitening.of_text
    # The texts' sums, and their total as one more of them.
    of_texts = _of_texts(likeness[: len(count)], count * left, left, sums)
    sums = torch.cat([sums, (left @ sums)[None]])
    taken = torch.cat([whitening.of_text, 1 / (count * left).sum()[None]])
    products.addmm_(sums.T, taken[:, None] * sums, alpha=-1)
    return Evidence(products, len(heard) - 1, none.moments, of_texts)


def _of_texts(likeness: Tensor, weight: Tensor, left: Tensor, sums: Tensor) -> Tensor:
    """(L, V + 2 + L): Z^T W^2 [X m y Z], where all rows of a text have the same z.

    Args:
        likeness: (texts, L).
        weight: (texts,), n / (1 + n w).
        left: (texts,), 1 / (1 + n w).
        sums: (texts, V + 2), of each text's rows.
    """
    z = likeness - weight @ likeness / weight.sum()
    return z.T @ torch.cat([left[:, None] * sums, weight[:, None] * z], 1)
