"""How far a head may be from the one that shipped, measured on texts that are the same every night."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.exact import one_thread
from grpo.head import Head
from grpo.kept_tops import KeptTops, Overlap
from grpo.policies import PolicyAt

TOPICS: Final = 4
"""Directions in which texts differ most."""
KINDS: Final = 32
"""Texts of the sample that others are likened to."""
CONFIDENCE: Final = 1.64
"""Standard errors by which the budget on the overlap is kept: 95% sure, one-sided."""
TYPICAL: Final = 1.25
"""Deviations of a step, in units of the logits' spread, that take the top 8 by 1: where a search starts."""
PRECISION: Final = 2.0**-10
"""Of the longest step: how closely it is found."""
UNUSED: Final = 2.0**-7
"""Of a budget: what a step may leave unused."""
NOTHING: Final = 2.0**-30
"""Of the longest step: shorter ones are none."""
SHORTEST: Final = 2.0**-6
"""Of the interval searched: it shrinks by this at least."""


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
            products = shipped.products(latents)
            self.logits = products + shipped.bias
            self._bias = shipped.bias.double()
            self._tops = KeptTops(products, shipped.bias)
            self.top = self._tops.tokens
            wide = self.logits.double()
            self.spread = float((wide - wide.mean(-1, keepdim=True)).square().mean().sqrt())
            self._policy = config.make_policy()
            self._at_shipped: PolicyAt = self._policy.at(self.logits)
            self._centre = latents.double().mean(0)
            apart = latents.double() - self._centre
            variances, axes = torch.linalg.eigh(apart.T @ apart / len(latents))
            # (d, T): the topics' variances on the sample are 1.
            self._axes = axes[:, -TOPICS:] / variances[-TOPICS:].clamp(min=1e-12).sqrt()
            self._topics: Tensor = apart @ self._axes
            # (d, L): on the sample, the mean square of all likenesses is 1.
            kinds = apart[:KINDS].T
            self._kinds = kinds / (apart @ kinds).square().mean().sqrt().clamp(min=1e-12)

    @property
    def describing(self) -> tuple[int, int]:
        """How many numbers `topics` and `likeness` have for a text: (T, L)."""
        return self._axes.shape[1], self._kinds.shape[1]

    def likeness(self, latents: Tensor) -> Tensor:
        """(N, d) latents to (N, L) float64: how far texts lie from the sample's mean towards each of its
        first KINDS, or of all that there are."""
        return self.described(latents)[1]

    def topics(self, latents: Tensor) -> Tensor:
        """(N, d) latents to (N, T) float64: where texts lie along the principal axes of the sample."""
        return self.described(latents)[0]

    def described(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """`topics` and `likeness`."""
        apart = latents.double() - self._centre
        return apart @ self._axes, apart @ self._kinds

    def along(self, taste: Tensor, topics: Tensor) -> Tensor:
        """(R, V) float32: what a taste (V,) and topics' tastes (V, T) add to the logits of the sample."""
        return (taste + self._topics @ topics.T).float()

    def moved(self, taste: Tensor, topics: Tensor | None) -> Head:
        """The shipped head, with a taste (V,) in its bias, and topics' tastes (V, T) in its weight."""
        weight = self.shipped.weight
        if topics is not None:
            by_latent = topics @ self._axes.T
            weight = (weight.double() + by_latent).float()
            taste = taste - by_latent @ self._centre
        return Head(weight, (self._bias + taste).float())

    def spent(self, head: Head) -> Spent:
        """What a head has spent."""
        if head.weight is self.shipped.weight:
            return Spent(*self._tops.overlap_by_bias(head.bias), self._kl_by_bias(head.bias))
        logits = head.logits(self.latents)
        return Spent(*self._tops.overlap(logits), self._kl(logits))

    def within(self, spent: Spent) -> bool:
        """Whether the budgets are kept, that on the overlap with a margin of its error."""
        most = self.config.kl_budget
        return self._unspent(Overlap(*spent[:2])) >= 0 and (most is None or spent.kl <= most)

    def furthest(self, way: Tensor, limit: float) -> tuple[float, Head, Spent]:
        """The longest step s <= limit, nearly, at which the bias moved by s * way, (V,) float64, keeps the
        budgets, with the head there, and what it has spent."""
        seen: dict[float, Overlap] = {}

        @cache
        def at(s: float) -> Head:
            return self.moved(way * s, None)

        def left(s: float) -> float:
            seen[s] = self._tops.overlap_by_bias(at(s).bias)
            return self._unspent(seen[s])

        def kl(s: float) -> float:
            return self._kl_by_bias(at(s).bias)

        step, spent_kl = limit, 0.0
        if (least := self.config.overlap_budget) is not None:
            deviation = float(way.square().mean().sqrt())
            step = largest(left, 1 - least, limit, TYPICAL * (1 - least) * self.spread / deviation)
        if (most := self.config.kl_budget) is not None and (spent_kl := kl(step)) > most:
            step = largest(lambda s: most - kl(s), most, step)
        if step in seen and step > 0:
            return step, at(step), Spent(*seen[step], spent_kl if most is not None else kl(step))
        return step, at(step), self.spent(at(step))

    def longest(self, way: Tensor, limit: float) -> float:
        """The longest step s <= limit, nearly, at which logits + s * way, (R, V) float32, keep budgets."""
        step = limit
        if (least := self.config.overlap_budget) is not None:

            def left(s: float) -> float:
                return self._unspent(self._tops.overlap(self.logits + s * way))

            step = largest(left, 1 - least, step)
        if (most := self.config.kl_budget) is not None:
            step = largest(lambda s: most - self._kl(self.logits + s * way), most, step)
        return step

    def _unspent(self, overlap: Overlap) -> float:
        """Of the budget on the overlap, which is 1 without one."""
        return overlap.mean - CONFIDENCE * overlap.error - (self.config.overlap_budget or -1.0)

    def _kl(self, logits: Tensor) -> float:
        return float(self._policy.at(logits).kl(self._at_shipped).mean())

    def _kl_by_bias(self, bias: Tensor) -> float:
        return float(self._at_shipped.kl_of_shifted(bias.double() - self._bias).mean())


def largest(
    margin: Callable[[float], float], at_zero: float, limit: float, start: float | None = None
) -> float:
    """A share in [0, limit] with a margin of 0 to `UNUSED` of at_zero, or nearly the largest of 0 or more.

    Args:
        margin: falls with the share.
        at_zero: margin(0), more than 0.
        start: what is tried first; None: the limit.

    Source: the Illinois variant of regula falsi (Dowell and Jarratt 1971).
    """
    aim = UNUSED * at_zero / 2
    low, high, above, beyond, side = 0.0, limit, at_zero - aim, 0.0, 0
    share = limit if start is None else min(start, limit)
    while high - low > PRECISION * high and high > limit * NOTHING:
        value = margin(share)
        if value >= 0:
            if share >= limit or value <= 2 * aim:
                return share
            low, above, beyond, side = share, value - aim, beyond / 2 if side > 0 else beyond, 1
        else:
            high, beyond, above, side = share, value - aim, above / 2 if side < 0 else above, -1
        if beyond < 0:
            part = above / (above - beyond)
            share = low + (high - low) * min(max(part, SHORTEST), 1 - SHORTEST)
        else:
            # Nothing is known to be too far: on along the line from 0.
            share = min(limit, share * (at_zero - aim) / max(at_zero - aim - above, aim))
    return low
