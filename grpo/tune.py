"""GRPO on the head: latents, candidates and rewards in, a head out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from grpo.batch import make_batch
from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.head import Head, top_overlap
from grpo.losses import loss_and_gradient
from grpo.metrics import NightMetrics, StepMetrics, night_metrics
from grpo.policies import Policy
from grpo.scoring import combined_reward, score
from personality_common.errors import DataError, ToolkitError

SEARCH_STEPS: Final = 20
"""Halvings when an update is scaled back: to a millionth of the update."""


@dataclass(frozen=True)
class TuneResult:
    """What a night did.

    Attributes:
        head: the new head; the very tensors of the old one if it stays.
        night, steps: metrics.
        reasons: why the update is smaller than was asked for, a line each; empty when it is not.
    """

    head: Head
    night: NightMetrics
    steps: tuple[StepMetrics, ...]
    reasons: tuple[str, ...]


def tune_head(
    latents: Tensor,
    groups: Groups,
    head: Head,
    shipped: Head,
    config: GRPOConfig,
    probe: Tensor | None = None,
) -> TuneResult:
    """One night: move the head towards what was rewarded.

    Parameters, latents, optimizer and both matrix products are float32; what happens at the logits is
    float64, rounded once, as the gradient at the logits. Nothing is drawn here: the same inputs on the
    same machine give the same bits.

    Departs from DeepSeekMath (arXiv:2402.03300): the night's groups are one batch; the reference policy is
    the head that shipped, for good; limits on KL and overlap stop the night or scale the update back.

    Args:
        latents: (N, d) float32, of the texts of `groups`, row by row.
        groups: candidates with rewards.
        head: where the update starts.
        shipped: the head that shipped, for the KL term and the budgets.
        config: settings.
        probe: (M, d) further latents that the budgets are measured on, beside `latents`.

    Raises:
        DataError: shapes, dtypes or tokens that do not fit.
        ToolkitError: the gradient is not zero and yet no weight changed, or the head is no longer finite.
    """
    _check(latents, groups, head, shipped)
    policy, options = config.make_policy(), config.loss_options
    longest = config.k if config.policy == "plackett-luce" else len(head.bias)
    advantages, numbers = score(latents, groups, config)
    learnable = bool(advantages.active.any())
    reasons = [] if learnable else [f"nothing to learn: none of {advantages.groups} groups has spread"]

    start, reference = head.logits(latents), shipped.logits(latents)
    batch = make_batch(
        policy, start, reference, groups.actions, groups.behaviour, advantages, numbers, longest, options
    )
    weight, bias = head.weight.clone(), head.bias.clone()
    optimizer = _optimizer(weight, bias, config)
    logits = start
    steps: list[StepMetrics] = []
    for step in range(config.inner_iterations if learnable else 0):
        loss = loss_and_gradient(policy, logits, batch, options)
        gradient = loss.gradient.float()
        weight.grad, bias.grad = gradient.T @ latents, gradient.sum(0)
        norm = float(torch.cat([weight.grad.flatten(), bias.grad]).norm())
        if config.gradient_clip is not None and norm > config.gradient_clip:
            for tensor in (weight.grad, bias.grad):
                tensor.mul_(config.gradient_clip / norm)
        optimizer.step()

        tuned = Head(weight, bias)
        logits = tuned.logits(latents)
        steps.append(
            StepMetrics(
                step=step,
                loss=float(loss.value),
                clip_low=loss.clip_low,
                clip_high=loss.clip_high,
                kl_old=float(policy.kl(logits, start).mean()),
                kl_shipped=float(policy.kl(logits, reference).mean()),
                entropy=float(policy.entropy(logits).mean()),
                gradient_norm=norm,
                head_change=tuned.distance(head),
                changed_weights=tuned.changed(head),
            )
        )
        if not bool(logits.isfinite().all()):
            raise ToolkitError(
                f"the head must stay finite, got inf or NaN in step {step + 1}; lower learning_rate"
                f" ({config.learning_rate:g})"
            )
        if config.kl_stop is not None and steps[-1].kl_old > config.kl_stop:
            reasons.append(
                f"stopped after step {step + 1} of {config.inner_iterations}: KL to the old policy"
                f" {steps[-1].kl_old:.4g} passed kl_stop {config.kl_stop:g}"
            )
            break
    tuned = Head(weight, bias) if steps else head
    if any(s.gradient_norm > 0 for s in steps) and tuned.changed(head) == 0:
        raise ToolkitError(
            f"an update with a gradient (norm {steps[0].gradient_norm:.3g}) must change the head,"
            f" and no weight moved in float32; raise learning_rate ({config.learning_rate:g})"
        )
    measured = latents if probe is None else torch.cat([latents, probe])
    tuned, scale, reason = scale_back(tuned, head, shipped, measured, policy, config)
    reasons += [reason] if reason else []
    reward = combined_reward(groups.rewards, dict(config.reward_weights))
    night = night_metrics(
        measured, groups, reward, advantages, head, shipped, tuned, policy, steps, scale
    )  # fmt: skip
    return TuneResult(tuned, night, tuple(steps), tuple(reasons))


def scale_back(
    tuned: Head, head: Head, shipped: Head, latents: Tensor, policy: Policy, config: GRPOConfig
) -> tuple[Head, float, str | None]:
    """The part of the update, from its start, that keeps the budgets; found by halving.

    Returns the head, the share of the update, and why it is not all of it. An update that ends within the
    budgets is kept whole, even if it starts outside of them; one that cannot be brought within is dropped.
    """
    if tuned is head:
        return head, 1.0, None
    reference = shipped.logits(latents)

    def spent(candidate: Head) -> tuple[float, float, bool]:
        logits = candidate.logits(latents)
        kl = float(policy.kl(logits, reference).mean())
        overlap = float(top_overlap(logits, reference).mean())
        within = (config.kl_budget is None or kl <= config.kl_budget) and (
            config.overlap_budget is None or overlap >= config.overlap_budget
        )
        return kl, overlap, within

    kl, overlap, within = spent(tuned)
    if within:
        return tuned, 1.0, None
    low, high, best = 0.0, 1.0, head
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        candidate = head.towards(tuned, middle)
        if spent(candidate)[2]:
            low, best = middle, candidate
        else:
            high = middle
    budgets = ", ".join(
        f"{name} {value:.3g} for a budget of {budget:g}"
        for name, value, budget in (
            ("KL to the shipped head", kl, config.kl_budget),
            ("top-8 overlap with it", overlap, config.overlap_budget),
        )
        if budget is not None
    )
    return best, low, f"scaled back to {low:.3g} of the update: {budgets}"


def _optimizer(weight: Tensor, bias: Tensor, config: GRPOConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        betas = (config.adam_beta1, config.adam_beta2)
        return torch.optim.Adam([weight, bias], config.learning_rate, betas, config.adam_eps)
    momentum = config.momentum if config.optimizer == "momentum" else 0.0
    return torch.optim.SGD([weight, bias], config.learning_rate, momentum)


def _check(latents: Tensor, groups: Groups, head: Head, shipped: Head) -> None:
    head.check(latents)
    shipped.check(latents)
    if len(latents) != len(groups):
        raise DataError(f"latents must have a row per group, got {len(latents)} for {len(groups)}")
    if head.weight.shape != shipped.weight.shape:
        raise DataError(
            f"the shipped head must have the head's shape {tuple(head.weight.shape)},"
            f" got {tuple(shipped.weight.shape)}"
        )
    lowest, highest = (
        (int(groups.actions.min()), int(groups.actions.max())) if groups.actions.numel() else (0, 0)
    )
    if lowest < -1 or highest >= len(head.bias):
        raise DataError(
            f"token indices must be in 0..{len(head.bias) - 1}, or -1 for padding, got {lowest}..{highest}"
        )
