"""Live with a user for some nights: sample, hear, update, measure on texts that were never trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.groups import Groups, concatenate
from grpo.head import Head, top_overlap
from grpo.tune import TuneResult, tune_head
from grpo.users import User
from personality_common.contract import TOP_K
from personality_common.errors import DataError, ToolkitError

Learner = Callable[[Tensor, Groups, Head, Head], Head]
"""(latents, groups, head, shipped head) -> head: something other than GRPO, under the same data."""


@dataclass(frozen=True)
class NightsConfig:
    """How a user and a phone spend their days.

    Attributes:
        nights: updates.
        interactions: texts a night, none of them used before.
        group: candidates for a text.
        replay: how many nights' feedback an update reads, its own included; the feedback of earlier nights
            comes with the log-probability under the head that drew it, so ratios are right.
        seed: of the choice of texts, of sampling, and of the user's noise.
    """

    nights: int = 7
    interactions: int = 50
    group: int = 8
    replay: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("nights", "interactions", "group", "replay"):
            if getattr(self, name) < 1:
                raise ToolkitError(f"{name} must be 1 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Texts:
    """Latents (N, 512) of texts with their base embeddings (N, d)."""

    latents: Tensor
    embeddings: Tensor

    def __post_init__(self) -> None:
        if len(self.latents) != len(self.embeddings):
            raise DataError(
                "texts must have a latent and an embedding each,"
                f" got {len(self.latents)} and {len(self.embeddings)}"
            )

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: Tensor | slice) -> Texts:
        return Texts(self.latents[index], self.embeddings[index])


@dataclass(frozen=True)
class Night:
    """A night, measured after its update. Rewards here are those of the head's top 8, without noise.

    Attributes:
        night: from 0.
        reward: mean over held-out texts.
        rise, low, high: mean over held-out texts of the reward minus that of the shipped head, with its 95%
            confidence interval (normal, over texts).
        oracle_share: rise divided by the oracle's; None where there is no oracle.
        training_reward: the same as `reward`, on the night's own texts.
        overlap: mean share of the top 8 on held-out texts in common with the shipped head.
        head: after the night.
        result: of the update; None for another learner.
        texts: (interactions,) rows of the training texts that the day had.
        groups: what the user said that day, with the log-probability of each set when it was drawn.
    """

    night: int
    reward: float
    rise: float
    low: float
    high: float
    oracle_share: float | None
    training_reward: float
    overlap: float
    head: Head = field(repr=False)
    result: TuneResult | None = field(repr=False)
    texts: Tensor = field(repr=False)
    groups: Groups = field(repr=False)


def live(
    user: User,
    training: Texts,
    held_out: Texts,
    shipped: Head,
    config: GRPOConfig,
    nights: NightsConfig,
    learner: Learner | None = None,
) -> list[Night]:
    """Night after night: candidates are drawn from the current head, the user speaks, the head is updated.

    Args:
        training: texts that the user's days are drawn from, without replacement.
        held_out: texts that are measured on, and nothing else.
        config: of the update and of the policy that draws.
        learner: what updates the head; None: `tune_head` with `config`.

    Raises:
        DataError: fewer training texts than nights * interactions.
    """
    needed = nights.nights * nights.interactions
    if len(training) < needed:
        raise DataError(
            f"training texts must be {needed} or more (nights * interactions), got {len(training)}"
        )
    generator = torch.Generator().manual_seed(nights.seed)
    order = torch.randperm(len(training), generator=generator)[:needed].view(nights.nights, -1)
    policy = config.make_policy()
    head = shipped
    days: list[tuple[Texts, Groups]] = []
    records: list[Night] = []
    for night in range(nights.nights):
        texts = training[order[night]]
        logits = head.logits(texts.latents)
        actions = policy.sample(logits, nights.group, generator)
        rewards = user.rewards(texts.embeddings, actions, night, generator)
        behaviour = policy.set_log_prob(logits, actions)
        days.append((texts, Groups(actions, {"reward": rewards}, behaviour)))
        days = days[-nights.replay :]
        latents = torch.cat([day.latents for day, _ in days])
        groups = concatenate([heard for _, heard in days])
        result = None
        if learner is None:
            result = tune_head(latents, groups, head, shipped, config)
            head = result.head
        else:
            head = learner(latents, groups, head, shipped)
        records.append(
            _measure(user, texts, held_out, shipped, head, night, result, order[night], days[-1][1])
        )
    return records


def top_reward(user: User, texts: Texts, head: Head, night: int) -> Tensor:
    """(N,) what the user thinks of the head's top 8."""
    actions = head.logits(texts.latents).topk(TOP_K).indices
    return user.value(texts.embeddings, actions[:, None], night)[:, 0].double()


def _measure(
    user: User,
    texts: Texts,
    held_out: Texts,
    shipped: Head,
    head: Head,
    night: int,
    result: TuneResult | None,
    rows: Tensor,
    groups: Groups,
) -> Night:
    before = top_reward(user, held_out, shipped, night)
    after = top_reward(user, held_out, head, night)
    rise = after - before
    half = 1.96 * float(rise.std()) / math.sqrt(len(rise))
    mean = float(rise.mean())
    gain = float((user.oracle(held_out.embeddings, night).double() - before).mean())
    overlap = top_overlap(head.logits(held_out.latents), shipped.logits(held_out.latents))
    return Night(
        night=night,
        reward=float(after.mean()),
        rise=mean,
        low=mean - half,
        high=mean + half,
        oracle_share=mean / gain if gain > 0 else None,
        training_reward=float(top_reward(user, texts, head, night).mean()),
        overlap=float(overlap.mean()),
        head=head,
        result=result,
        texts=rows,
        groups=groups,
    )
