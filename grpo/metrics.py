"""What is logged, per step and per night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo.advantages import Advantages
from grpo.groups import Groups
from grpo.head import Head, top_overlap
from grpo.policies import Policy


@dataclass(frozen=True)
class StepMetrics:
    """One inner step. KL and entropy are means over the night's texts, in nats per decision.

    Attributes:
        step: from 0.
        loss: before the step. It is 0, or near it, at the first step, and that is as it should be: all ratios
            are 1 there, so the surrogate is minus the weighted mean of the advantages, which are centred.
            Only the gradient says something; the KL term is 0 on the first night, too.
        clip_low: share of active decisions (sets, where the ratio is per set) with a negative advantage and
            a ratio below 1 - clip_low, at the start of the step; they have no gradient.
        clip_high: the same with a positive advantage above 1 + clip_high, or a negative one above delta.
        kl_old: KL(policy after the step || policy at the start of the night).
        kl_shipped: KL(policy after the step || policy of the head that shipped).
        entropy: of the policy after the step.
        gradient_norm: over both tensors, before it is clipped.
        head_change: norm of the difference to the head at the start of the night.
    """

    step: int
    loss: float
    clip_low: float
    clip_high: float
    kl_old: float
    kl_shipped: float
    entropy: float
    gradient_norm: float
    head_change: float


@dataclass(frozen=True)
class NightMetrics:
    """One call of `tune_head`. What it shares with `StepMetrics` is of the head that it returns.

    Attributes:
        groups: with feedback.
        dropped_groups: of them, those without spread, which push nowhere.
        dropped_share: dropped_groups / groups; 0 without groups.
        candidates: with feedback.
        reward_mean: of the weighted sum of the reward functions, over candidates on which all of them spoke;
            None without any.
        reward_std: mean over groups of the deviation (n - 1) of that sum; None without a group of two.
        reward_means: each reward function's mean over the candidates on which it spoke; None without any.
        advantage_min, advantage_max: 0 without active candidates.
        steps: taken.
        clip_low, clip_high: means over the steps.
        gradient_norm: of the first step; 0 without steps.
        overlap_shipped: mean share of the top 8 in common with the head that shipped.
        changed_weights: how many of the head's numbers differ from the start of the night.
        scale: share of the update that the budgets left; 1 if all of it.
    """

    groups: int
    dropped_groups: int
    dropped_share: float
    candidates: int
    reward_mean: float | None
    reward_std: float | None
    reward_means: dict[str, float | None]
    advantage_min: float
    advantage_max: float
    steps: int
    clip_low: float
    clip_high: float
    kl_old: float
    kl_shipped: float
    overlap_shipped: float
    entropy: float
    gradient_norm: float
    head_change: float
    changed_weights: int
    scale: float


def night_metrics(
    latents: Tensor,
    groups: Groups,
    reward: Tensor,
    advantages: Advantages,
    head: Head,
    shipped: Head,
    tuned: Head,
    policy: Policy,
    steps: Sequence[StepMetrics],
    scale: float,
) -> NightMetrics:
    """`reward` is the (N, G) weighted sum."""
    logits, reference = tuned.logits(latents), shipped.logits(latents)
    here = policy.at(logits)
    active = advantages.values[advantages.active]
    deviations = torch.tensor(
        [float(row[~row.isnan()].std()) for row in reward if int((~row.isnan()).sum()) > 1]
    )
    return NightMetrics(
        groups=advantages.groups,
        dropped_groups=advantages.dropped,
        dropped_share=advantages.dropped / max(1, advantages.groups),
        candidates=int(advantages.feedback.sum()),
        reward_mean=_mean(reward[~reward.isnan()]),
        reward_std=_mean(deviations),
        reward_means={name: _mean(values[~values.isnan()]) for name, values in groups.rewards.items()},
        advantage_min=float(active.min()) if len(active) else 0.0,
        advantage_max=float(active.max()) if len(active) else 0.0,
        steps=len(steps),
        clip_low=sum(s.clip_low for s in steps) / max(1, len(steps)),
        clip_high=sum(s.clip_high for s in steps) / max(1, len(steps)),
        kl_old=float(here.kl(policy.at(head.logits(latents))).mean()),
        kl_shipped=float(here.kl(policy.at(reference)).mean()),
        overlap_shipped=float(top_overlap(logits, reference).mean()),
        entropy=float(here.entropy().mean()),
        gradient_norm=steps[0].gradient_norm if steps else 0.0,
        head_change=tuned.distance(head),
        changed_weights=tuned.changed(head),
        scale=scale,
    )


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
