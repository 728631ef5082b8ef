"""Rewards of candidates to advantages: what each says against the others drawn with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from personality_common.errors import DataError

AdvantageScale: TypeAlias = Literal["group", "batch", "none"]
RewardAggregation: TypeAlias = Literal["sum-then-normalize", "normalize-then-sum"]


class Advantages(NamedTuple):
    values: Tensor  # (N, G) float64, 0 where there is no feedback or the group was dropped
    feedback: Tensor  # (N, G) bool: the candidate has a reward
    active: Tensor  # (N, G) bool: feedback, in a group that was kept
    groups: int  # groups with feedback at all
    dropped: int  # of them, those without spread or with a single candidate


def group_advantages(
    rewards: Tensor,
    *,
    groups: Tensor | None = None,
    scale: AdvantageScale = "group",
    deviation_floor: float = 1e-4,
    spread_tolerance: float = 1e-6,
) -> Advantages:
    """Score each candidate against the others of its group.

        A = (r - mean) / max(deviation, deviation_floor)

    A group whose largest and smallest reward differ by no more than
    spread_tolerance * max(1, largest magnitude) says nothing: it is dropped, and counted. A reward
    that is the same for everyone but for float32 dust is such a group.

    Args:
        rewards: (N, G) float, a row per text; NaN marks a candidate without feedback, which neither
            counts nor moves the mean.
        groups: (N,) int64, rows with one number form one group; None: each row is its own.
        scale: "group" divides by the group's deviation (n - 1 in the denominator), "batch" by that of
            all rewards, groups without spread included (arXiv:2508.08221), "none" keeps the unit of the
            rewards ("Dr. GRPO", arXiv:2503.20783).
        deviation_floor: least divisor, in reward units.
        spread_tolerance: relative for rewards beyond 1 in magnitude, absolute below.

    Raises:
        DataError: not 2-D, or an infinite reward.

    Source: DeepSeekMath, arXiv:2402.03300.
    """
    rewards = _checked(rewards)
    feedback = ~rewards.isnan()
    rewards = torch.where(feedback, rewards, 0.0)
    group = torch.arange(len(rewards)) if groups is None else torch.unique(groups, return_inverse=True)[1]
    total = int(group.max()) + 1 if len(group) else 0

    def per_group(values: Tensor) -> Tensor:
        return torch.zeros(total, dtype=torch.float64).index_add_(0, group, values.sum(-1))

    count = per_group(feedback.double())
    mean = per_group(rewards) / count.clamp(min=1)
    centred = torch.where(feedback, rewards - mean[group][:, None], 0.0)
    kept = _spread(rewards, feedback, group, total) > spread_tolerance
    active = feedback & kept[group][:, None]
    if scale == "group":
        deviation = (per_group(centred.square()) / (count - 1).clamp(min=1)).sqrt()
        divisor = deviation.clamp(min=deviation_floor)[group][:, None]
    elif scale == "batch":
        divisor = _deviation(rewards[feedback]).clamp(min=deviation_floor)
    else:
        divisor = torch.ones(())
    values = torch.where(active, centred / divisor, 0.0)
    return Advantages(values, feedback, active, int((count > 0).sum()), int(((count > 0) & ~kept).sum()))


def running_advantages(
    rewards: Tensor, *, scale: AdvantageScale = "group", deviation_floor: float = 1e-4
) -> Advantages:
    """Score single candidates, in order of time, against the mean of those before.

        A_t = (r_t - mean of r_1..r_{t-1}) / max(deviation, deviation_floor)

    The baseline of a candidate does not depend on its own reward, so it adds no bias (REINFORCE with a
    baseline). The deviation is that of all of them, so that an early one is not blown up by the little
    that was seen before it; "none" leaves it out. The first has nothing before it, and gets 0.

    Args:
        rewards: (N, G) float, read row by row; NaN marks no feedback.
    """
    rewards = _checked(rewards)
    feedback = ~rewards.isnan()
    seen = rewards[feedback]
    before = seen.cumsum(0) - seen
    count = torch.arange(len(seen), dtype=torch.float64)
    centred = torch.where(count > 0, seen - before / count.clamp(min=1), 0.0)
    if scale != "none" and len(seen) > 1:
        centred = centred / seen.std().clamp(min=deviation_floor)
    values = torch.zeros_like(rewards)
    values[feedback] = centred
    active = feedback & (feedback.flatten().cumsum(0).view(feedback.shape) > 1)
    return Advantages(values, feedback, active, len(seen), min(1, len(seen)))


def combine_advantages(
    rewards: Mapping[str, Tensor],
    weights: Mapping[str, float],
    *,
    aggregation: RewardAggregation,
    groups: Tensor | None,
    scale: AdvantageScale,
    deviation_floor: float,
    spread_tolerance: float,
) -> Advantages:
    """Advantages under several reward functions.

    "sum-then-normalize": the advantage of R = sum_f w_f r_f, where a candidate counts only if every
    function with a weight other than 0 gave it a reward (a missing term would look like a bad reward).
    "normalize-then-sum": A = sum_f w_f A_f, each function normalized within its own feedback, so that
    one on a large scale does not drown the others, and divided by the deviation of A over all candidates
    with feedback, so that the step does not grow with the number of functions (GDPO, arXiv:2601.05242; its
    mean is 0 already); a function that is silent about a candidate, or about a whole group, adds 0.

    Args:
        rewards: name -> (N, G); NaN marks no feedback from that function.
        weights: name -> weight; 1 for a name that is not there.
    """
    used = {name: (weights.get(name, 1.0), r.double()) for name, r in rewards.items()}
    used = {name: (w, r) for name, (w, r) in used.items() if w != 0}
    if not used:
        raise DataError("rewards must come from a function with a weight other than 0, got none")

    def normalized(values: Tensor) -> Advantages:
        return group_advantages(
            values,
            groups=groups,
            scale=scale,
            deviation_floor=deviation_floor,
            spread_tolerance=spread_tolerance,
        )

    if aggregation == "sum-then-normalize":
        return normalized(torch.stack([w * r for w, r in used.values()]).sum(0))
    parts = [(w, normalized(r)) for w, r in used.values()]
    values = torch.stack([w * part.values for w, part in parts]).sum(0)
    feedback = torch.stack([part.feedback for _, part in parts]).any(0)
    active = torch.stack([part.active for _, part in parts]).any(0)
    values = values / _deviation(values[feedback]).clamp(min=deviation_floor)
    group = torch.arange(len(values)) if groups is None else groups
    heard, kept = set(group[feedback.any(-1)].tolist()), set(group[active.any(-1)].tolist())
    return Advantages(values, feedback, active, len(heard), len(heard) - len(kept))


def _checked(rewards: Tensor) -> Tensor:
    if rewards.ndim != 2:
        raise DataError(f"rewards must be (texts, group), got shape {tuple(rewards.shape)}")
    if bool(rewards.isinf().any()):
        raise DataError(
            f"rewards must be finite or NaN (no feedback), got {int(rewards.isinf().sum())} infinite"
        )
    return rewards.double()


def _deviation(values: Tensor) -> Tensor:
    """With n - 1; 1 for fewer than two, of which nothing is active."""
    return values.std() if len(values) > 1 else torch.ones((), dtype=torch.float64)


def _spread(rewards: Tensor, feedback: Tensor, group: Tensor, total: int) -> Tensor:
    """(groups,) largest minus smallest reward, divided by the largest magnitude if that is beyond 1."""
    infinity = float("inf")
    high = torch.full((total,), -infinity, dtype=torch.float64)
    low = torch.full((total,), infinity, dtype=torch.float64)
    high.scatter_reduce_(0, group, torch.where(feedback, rewards, -infinity).amax(-1), "amax")
    low.scatter_reduce_(0, group, torch.where(feedback, rewards, infinity).amin(-1), "amin")
    magnitude = torch.maximum(high.abs(), low.abs()).clamp(min=1)
    return torch.where(high >= low, (high - low) / magnitude, 0.0)
