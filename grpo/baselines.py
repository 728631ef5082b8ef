"""What GRPO is compared with, under the same feedback: REINFORCE, and what apps do today."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.head import Head
from grpo.metrics import night_metrics
from grpo.scoring import combined_reward, score
from grpo.tune import TuneResult
from personality_common.errors import ToolkitError


@dataclass(frozen=True)
class BaselineConfig:
    """Attributes:
    learning_rate: of plain SGD.
    steps: over the whole night's feedback.
    """

    learning_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf") or self.steps < 1:
            raise ToolkitError(
                f"learning_rate must be positive and finite, and steps 1 or more, got {self.learning_rate}"
                f" and {self.steps}"
            )


# The best held-out reward of a profile user on a small grid: 3, 10, 30 with one step, and 3 with ten, for
# REINFORCE; 1, 10, 100, 300 with ten steps for one-hot targets, where less is better, and none rises.
REINFORCE = BaselineConfig(learning_rate=10.0, steps=1)
ONE_HOT = BaselineConfig(learning_rate=1.0, steps=10)


def reinforce(
    latents: Tensor, groups: Groups, head: Head, policy: GRPOConfig, config: BaselineConfig
) -> Head:
    """REINFORCE with a mean baseline: the gradient of -mean (r - mean r) log pi(set).

    The baseline is the mean over all candidates with feedback, whatever their text. No importance ratios:
    more than one step treats what an older head drew as if the current one had.

    Source: Williams 1992.
    """
    reward = combined_reward(groups.rewards, dict(policy.reward_weights))
    heard = ~reward.isnan()
    weights = torch.where(heard, -(reward - reward[heard].mean()), 0.0) / heard.sum().clamp(min=1)
    drawn_by = policy.make_policy()
    for _ in range(config.steps):
        gradient = drawn_by.at(head.logits(latents)).set_gradient(groups.actions, weights).float()
        head = _step(head, gradient, latents, config.learning_rate)
    return head


def one_hot(latents: Tensor, groups: Groups, head: Head, policy: GRPOConfig, config: BaselineConfig) -> Head:
    """Supervised push towards liked tokens: MSE of the logits to 1 for tokens of liked sets, to 0 for others.

    A candidate is liked if its reward is above the mean of all. This is what an app gets from an update task
    with one-hot targets: the loss is the only one that a Core ML head without a softmax can be trained with.
    """
    reward = combined_reward(groups.rewards, dict(policy.reward_weights))
    liked = reward > reward[~reward.isnan()].mean()  # False for NaN
    vocabulary = len(head.bias)
    chosen = torch.where(liked[..., None] & (groups.actions >= 0), groups.actions, vocabulary)
    targets = torch.zeros(len(groups), vocabulary + 1).scatter_(1, chosen.flatten(1), 1.0)[:, :vocabulary]
    rows = liked.any(-1)
    if not bool(rows.any()):
        return head
    for _ in range(config.steps):
        gradient = 2 * (head.logits(latents[rows]) - targets[rows]) / targets[rows].numel()
        head = _step(head, gradient, latents[rows], config.learning_rate)
    return head


def tune_one_hot(
    latents: Tensor, groups: Groups, head: Head, shipped: Head, config: GRPOConfig
) -> TuneResult:
    """A night of `one_hot` with ONE_HOT, in place of `tune_head`; budgets hold nothing of it back.

    Advantages and dropped groups among the metrics are what GRPO would have made of the same feedback.

    Args:
        config: the policy that KL and entropy are of; nothing in it changes the head but reward weights.
    """
    tuned = one_hot(latents, groups, head, config, ONE_HOT)
    reward = combined_reward(groups.rewards, dict(config.reward_weights))
    night = night_metrics(
        latents, groups, reward, score(latents, groups, config)[0], head, shipped, tuned,
        config.make_policy(), (), 1.0,
    )  # fmt: skip
    if tuned is head:
        return TuneResult(head, night, (), ("nothing to learn: no candidate is above the mean reward",))
    first = one_hot(latents, groups, head, config, replace(ONE_HOT, steps=1))
    norm = first.distance(head) / ONE_HOT.learning_rate
    return TuneResult(tuned, replace(night, steps=ONE_HOT.steps, gradient_norm=norm), (), ())


def _step(head: Head, gradient: Tensor, latents: Tensor, learning_rate: float) -> Head:
    return Head(
        head.weight - learning_rate * (gradient.T @ latents), head.bias - learning_rate * gradient.sum(0)
    )
