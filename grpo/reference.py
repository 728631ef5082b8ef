"""How far a head may be from the one that shipped, measured on texts that are the same every night."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.exact import one_thread
from grpo.head import Head, top_tokens
from grpo.policies import PolicyAt
from personality_common.contract import TOP_K

TOPICS: Final = 4
"""Directions in which texts differ most."""
CONFIDENCE: Final = 1.64
"""Standard errors by which the budget on the overlap is kept: 95% sure, one-sided."""
PRECISION: Final = 2.0**-10
"""Of the longest step, or of its budget: how closely it is found."""
SHORTEST: Final = 2.0**-6
"""Of the interval searched: it shrinks by this at least."""

Array = NDArray[np.float32]


class Spent(NamedTuple):
    """What a head has used up of its budgets.

    overlap, error: mean share of the top 8 in common with the shipped head, and its standard error.
    kl: KL(policy || policy of the shipped head), nats per decision.
    """

    overlap: float
    error: float
    kl: float


class Reference:
    """A sample of texts, with what the head that shipped says of them.

    Attributes:
        shipped: the head.
        latents: (R, d) float32.
        logits: (R, V) float32 of the shipped head.
        top: (R, 8) int64, its top 8.
        spread: standard deviation of the logits, centred per text.
        nothing: what the shipped head has spent.
    """

    nothing: Final = Spent(1.0, 0.0, 0.0)

    def __init__(self, latents: Tensor, shipped: Head, config: GRPOConfig) -> None:
        self.latents, self.shipped, self.config = latents, shipped, config
        with one_thread():
            self.logits = shipped.logits(latents)
            self.top = top_tokens(self.logits)
            wide = self.logits.double()
            self.spread = float((wide - wide.mean(-1, keepdim=True)).square().mean().sqrt())
            self._policy = config.make_policy()
            self._at_shipped: PolicyAt = self._policy.at(self.logits)
            self._inside, self._outside = self._apart(self.logits)
            self._centre = latents.double().mean(0)
            apart = latents.double() - self._centre
            variances, axes = torch.linalg.eigh(apart.T @ apart / len(latents))
            # (d, T): the topics' variances on the sample are 1.
            self._axes = axes[:, -TOPICS:] / variances[-TOPICS:].clamp(min=1e-12).sqrt()
            self._topics = self.topics(latents)

    def topics(self, latents: Tensor) -> Tensor:
        """(N, d) latents to (N, T) float64: where texts lie along the principal axes of the sample."""
        topics: Tensor = (latents.double() - self._centre) @ self._axes
        return topics

    def along(self, taste: Tensor, topics: Tensor) -> Tensor:
        """(R, V) float32: what a taste (V,) and topics' tastes (V, T) add to the logits of the sample."""
        return (taste + self._topics @ topics.T).float()

    def moved(self, taste: Tensor, topics: Tensor | None) -> Head:
        """The shipped head, with a taste (V,) in its bias, and topics' tastes (V, T) in its weight."""
        weight, bias = self.shipped
        if topics is not None:
            by_latent = topics @ self._axes.T
            weight = (weight.double() + by_latent).float()
            taste = taste - by_latent @ self._centre
        return Head(weight, (bias.double() + taste).float())

    def spent(self, logits: Tensor) -> Spent:
        """Of a head with logits (R, V) float32."""
        return Spent(*self._overlap(*self._apart(logits)), self._kl(logits))

    def within(self, spent: Spent) -> bool:
        """Whether the budgets are kept, that on the overlap with a margin of its error."""
        least, most = self.config.overlap_budget, self.config.kl_budget
        keeps = least is None or spent.overlap - CONFIDENCE * spent.error >= least
        return keeps and (most is None or spent.kl <= most)

    def longest(self, way: Tensor, limit: float) -> float:
        """About the largest share s <= limit such that logits + s * way keeps the budgets.

        Args:
            way: (V,) or (R, V) float32.
        """
        share = limit
        if (least := self.config.overlap_budget) is not None:
            everywhere, inside = way.numpy(), way.expand_as(self.logits).gather(1, self.top).numpy()

            def left(s: float) -> float:
                by: Array = np.array(s, np.float32)
                overlap, error = self._overlap(self._inside + by * inside, self._outside + by * everywhere)
                return overlap - CONFIDENCE * error - least

            share = largest(left, 1 - least, share)
        if (most := self.config.kl_budget) is not None:
            share = largest(lambda s: most - self._kl(self.logits + s * way), most, share)
        return share

    def _apart(self, logits: Tensor) -> tuple[Array, Array]:
        """Logits of the shipped head's top 8, (R, 8), and of the others, (R, V), -inf in place of the 8."""
        return logits.gather(1, self.top).numpy(), logits.scatter(1, self.top, -torch.inf).numpy()

    def _overlap(self, inside: Array, outside: Array) -> tuple[float, float]:
        """Mean share of the shipped top 8 that stays, and its standard error; arrays as `_apart` gives them.

        A token of the 8 leaves for each of the others' best that beats one of them: the best of the others is
        held against the worst of these, the second best against the second worst, and so on.
        """
        first = outside.shape[1] - TOP_K
        best = np.sort(np.partition(outside, first, axis=1)[:, first:], axis=1)[:, ::-1]
        left = (best > np.sort(inside, axis=1)).sum(1)
        mean, square = float(left.mean()), float(np.square(left).mean())
        error = math.sqrt(max(0.0, square - mean**2) / (len(left) - 1))
        return 1 - mean / TOP_K, error / TOP_K

    def _kl(self, logits: Tensor) -> float:
        return float(self._policy.at(logits).kl(self._at_shipped).mean())


def largest(margin: Callable[[float], float], at_zero: float, limit: float) -> float:
    """About the largest share in [0, limit] with a margin of 0 or more, for one that falls with the share.

    Args:
        at_zero: margin(0), 0 or more.

    Source: the Illinois variant of regula falsi (Dowell and Jarratt 1971).
    """
    if (beyond := margin(limit)) >= 0:
        return limit
    low, high, above, side = 0.0, limit, at_zero, 0
    while high - low > PRECISION * high:
        part = above / (above - beyond)
        middle = low + (high - low) * min(max(part, SHORTEST), 1 - SHORTEST)
        value = margin(middle)
        if value >= 0:
            low, above, beyond, side = middle, value, beyond / 2 if side > 0 else beyond, 1
            if value <= PRECISION * at_zero:
                break
        else:
            high, beyond, above, side = middle, value, above / 2 if side < 0 else above, -1
    return low
