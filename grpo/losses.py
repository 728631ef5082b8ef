"""Losses over candidates and their gradients at the logits, in closed form.

Words. A *decision* is what sequences call a token: one draw of Plackett-Luce, one switch of Bernoulli.
A *set* is the whole candidate: its log-probability is the sum over its decisions. `l` is a
log-probability under the head being trained, `l_old` under the policy that drew the candidate,
`l_ref` under the head that shipped, `r = exp(l - l_old)` the importance ratio, `A` the advantage.

Every loss is a sum over candidates of weight * f(l), so its gradient at the logits is the policy's
gradient of a weighted sum of log-probabilities, with weights weight * f'(l).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from grpo.advantages import Advantages
from grpo.policies import Policy

Loss: TypeAlias = Literal["grpo", "dr-grpo", "dapo", "bnpo", "cispo", "gspo"]
Ratio: TypeAlias = Literal["decision", "set"]
KLEstimator: TypeAlias = Literal["exact", "k1", "k2", "k3"]

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are held to +-20: exp(20) is 5e8, and a stale candidate beyond it must not overflow."""


class LossOptions(NamedTuple):
    """The part of the configuration that the losses read; `GRPOConfig` documents and checks it."""

    loss: Loss
    ratio: Ratio
    clip_low: float | None
    clip_high: float | None
    delta: float | None
    kl_weight: float
    kl_estimator: KLEstimator
    entropy_weight: float


class LossResult(NamedTuple):
    value: Tensor  # scalar
    gradient: Tensor  # (N, V) float64, at the logits
    clip_low: float  # share of the active decisions or sets whose ratio was held from below
    clip_high: float  # the same from above


class Surrogate(NamedTuple):
    value: Tensor
    slope: Tensor  # derivative at the log-probability
    low: Tensor  # bool: clipped from below
    high: Tensor  # bool: clipped from above


