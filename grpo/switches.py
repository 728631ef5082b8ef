"""Losses of decisions for Bernoulli, at a cost that hardly grows with the number of candidates.

A candidate is 325 switches, nearly all of them off, and an off switch has the same log-probability and
ratio in every candidate of a text. Surrogates are linear in the size of the advantage for each sign. So two
tables (N, V), all switches off under an advantage of 1 and of -1, weighted by the candidates' sums, stand for
all of them; only the switches that are on are exchanged one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grpo.batch import Batch
from grpo.policies import BernoulliAt, gather
from grpo.surrogates import LossMetrics, LossOptions, LossResult, kl_estimate, surrogate, surrogates_of_one


def switch_loss(here: BernoulliAt, batch: Batch, options: LossOptions) -> LossResult:
    """The surrogate, with k1, k2 or k3 if asked for, of candidates that the head at the start drew."""
    assert batch.old_tables is not None
    off, off_here, on_here = here.off_and_on(batch.actions)
    old_off, _, old_on_here = batch.old_tables
    up = (batch.weights * batch.advantages.clamp(min=0)).sum(-1, keepdim=True)
    down = (batch.weights * batch.advantages.clamp(max=0)).sum(-1, keepdim=True)
    liked, disliked = surrogates_of_one(off, old_off, options)
    dense = up * liked.slope - down * disliked.slope

    on = batch.actions >= 0
    advantages = batch.advantages[..., None]
    weights = torch.where(on, batch.weights[..., None], 0.0)
    are = surrogate(on_here, old_on_here, advantages, options)
    positive = advantages > 0

    def off_at_tokens(of_liked: Tensor, of_disliked: Tensor) -> Tensor:
        return torch.where(positive, gather(of_liked, batch.actions), gather(of_disliked, batch.actions))

    were_slope = weights * advantages.abs() * off_at_tokens(liked.slope, disliked.slope)
    are_slope = weights * are.slope
    kl = kl_were = kl_are = None
    of_all, of_drawn = options.kl_weight * batch.decision_weights, torch.zeros_like(weights)
    if options.estimates_kl:
        assert batch.shipped_tables is not None
        shipped_off, shipped_off_here, shipped_on_here = batch.shipped_tables
        kl = kl_estimate(off, shipped_off, options.kl_estimator)
        kl_were = kl_estimate(off_here, shipped_off_here, options.kl_estimator)
        kl_are = kl_estimate(on_here, shipped_on_here, options.kl_estimator)
        dense = dense + of_all.sum(-1, keepdim=True) * kl.slope
        of_drawn = torch.where(on, of_all[..., None], 0.0)
        were_slope, are_slope = were_slope + of_drawn * kl_were.slope, are_slope + of_drawn * kl_are.slope

    # d off / dz = -p and d on / dz = 1 - p.
    p_here = gather(here.p, batch.actions)
    gradient = -here.p * dense
    exchanged = are_slope * (1 - p_here) + were_slope * p_here
    gradient.scatter_add_(1, batch.actions.clamp(min=0).flatten(1), exchanged.flatten(1))

    def measure() -> LossMetrics:
        value = batch.total(up * liked.value()) - batch.total(down * disliked.value())
        were = advantages.abs() * off_at_tokens(liked.value(), disliked.value())
        value = value + batch.total(weights * (are.value() - were))
        if kl is not None and kl_were is not None and kl_are is not None:
            value = value + batch.total(of_all.sum(-1, keepdim=True) * kl.value())
            value = value + batch.total(of_drawn * (kl_are.value() - kl_were.value()))
        return LossMetrics(value, share("low"), share("high"))

    def share(clipped: str) -> Tensor:
        active = batch.active[..., None] & on
        likes = (batch.active & (batch.advantages > 0)).sum(-1)
        others = batch.active.sum(-1) - likes
        count = (batch.total(batch.active) * here.z.shape[1]).double().clamp(min=1)
        tables = likes * getattr(liked, clipped).sum(-1) + others * getattr(disliked, clipped).sum(-1)
        were = off_at_tokens(getattr(liked, clipped), getattr(disliked, clipped))
        switches = batch.total(getattr(are, clipped) & active) - batch.total(were & active)
        return (batch.total(tables) + switches) / count

    return LossResult(gradient / here.temperature, measure)
