"""Advantages of a night's groups, and what stands in for the group of a single candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    return score_together(latents[None], [groups], config)


def score_together(
    latents: Tensor, groups: Sequence[Groups], config: GRPOConfig
) -> tuple[Advantages, Tensor]:
    """`score` of several devices, one below the other: each has the bits that it has alone.

    Args:
        latents: (D, N, d).
        groups: of each device, all of one shape.

    Returns:
        Advantages (D * N, G), their counts summed over the devices, and (D * N,) numbers of groups, which no
        two devices share.
    """
    texts = latents.shape[1]
    similar = config.single_candidates == "similar"
    # Similar texts, and one deviation for all of a night, are matters of a single device.
    of_a_night = config.scale == "batch" or config.reward_aggregation == "normalize-then-sum"
    apart = similar or of_a_night or len({frozenset(g.rewards) for g in groups}) > 1
    if apart and len(groups) > 1:
        scored = [score(z, one, config) for z, one in zip(latents, groups, strict=True)]
        numbers = torch.cat([own + i * texts for i, (_, own) in enumerate(scored)])
        return _stacked([advantages for advantages, _ in scored]), numbers
    rewards = {name: torch.cat([one.rewards[name].double() for one in groups]) for name in groups[0].rewards}
    weights = dict(config.reward_weights)
    heard = torch.stack([~r.isnan() for name, r in rewards.items() if weights.get(name, 1.0) != 0])
    single = heard.any(0).sum(-1) == 1
    numbers = torch.arange(len(groups) * texts)
    if similar:
        numbers = _similar(latents[0], single, config.similarity)
    if similar or not bool(single.any()):
        return _combined(rewards, numbers, config), numbers
    blank = single[:, None].expand(heard.shape[1:])
    grouped = _combined({n: torch.where(blank, torch.nan, r) for n, r in rewards.items()}, numbers, config)
    thumbs = torch.where(blank, combined_reward(rewards, weights), torch.nan)
    running = _stacked(
        [
            running_advantages(own, scale=config.scale, deviation_floor=config.deviation_floor)
            for own in thumbs.view(-1, texts, thumbs.shape[1])
        ]
    )
    merged = Advantages(
        torch.where(blank, running.values, grouped.values),
        grouped.feedback | running.feedback,
        grouped.active | running.active,
        grouped.groups + running.groups,
        grouped.dropped + running.dropped,
    )
    return merged, numbers


def _combined(rewards: Mapping[str, Tensor], numbers: Tensor, config: GRPOConfig) -> Advantages:
    return combine_advantages(
        rewards,
        dict(config.reward_weights),
        aggregation=config.reward_aggregation,
        groups=numbers,
        scale=config.scale,
        deviation_floor=config.deviation_floor,
        spread_tolerance=config.spread_tolerance,
    )


def _stacked(parts: Sequence[Advantages]) -> Advantages:
    return Advantages(
        torch.cat([a.values for a in parts]),
        torch.cat([a.feedback for a in parts]),
        torch.cat([a.active for a in parts]),
        sum(a.groups for a in parts),
        sum(a.dropped for a in parts),
    )


def combined_reward(rewards: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """(N, G) weighted sum; NaN where a function with a weight other than 0 is silent."""
    used = [weights.get(name, 1.0) * r.double() for name, r in rewards.items() if weights.get(name, 1.0) != 0]
    return used[0] if len(used) == 1 else torch.stack(used).sum(0)


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
