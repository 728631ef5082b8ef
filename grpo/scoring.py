"""Advantages of a night's groups, and what stands in for the group of a single candidate."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from grpo.advantages import Advantages, combine_advantages, running_advantages
from grpo.config import GRPOConfig
from grpo.groups import Groups


def score(latents: Tensor, groups: Groups, config: GRPOConfig) -> tuple[Advantages, Tensor]:
    """Advantages of all candidates, and (N,) numbers of the groups they were taken within.

    A row with two candidates or more with feedback is a group. Rows with one (a thumb on what was shown) are
    scored as `single_candidates` says:

    - "baseline": against the running mean of the single candidates before it, in the order of the rows.
    - "similar": rows of similar texts are one group: a row joins the first row that started a group and whose
      latent has a cosine of `similarity` or more with its own, or starts one.

    In the normalization of losses, each row of a "baseline" is a group of its own.
    """
    weights = dict(config.reward_weights)
    heard = torch.stack([~r.isnan() for name, r in groups.rewards.items() if weights.get(name, 1.0) != 0])
    single = heard.any(0).sum(-1) == 1
    numbers = torch.arange(len(groups))
    if config.single_candidates == "similar":
        numbers = _similar(latents, single, config.similarity)

    def combined(rewards: dict[str, Tensor], numbers: Tensor) -> Advantages:
        return combine_advantages(
            rewards,
            weights,
            aggregation=config.reward_aggregation,
            groups=numbers,
            scale=config.advantage_scale,
            deviation_floor=config.deviation_floor,
            spread_tolerance=config.spread_tolerance,
        )

    rewards = dict(groups.rewards)
    if config.single_candidates == "similar" or not bool(single.any()):
        return combined(rewards, numbers), numbers
    blank = single[:, None].expand(groups.actions.shape[:2])
    grouped = combined({n: torch.where(blank, torch.nan, r.double()) for n, r in rewards.items()}, numbers)
    running = running_advantages(
        torch.where(blank, combined_reward(rewards, weights), torch.nan),
        scale=config.advantage_scale,
        deviation_floor=config.deviation_floor,
    )
    merged = Advantages(
        torch.where(blank, running.values, grouped.values),
        grouped.feedback | running.feedback,
        grouped.active | running.active,
        grouped.groups + running.groups,
        grouped.dropped + running.dropped,
    )
    return merged, numbers


def combined_reward(rewards: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """(N, G) weighted sum; NaN where a function with a weight other than 0 is silent."""
    used = [weights.get(name, 1.0) * r.double() for name, r in rewards.items() if weights.get(name, 1.0) != 0]
    return torch.stack(used).sum(0)


def _similar(latents: Tensor, single: Tensor, similarity: float) -> Tensor:
    """(N,) group numbers; rows that are not single keep their own."""
    numbers = torch.arange(len(latents))
    unit = torch.nn.functional.normalize(latents, dim=-1)
    leaders: list[int] = []
    for row in single.nonzero()[:, 0].tolist():
        if leaders:
            cosine = unit[leaders] @ unit[row]
            near = (cosine >= similarity).nonzero()[:, 0]
            if len(near):
                numbers[row] = leaders[int(near[0])]
                continue
        leaders.append(row)
    return numbers