def surrogate(log_prob: Tensor, old: Tensor, advantage: Tensor, options: LossOptions) -> Surrogate:
    """The clipped objective of one decision or set, as a loss, with its derivative.

    Elementwise; `advantage` broadcasts.

    - cispo: -sg(min(r, 1 + clip_high)) A l, where sg stops the gradient (MiniMax-M1, arXiv:2506.13585)
    - others: -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) (PPO, arXiv:1707.06347), where for A < 0
      the ratio is first held to `delta` at most (two-sided clip, INTELLECT-2, arXiv:2505.07291).
    """
    ratio = torch.exp((log_prob - old).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
    infinity = float("inf")
    lower = 1 - options.clip_low if options.clip_low is not None else -infinity
    upper = 1 + options.clip_high if options.clip_high is not None else infinity
    if options.loss == "cispo":
        weight = -ratio.clamp(max=upper) * advantage
        return Surrogate(weight * log_prob, weight, torch.zeros_like(ratio, dtype=torch.bool), ratio > upper)
    positive = advantage > 0
    high = torch.where(
        positive, ratio > upper, ratio > (infinity if options.delta is None else options.delta)
    )
    low = ~positive & (ratio < lower)
    held = torch.where(positive, ratio.clamp(max=upper), ratio.clamp(lower, options.delta))
    return Surrogate(-held * advantage, torch.where(low | high, 0.0, -ratio * advantage), low, high)


def kl_estimate(log_prob: Tensor, reference: Tensor, estimator: KLEstimator) -> tuple[Tensor, Tensor]:
    """Estimate of KL(policy || reference) from one sample, and its derivative at the log-probability.

    With d = l - l_ref, the value of each has mean KL (k1, k3) or nearly (k2) under the policy. The
    gradient is that of the formula itself, which is something else in each case:

    - k1 = d: derivative 1. Its mean under the policy is zero: a term with k1 adds noise and pulls nowhere.
    - k2 = d^2 / 2: derivative d. Its mean is the gradient of KL(policy || reference).
    - k3 = exp(-d) - 1 + d: derivative 1 - exp(-d). Its mean is the gradient of KL(reference || policy).

    Source: Schulman, "Approximating KL divergence" (2020); gradients: arXiv:2510.01555.
    """
    gap = (log_prob - reference).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    if estimator == "k1":
        return gap, torch.ones_like(gap)
    if estimator == "k2":
        return gap.square() / 2, gap
    if estimator == "k3":
        return torch.exp(-gap) - 1 + gap, 1 - torch.exp(-gap)
    raise AssertionError(estimator)


def normalizers(lengths: Tensor, advantages: Advantages, groups: Tensor, longest: int, loss: Loss) -> Tensor:
    """(N, G) float64: the weight of one decision of each candidate; 0 where the candidate is not active.

    With |a| the number of decisions of a candidate (1 if the ratio is per set):

    - grpo, gspo: 1 / (kept groups * active candidates of the group * |a|)
    - bnpo: 1 / (sum of |a| over the active candidates)
    - dapo, cispo: 1 / (sum of |a| over all candidates with feedback, groups without spread included)
    - dr-grpo: 1 / (texts * group size * longest |a|): constants, whatever the feedback

    Args:
        lengths: (N, G) decisions of each candidate.
        groups: (N,) number of the group that a row belongs to.
        longest: the policy's number of decisions.
    """
    active = advantages.active.double()
    if loss == "dr-grpo":
        return active / (active.numel() * longest)
    if loss == "bnpo":
        return active / (active * lengths).sum().clamp(min=1)
    if loss in ("dapo", "cispo"):
        return active / (advantages.feedback * lengths).sum().clamp(min=1)
    number, group = torch.unique(groups, return_inverse=True)
    count = torch.zeros(len(number), dtype=torch.float64).index_add_(0, group, active.sum(-1))
    kept = (count > 0).sum().clamp(min=1)
    return active / (kept * count.clamp(min=1)[group][:, None] * lengths.clamp(min=1))


def loss_and_gradient(
    policy: Policy,
    logits: Tensor,
    actions: Tensor,
    old: Tensor,
    shipped: Tensor,
    advantages: Advantages,
    groups: Tensor,
    longest: int,
    options: LossOptions,
) -> LossResult:
    """The loss of a batch, and its gradient at the logits.

        surrogate + kl_weight * KL(policy || shipped) - entropy_weight * entropy

    gspo is the surrogate with the ratio of a set, s = exp((l - l_old) / |a|), normalized by its length
    (arXiv:2507.18071); it does not read `options.ratio`. The estimators k1, k2, k3 are summed with the
    weights of decisions, whatever the ratio; `exact` and the entropy are means over the rows with an
    active candidate, in nats per decision.

    Args:
        logits: (N, V) of the head being trained.
        actions: (N, G, K).
        old: (N, G, D) log-probabilities of the decisions under the policy that drew them.
        shipped: (N, V) logits of the head that shipped.
        groups: (N,) number of the group that a row belongs to.
        longest: number of decisions of a full candidate: k, or V.
    """
    vocabulary = logits.shape[1]
    lengths = policy.decisions(actions, vocabulary).sum(-1)
    per_set = options.ratio == "set" or options.loss == "gspo"
    advantage = advantages.values
    decisions_of = torch.ones_like(lengths) if per_set else lengths
    weight = normalizers(decisions_of, advantages, groups, 1 if per_set else longest, options.loss)
    uses_decisions = not per_set or (options.kl_weight != 0 and options.kl_estimator != "exact")
    exists = policy.decisions(actions, vocabulary)
    log_prob = policy.log_prob(logits, actions) if uses_decisions else None
    slopes = torch.zeros(())
    if per_set:
        scale = 1 / lengths.clamp(min=1).double() if options.loss == "gspo" else torch.ones(())
        new_set = policy.set_log_prob(logits, actions) * scale
        terms = surrogate(new_set, old.sum(-1) * scale, advantage, options)
        value = (weight * terms.value).sum()
        gradient = policy.set_gradient(logits, actions, weight * terms.slope * scale)
        counted = advantages.active
    else:
        assert log_prob is not None
        terms = surrogate(log_prob, old, advantage[..., None], options)
        value = (weight[..., None] * torch.where(exists, terms.value, 0.0)).sum()
        slopes = weight[..., None] * terms.slope
        gradient = torch.zeros_like(logits, dtype=torch.float64)
        counted = advantages.active[..., None] & exists
    if options.kl_weight != 0 and options.kl_estimator != "exact":
        assert log_prob is not None
        reference = policy.log_prob(shipped, actions)
        kl, slope = kl_estimate(log_prob, reference, options.kl_estimator)
        kl_weight = normalizers(lengths, advantages, groups, longest, options.loss)[..., None]
        value = value + options.kl_weight * (kl_weight * torch.where(exists, kl, 0.0)).sum()
        slopes = slopes + options.kl_weight * kl_weight * slope
    if slopes.ndim:
        gradient = gradient + policy.gradient(logits, actions, torch.where(exists, slopes, 0.0))
    rows = advantages.active.any(-1).double()
    rows = rows / rows.sum().clamp(min=1)
    if options.kl_weight != 0 and options.kl_estimator == "exact":
        value = value + options.kl_weight * (rows * policy.kl(logits, shipped)).sum()
        gradient = gradient + policy.kl_gradient(logits, shipped, options.kl_weight * rows)
    if options.entropy_weight != 0:
        value = value - options.entropy_weight * (rows * policy.entropy(logits)).sum()
        gradient = gradient + policy.entropy_gradient(logits, -options.entropy_weight * rows)
    count = max(1, int(counted.sum()))
    return LossResult(
        value, gradient, int((terms.low & counted).sum()) / count, int((terms.high & counted).sum()) / count
    )
