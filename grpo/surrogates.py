"""The terms of one decision or set, elementwise: clipped surrogates and estimates of KL, with derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Loss: TypeAlias = Literal["grpo", "dr-grpo", "dapo", "bnpo", "cispo", "gspo"]
Ratio: TypeAlias = Literal["decision", "set"]
KLEstimator: TypeAlias = Literal["exact", "k1", "k2", "k3"]

LOG_RATIO_LIMIT: Final = 20.0
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

    @property
    def estimates_kl(self) -> bool:
        """Whether k1, k2 or k3 is part of the loss."""
        return self.kl_weight != 0 and self.kl_estimator != "exact"


class LossMetrics(NamedTuple):
    """(devices,) each."""

    value: Tensor
    clip_low: Tensor  # share of the active decisions or sets whose ratio was held from below
    clip_high: Tensor  # the same from above


class LossResult(NamedTuple):
    gradient: Tensor  # (rows, V) float64, at the logits
    measure: Callable[[], LossMetrics]  # an update needs none of it


class Clipped(NamedTuple):
    low: Tensor  # bool: clipped from below
    high: Tensor  # bool: clipped from above


class Surrogate(NamedTuple):
    value: Callable[[], Tensor]
    slope: Tensor  # derivative at the log-probability
    clipped: Callable[[], Clipped]


class KLEstimate(NamedTuple):
    value: Callable[[], Tensor]
    slope: Tensor  # derivative at the log-probability


def surrogate(log_prob: Tensor, old: Tensor, up: Tensor, down: Tensor, options: LossOptions) -> Surrogate:
    """The clipped objective of one decision or set, as a loss, with its derivative.

    Elementwise; `up` and `down`, the positive and the negative part of the advantage A, broadcast. All
    but `clipped` is linear in them, so that they may be weighted.

    - cispo: -sg(min(r, 1 + clip_high)) A l, where sg stops the gradient (MiniMax-M1, arXiv:2506.13585)
    - others: -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) (PPO, arXiv:1707.06347), where for A < 0
      the ratio is first held to `delta` at most (two-sided clip, INTELLECT-2, arXiv:2505.07291).
    """
    liked, disliked = surrogates_of_one(log_prob, old, options)

    def clipped() -> Clipped:
        of_liked, of_disliked = liked.clipped(), disliked.clipped()
        positive = up > 0
        return Clipped(*(torch.where(positive, a, b) for a, b in zip(of_liked, of_disliked, strict=True)))

    return Surrogate(
        lambda: up * liked.value() - down * disliked.value(),
        torch.addcmul(up * liked.slope, down, disliked.slope, value=-1), clipped,
    )  # fmt: skip


def surrogates_of_one(log_prob: Tensor, old: Tensor, options: LossOptions) -> tuple[Surrogate, Surrogate]:
    """`surrogate` for an advantage of 1 and of -1, at little more than the cost of one."""
    ratio = torch.sub(log_prob, old).clamp_(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp_()
    lower, upper, delta = _bounds(options)
    if options.loss == "cispo":
        weight = ratio.clamp(max=upper)

        def held() -> Clipped:
            return Clipped(torch.zeros_like(ratio, dtype=torch.bool), ratio > upper)

        return (
            Surrogate(lambda: -weight * log_prob, -weight, held),
            Surrogate(lambda: weight * log_prob, weight, held),
        )
    # One vectorized pass for what a comparison and a product with its result take five times as long for.
    rising = torch.nn.functional.threshold(-ratio, _below(-upper), 0.0)
    falling = torch.nn.functional.threshold(ratio, _below(lower), 0.0)
    if delta < math.inf:
        falling.masked_fill_(ratio > delta, 0.0)
    liked = Surrogate(
        lambda: -ratio.clamp(max=upper), rising,
        lambda: Clipped(torch.zeros_like(ratio, dtype=torch.bool), ratio > upper),
    )  # fmt: skip
    disliked = Surrogate(
        lambda: ratio.clamp(lower, delta), falling, lambda: Clipped(ratio < lower, ratio > delta)
    )
    return liked, disliked


def _below(bound: float) -> float:
    """What everything from `bound` on is larger than: `threshold` keeps what is larger, and not its equal."""
    return math.nextafter(bound, -math.inf)


def _bounds(options: LossOptions) -> tuple[float, float, float]:
    """Lower and upper clip, and delta, with infinities for those that are off."""
    infinity = float("inf")
    return (
        1 - options.clip_low if options.clip_low is not None else -infinity,
        1 + options.clip_high if options.clip_high is not None else infinity,
        options.delta if options.delta is not None else infinity,
    )


def kl_estimate(log_prob: Tensor, reference: Tensor, estimator: KLEstimator) -> KLEstimate:
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
        return KLEstimate(lambda: gap, torch.ones_like(gap))
    if estimator == "k2":
        return KLEstimate(lambda: gap.square() / 2, gap)
    if estimator == "k3":
        inverse = torch.exp(-gap)
        return KLEstimate(lambda: inverse - 1 + gap, 1 - inverse)
    raise AssertionError(estimator)
