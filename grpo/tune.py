"""GRPO on the head: latents, candidates and rewards in, a head out; for one device, or for many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from grpo.advantages import Advantages
from grpo.batch import Batch, make_batch, per_device
from grpo.budgets import SEARCH_STEPS, Budgets
from grpo.budgets import Spent as SpentByAll
from grpo.config import GRPOConfig
from grpo.descent import Descent, make_descent
from grpo.exact import one_thread
from grpo.gate import GateReading
from grpo.groups import Groups
from grpo.head import Head
from grpo.losses import loss_and_gradient
from grpo.metrics import NightMetrics, StepMetrics, night_metrics
from grpo.policies import Policy, PolicyAt
from grpo.reference import Spent
from grpo.scoring import combined_reward, score_together
from grpo.surrogates import LossResult
from personality_common.errors import DataError, ToolkitError


@dataclass(frozen=True)
class TuneResult:
    """What a night did.

    Attributes:
        head: the new head; the very tensors of the old one if it stays.
        night, steps: metrics.
        reasons: why the update is smaller than was asked for, a line each; empty when it is not.
        gate: how the gate stands; None where none was asked.
        spent: of the budgets, on the reference; None where it was not measured there.
    """

    head: Head
    night: NightMetrics
    steps: tuple[StepMetrics, ...]
    reasons: tuple[str, ...]
    gate: GateReading | None = None
    spent: Spent | None = None


@dataclass(frozen=True)
class TunedHeads:
    """What a night did to the heads of D devices; (D,) where nothing else is said.

    Attributes:
        moved: (M,) devices with a new head; those of the others stay.
        head: stacked, (M, V, d) and (M, V): the new heads.
        learnable: bool: some group had spread.
        steps: taken.
        stopped: bool: by `kl_stop`.
        share: of the update that the budgets left; 1 if all of it, 0 if it was dropped.
        whole: what all of the update would have spent of the budgets.
        spent: what the heads have spent of them, whether they moved or not.
        advantages: (D * N, G), one device below the other; their counts are sums over the devices.
        metrics: a tuple for each step, with the metrics of each device; empty unless asked for.
    """

    moved: Tensor
    head: Head = field(repr=False)
    learnable: Tensor
    steps: Tensor
    stopped: Tensor
    share: Tensor
    whole: SpentByAll
    spent: SpentByAll
    advantages: Advantages = field(repr=False)
    metrics: tuple[tuple[StepMetrics, ...], ...] = field(repr=False)


def tune_head(latents: Tensor, groups: Groups, head: Head, shipped: Head, config: GRPOConfig) -> TuneResult:
    """One night of one device: `tune_heads`, and everything that is worth knowing about it.

    Args:
        latents: (N, d) float32, of the texts of `groups`, row by row.
        groups: candidates with rewards.
        head: where the update starts.
        shipped: the head that shipped, for the KL term and the budgets.
        config: settings.

    Raises:
        DataError: shapes, dtypes or tokens that do not fit.
        ToolkitError: the gradient is not zero and yet no weight changed, or the head is no longer finite.
    """
    head.check(latents)
    shipped.check(latents)
    stacked = Head(head.weight[None], head.bias[None])
    tuned = tune_heads(latents[None], [groups], stacked, shipped, config, with_metrics=True)
    new = Head(tuned.head.weight[0], tuned.head.bias[0]) if len(tuned.moved) else head
    steps = tuple(metrics[0] for metrics in tuned.metrics)
    night = night_metrics(
        latents, groups, combined_reward(groups.rewards, dict(config.reward_weights)), tuned.advantages,
        head, shipped, new, config.make_policy(), steps, float(tuned.share[0]),
    )  # fmt: skip
    return TuneResult(new, night, steps, _reasons(tuned, config))


def tune_heads(
    latents: Tensor,
    groups: Sequence[Groups],
    heads: Head,
    shipped: Head,
    config: GRPOConfig,
    *,
    start: Tensor | None = None,
    with_metrics: bool = False,
) -> TunedHeads:
    """One night: move the heads of D devices towards what was rewarded to each.

    Latents and heads are float32; what happens at the logits is float64, and a head is rounded once, when
    the night is over (with Adam, which works on the weights, after every step). Nothing is drawn here: the
    same inputs on the same machine give the same bits, whatever other devices are in the batch.

    Departs from DeepSeekMath (arXiv:2402.03300): the night's groups are one batch; the reference policy is
    the head that shipped, for good; limits on KL and overlap stop the night or scale the update back.

    Args:
        latents: (D, N, d) float32, of the texts of each device's groups, row by row.
        groups: of each device, all of one shape.
        heads: where the updates start, stacked: (D, V, d) and (D, V).
        shipped: the head that shipped, for the KL term and the budgets.
        config: settings.
        start: (D, N, V) logits of the heads, as `Head.logits` gives them; None: they are computed.
        with_metrics: `TunedHeads.metrics`, which cost as much as the update.

    Raises:
        DataError: shapes, dtypes or tokens that do not fit.
        ToolkitError: a gradient is not zero and yet no weight changed, or a head is no longer finite.
    """
    _check(latents, groups, heads, shipped)
    policy, options = config.make_policy(), config.loss_options
    devices, texts, _ = latents.shape
    with one_thread():
        everywhere = Head(*(t.expand(devices, *t.shape) for t in shipped))
        start = heads.logits(latents) if start is None else start
        reference = everywhere.logits(latents)
        advantages, batch = _batch(policy, start, reference, latents, groups, config)
        learnable = per_device(batch.active, devices) > 0
        descent = make_descent(latents, heads, start, config)
        running, here, end = learnable.clone(), batch.start, start.double()
        steps, stopped, pushed = torch.zeros(devices, dtype=torch.int64), ~learnable, ~learnable
        metrics: list[tuple[StepMetrics, ...]] = []
        for step in range(config.inner_iterations):
            if not bool(running.any()):
                break
            loss = loss_and_gradient(here, batch, options)
            gradient = loss.gradient.view(devices, texts, -1)
            if step == 0:
                pushed = per_device(gradient != 0, devices) > 0
            end = descent.step(gradient, running)
            here = policy.at(end.flatten(0, 1))
            steps += running
            kl_old = here.kl(batch.start).view(devices, texts).mean(-1)
            if with_metrics:
                metrics.append(_step_metrics(step, loss, kl_old, here, batch, descent, gradient))
            if config.kl_stop is not None:
                running = running & ~(kl_old > config.kl_stop)
        stopped = learnable & ~running
        _require_finite(end, config)

        budgets = Budgets(policy, reference, config, batch.shipped)
        spent, whole = budgets.spent(start, batch.start), budgets.spent(end, here)
        share = budgets.share(start.double(), end, spent, whole)
        share[~learnable] = 1.0
        moved, head, spent = _within_budgets(descent, budgets, learnable, share, spent)
        _require_moved(heads, head, moved[(share == 1)[moved] & pushed[moved]], moved, config)
    return TunedHeads(
        moved, head, learnable, steps, stopped, share, whole, spent, advantages, tuple(metrics)
    )  # fmt: skip


def _batch(
    policy: Policy,
    start: Tensor,
    reference: Tensor,
    latents: Tensor,
    groups: Sequence[Groups],
    config: GRPOConfig,
) -> tuple[Advantages, Batch]:
    """The devices' nights one below the other; logits are (D, N, V)."""
    advantages, numbers = score_together(latents, groups, config)
    behaviour = None
    if any(g.behaviour is not None for g in groups):
        unknown = torch.full(groups[0].actions.shape[:2], torch.nan, dtype=torch.float64)
        behaviour = torch.cat([unknown if g.behaviour is None else g.behaviour.double() for g in groups])
    batch = make_batch(
        policy,
        start.flatten(0, 1),
        reference.flatten(0, 1),
        torch.cat([g.actions for g in groups]),
        behaviour,
        advantages,
        numbers,
        config.k if config.policy == "plackett-luce" else start.shape[-1],
        config.loss_options,
        len(groups),
    )
    return advantages, batch


