"""Live with a user for some nights: sample, hear, update, measure on texts that were never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from device_sim.users.users import User
from grpo.config import GRPOConfig
from grpo.exact import one_thread
from grpo.groups import Groups, concatenate
from grpo.head import Head, top_overlap, top_tokens
from grpo.learners import Learner as GatedLearner
from grpo.tune import TuneResult, tune_head
from personality_common.errors import DataError, ToolkitError
from personality_common.evidence.intervals import mean_interval

LEAST_ORACLE: Final = 0.05
"""Mean reward: an oracle that gains less has nothing that a share could be of."""

Learner = Callable[[Tensor, Groups, Head, Head], Head]
"""(latents, groups, head, shipped head) -> head: something other than GRPO, under the same data."""


def remembering(learner: GatedLearner) -> Learner:
    """A learner of one life, with what it keeps from night to night."""
    kept = learner.start()

    def night(latents: Tensor, groups: Groups, head: Head, shipped: Head) -> Head:
        nonlocal kept
        kept, _ = learner.night(latents, groups, kept)
        return kept.head

    return night


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
        oracle_share: rise divided by the oracle's; see `oracle_share`.
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


class Life:
    """A user and a phone, day by day: candidates are drawn from the current head, and the user speaks.

    Whoever holds it updates `head` by night. A day draws from the phone's own generator, so a phone lives
    the same life whatever other phones there are.

    Attributes:
        head: of the phone; the day's candidates are drawn from it.
        logits: (interactions, V) of the last day, that its candidates were drawn from.
        shipped_logits: of the head that shipped, on the texts that `day` gave; None if they are not at hand.
    """

    def __init__(
        self,
        user: User,
        training: Texts,
        shipped: Head,
        config: GRPOConfig,
        nights: NightsConfig,
        *,
        with_behaviour: bool = True,
    ) -> None:
        """
        Args:
            training: texts that the days are drawn from, without replacement.
            config: of the policy that draws.
            with_behaviour: note the log-probability of what was drawn. An update from the same head that drew
                it finds the same itself, so only `nights.replay` of more than 1 needs it.

        Raises:
            DataError: fewer training texts than nights * interactions.
        """
        needed = nights.nights * nights.interactions
        if len(training) < needed:
            raise DataError(
                f"training texts must be {needed} or more (nights * interactions), got {len(training)}"
            )
        self.user, self.training, self.head, self.nights = user, training, shipped, nights
        self._shipped = shipped
        self._with_behaviour = with_behaviour or nights.replay > 1
        self._policy = config.make_policy()
        self._generator = torch.Generator().manual_seed(nights.seed)
        order = torch.randperm(len(training), generator=self._generator)[:needed]
        self.order = order.view(nights.nights, -1)
        self.logits = torch.empty(0)
        self.shipped_logits: Tensor | None = None
        self._days: list[tuple[Texts, Groups]] = []

    def day(self, night: int) -> tuple[Tensor, Groups]:
        """Latents (N, d) and feedback for the night's update: of this day, and of those that are replayed."""
        texts = self.training[self.order[night]]
        with one_thread():
            products = self.head.products(texts.latents)
            logits = products + self.head.bias
            actions = self._policy.sample(logits, self.nights.group, self._generator)
            rewards = self.user.rewards(texts.embeddings, actions, night, self._generator)
            behaviour = self._policy.at(logits).set_log_prob(actions) if self._with_behaviour else None
        self.logits = logits
        self._days.append((texts, Groups(actions, {"reward": rewards}, behaviour)))
        self._days = self._days[-self.nights.replay :]
        # A head of which the bias alone has moved has its products in common with the shipped one.
        common = self.head.weight is self._shipped.weight and self.nights.replay == 1
        self.shipped_logits = products + self._shipped.bias if common else None
        if len(self._days) == 1:
            return texts.latents, self.today
        return torch.cat([d.latents for d, _ in self._days]), concatenate([g for _, g in self._days])

    @property
    def today(self) -> Groups:
        """What the user said on the last day."""
        return self._days[-1][1]


def live(
    user: User,
    training: Texts,
    held_out: Texts,
    shipped: Head,
    config: GRPOConfig,
    nights: NightsConfig,
    learner: Learner | None = None,
) -> list[Night]:
    """A life, with a measurement after every night's update.

    Args:
        training: texts that the user's days are drawn from, without replacement.
        held_out: texts that are measured on, and nothing else.
        config: of the update and of the policy that draws.
        learner: what updates the head; None: `tune_head` with `config`.

    Raises:
        DataError: fewer training texts than nights * interactions.
    """
    life = Life(user, training, shipped, config, nights)
    records: list[Night] = []
    for night in range(nights.nights):
        latents, groups = life.day(night)
        result = None
        if learner is None:
            result = tune_head(latents, groups, life.head, shipped, config)
            life.head = result.head
        else:
            life.head = learner(latents, groups, life.head, shipped)
        rows = life.order[night]
        records.append(
            _measure(user, training[rows], held_out, shipped, life.head, night, result, rows, life.today)
        )
    return records


def oracle_share(gain: float, most: float) -> float | None:
    """A mean gain as a share of the most a head could gain; None without an oracle or below LEAST_ORACLE.

    Of several lives it takes the means of both: where there is next to nothing to gain, a ratio says nothing,
    and a mean of ratios is that ratio.
    """
    return gain / most if most >= LEAST_ORACLE else None


def top_reward(user: User, texts: Texts, head: Head, night: int) -> Tensor:
    """(N,) what the user thinks of the head's top 8."""
    actions = top_tokens(head.logits(texts.latents))
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
    rise = mean_interval(after - before)
    gain = float((user.oracle(held_out.embeddings, night).double() - before).mean())
    overlap = top_overlap(head.logits(held_out.latents), shipped.logits(held_out.latents))
    return Night(
        night=night,
        reward=float(after.mean()),
        rise=rise.mean,
        low=rise.low,
        high=rise.high,
        oracle_share=oracle_share(rise.mean, gain),
        training_reward=float(top_reward(user, texts, head, night).mean()),
        overlap=float(overlap.mean()),
        head=head,
        result=result,
        texts=rows,
        groups=groups,
    )
