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
from grpo.surrogates import LossMetrics, LossOptions, LossResult, kl_estimate, surrogates_of_one


def switch_loss(here: BernoulliAt, batch: Batch, options: LossOptions) -> LossResult:
    """The surrogate, with k1, k2 or k3 if asked for, of candidates that the head at the start drew."""
    assert batch.old_tables is not None
    off, off_here, on_here = here.off_and_on(batch.actions)
    old_off, _, old_on_here = batch.old_tables
    up, down = batch.row_up, batch.row_down
    liked, disliked = surrogates_of_one(off, old_off, options)
    dense = torch.addcmul(up * liked.slope, down, disliked.slope, value=-1)

    on = batch.actions >= 0
    are_liked, are_disliked = surrogates_of_one(on_here, old_on_here, options)
    ups, downs = batch.drawn_up, batch.drawn_down

    def weighted(of_liked: Tensor, of_disliked: Tensor) -> Tensor:
        """(N, G, K), of values or slopes under an advantage of 1 and of -1."""
        return torch.addcmul(ups * of_liked, downs, of_disliked, value=-1)

    def off_at_tokens(of_table: Tensor) -> Tensor:
        return gather(of_table, batch.actions)

    were_slope = weighted(off_at_tokens(liked.slope), off_at_tokens(disliked.slope))
    are_slope = weighted(are_liked.slope, are_disliked.slope)
    kl = kl_were = kl_are = None
    if options.estimates_kl:
        assert batch.shipped_tables is not None
        of_all = options.kl_weight * batch.decision_weights
        shipped_off, shipped_off_here, shipped_on_here = batch.shipped_tables
        kl = kl_estimate(off, shipped_off, options.kl_estimator)
        kl_were = kl_estimate(off_here, shipped_off_here, options.kl_estimator)
        kl_are = kl_estimate(on_here, shipped_on_here, options.kl_estimator)
        dense = dense + of_all.sum(-1, keepdim=True) * kl.slope
        of_drawn = of_all[..., None] * on
        were_slope, are_slope = were_slope + of_drawn * kl_were.slope, are_slope + of_drawn * kl_are.slope

    # d off / dz = -p and d on / dz = 1 - p.
    gradient = dense.mul_(here.p).neg_()
    exchanged = torch.addcmul(are_slope, gather(here.p, batch.actions), were_slope.sub_(are_slope))
    gradient.scatter_add_(1, batch.actions.clamp(min=0).flatten(1), exchanged.flatten(1))

    def measure() -> LossMetrics:
        tables = liked.value(), disliked.value()
        value = batch.total(up * tables[0]) - batch.total(down * tables[1])
        were = weighted(*map(off_at_tokens, tables))
        value = value + batch.total(weighted(are_liked.value(), are_disliked.value()) - were)
        if kl is not None and kl_were is not None and kl_are is not None:
            value = value + batch.total(of_all.sum(-1, keepdim=True) * kl.value())
            value = value + batch.total(of_drawn * (kl_are.value() - kl_were.value()))
        sides = (liked, disliked, are_liked, are_disliked)
        low, high = map(share, *(side.clipped() for side in sides))
        return LossMetrics(value, low, high)

    def share(off_liked: Tensor, off_disliked: Tensor, on_liked: Tensor, on_disliked: Tensor) -> Tensor:
        likes, positive = (batch.active & (batch.advantages > 0)).sum(-1), batch.advantages[..., None] > 0
        others = batch.active.sum(-1) - likes
        count = (batch.total(batch.active) * here.z.shape[1]).double().clamp(min=1)
        tables = likes * off_liked.sum(-1) + others * off_disliked.sum(-1)
        were = torch.where(positive, off_at_tokens(off_liked), off_at_tokens(off_disliked))
        are = torch.where(positive, on_liked, on_disliked)
        active = batch.active[..., None] & on
        return (batch.total(tables) + batch.total(are & active) - batch.total(were & active)) / count

    return LossResult(gradient if here.temperature == 1 else gradient / here.temperature, measure)