def _within_budgets(
    descent: Descent, budgets: Budgets, learnable: Tensor, share: Tensor, spent: SpentByAll
) -> tuple[Tensor, Head, SpentByAll]:
    """Make the heads, and lower a share (in place) until the head that is made keeps the budgets.

    The share was found on logits in float64, and a head is float32, so one at the very edge can be beyond.

    Args:
        spent: of the budgets, by the heads at the start.

    Returns:
        The devices whose heads moved, their heads, and what is spent now.
    """
    less = 0.5**SEARCH_STEPS
    while True:
        moved = (learnable & (share > 0)).nonzero()[:, 0]
        head = descent.head(moved, share[moved])
        logits = head.logits(descent.latents[moved])
        _require_finite(logits, descent.config)
        now = budgets.of(moved).spent(logits) if len(moved) else SpentByAll(*(t[:0] for t in spent))
        beyond = moved[~now.within]
        if not len(beyond):
            pairs = zip(spent, now, strict=True)
            return moved, head, SpentByAll(*(t.index_copy(0, moved, n) for t, n in pairs))
        share[beyond] = (share[beyond] - less).clamp(min=0)
        less *= 2


def _step_metrics(
    step: int,
    loss: LossResult,
    kl_old: Tensor,
    here: PolicyAt,
    batch: Batch,
    descent: Descent,
    gradient: Tensor,
) -> tuple[StepMetrics, ...]:
    texts = len(batch.rows) // batch.devices
    columns = (
        *loss.measure(), kl_old, here.kl(batch.shipped).view(-1, texts).mean(-1),
        here.entropy().view(-1, texts).mean(-1), descent.gradient_norm(gradient), descent.change(),
    )  # fmt: skip
    return tuple(StepMetrics(step, *row) for row in torch.stack(columns, -1).tolist())


def _reasons(tuned: TunedHeads, config: GRPOConfig) -> tuple[str, ...]:
    """Of a single device."""
    reasons = []
    if not tuned.learnable[0]:
        reasons.append(f"nothing to learn: none of {tuned.advantages.groups} groups has spread")
    if tuned.stopped[0]:
        last = tuned.metrics[-1][0]
        reasons.append(
            f"stopped after step {last.step + 1} of {config.inner_iterations}: KL to the old policy"
            f" {last.kl_old:.4g} passed kl_stop {config.kl_stop:g}"
        )
    if tuned.share[0] < 1:
        budgets = ", ".join(
            f"{name} {float(value[0]):.3g} for a budget of {budget:g}"
            for name, value, budget in (
                ("KL to the shipped head", tuned.whole.kl, config.kl_budget),
                ("top-8 overlap with it", tuned.whole.overlap, config.overlap_budget),
            )
            if budget is not None
        )
        reasons.append(f"scaled back to {float(tuned.share[0]):.3g} of the update: {budgets}")
    return tuple(reasons)


def _require_finite(values: Tensor, config: GRPOConfig) -> None:
    if not bool(values.isfinite().all()):
        raise ToolkitError(
            f"the head must stay finite, got inf or NaN; lower learning_rate ({config.learning_rate:g})"
        )


def _require_moved(heads: Head, head: Head, whole: Tensor, moved: Tensor, config: GRPOConfig) -> None:
    """`whole` are the devices whose update has a gradient and was kept whole."""
    rows = torch.searchsorted(moved, whole)
    same = (head.bias[rows] == heads.bias[whole]).all(-1)
    for row, device in zip(rows[same].tolist(), whole[same].tolist(), strict=True):
        if torch.equal(head.weight[row], heads.weight[device]):
            raise ToolkitError(
                "an update with a gradient must change the head, and no weight moved in float32;"
                f" raise learning_rate ({config.learning_rate:g})"
            )


def _check(latents: Tensor, groups: Sequence[Groups], heads: Head, shipped: Head) -> None:
    fits = (
        latents.ndim == heads.weight.ndim == 3
        and heads.bias.shape == heads.weight.shape[:2]
        and len(latents) == len(heads.weight) == len(groups)
    )
    if not fits:
        raise DataError(
            "latents, heads and groups must be (D, N, d), (D, V, d) with (D, V), and D, got"
            f" {tuple(latents.shape)}, {tuple(heads.weight.shape)} with {tuple(heads.bias.shape)},"
            f" and {len(groups)}"
        )
    vocabulary, first = heads.bias.shape[1], groups[0].actions.shape
    if shipped.weight.shape != heads.weight.shape[1:]:
        raise DataError(
            f"the shipped head must have the head's shape {tuple(heads.weight.shape[1:])},"
            f" got {tuple(shipped.weight.shape)}"
        )
    for one in groups:
        if one.actions.shape != first:
            raise DataError(f"groups must have one shape, got {tuple(first)} and {tuple(one.actions.shape)}")
    if len(groups[0]) != latents.shape[1]:
        raise DataError(f"latents must have a row per group, got {latents.shape[1]} for {len(groups[0])}")
    for one in groups:
        lowest, highest = (int(one.actions.min()), int(one.actions.max())) if one.actions.numel() else (0, 0)
        if lowest < -1 or highest >= vocabulary:
            raise DataError(
                f"token indices must be in 0..{vocabulary - 1}, or -1 for padding, got {lowest}..{highest}"
            )
