"""TRL's losses, written again from the papers, on one small batch, beside ours; and where ours differ.

Formulas are in float64 by autograd, and what they gave once is written down, so that neither can drift alone.
Names are TRL's: a completion is a candidate, its tokens are decisions.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from grpo.advantages import AdvantageScale, combine_advantages, group_advantages
from grpo.batch import make_batch
from grpo.config import GRPOConfig
from grpo.losses import loss_and_gradient
from grpo.plackett_luce import PlackettLuce
from grpo.surrogates import Loss, LossOptions

PROMPTS, GENERATIONS, LENGTH, VOCABULARY = 3, 4, 3, 9
EPSILON, EPSILON_HIGH, BETA = 0.2, 0.28, 0.04
LOSSES: tuple[Loss, ...] = ("grpo", "dr-grpo", "dapo", "bnpo", "cispo", "gspo")


def wave(count: int, *shape: int) -> Tensor:
    """Numbers without a pattern that no generator has to give again."""
    return torch.sin(1.7 * torch.arange(1, 1 + PROMPTS * count, dtype=torch.float64) ** 1.5).view(shape)


LOGITS = 2 * wave(VOCABULARY, PROMPTS, VOCABULARY)
OLD = LOGITS + 0.6 * wave(VOCABULARY, PROMPTS, VOCABULARY).flip(1)
REFERENCE = LOGITS - 0.5 * wave(VOCABULARY, PROMPTS, VOCABULARY).roll(2, 1)
COMPLETIONS = wave(GENERATIONS * VOCABULARY, PROMPTS, GENERATIONS, VOCABULARY).argsort(-1)[..., :LENGTH]
COMPLETIONS[0, 1, 2] = COMPLETIONS[2, 3, 1:] = -1  # shorter ones
MASK = COMPLETIONS >= 0
REWARDS = wave(GENERATIONS, PROMPTS, GENERATIONS)
FLAT = torch.where(torch.arange(PROMPTS)[:, None] == 1, 0.5, REWARDS)


def per_token_logps(logits: Tensor) -> Tensor:
    """(prompts, generations, length): each token among those that are left."""
    left = logits[:, None].expand(PROMPTS, GENERATIONS, VOCABULARY)
    found = []
    for t in range(LENGTH):
        token = COMPLETIONS[..., t].clamp(min=0)[..., None]
        found.append(left.log_softmax(-1).gather(-1, token)[..., 0])
        left = left.scatter(-1, token, -torch.inf)
    return torch.where(MASK, torch.stack(found, -1), 0.0)


def advantages(rewards: Tensor, scale: AdvantageScale) -> Tensor:
    centred = rewards - rewards.mean(1, keepdim=True)
    if scale == "none":
        return centred
    deviation = rewards.std(1, keepdim=True) if scale == "group" else rewards.std()
    return torch.where(centred.abs() > 1e-12, centred / deviation, 0.0)


def trl_loss(loss: Loss, logits: Tensor, advantage: Tensor) -> Tensor:
    """The trainer's loss on one batch, of completions that all have a reward."""
    logps, old, ref = per_token_logps(logits), per_token_logps(OLD), per_token_logps(REFERENCE)
    tokens = MASK.sum(-1)
    ratio, a = (logps - old).exp(), advantage[..., None]
    if loss == "gspo":  # one ratio for all tokens of a completion
        ratio = ((logps - old).sum(-1) / tokens).exp()[..., None]
    if loss == "cispo":
        per_token = -ratio.detach().clamp(max=1 + EPSILON_HIGH) * a * logps
    else:
        per_token = -torch.minimum(ratio * a, ratio.clamp(1 - EPSILON, 1 + EPSILON_HIGH) * a)
    per_token = per_token + BETA * ((ref - logps).exp() - (ref - logps) - 1)
    per_token = torch.where(MASK, per_token, 0.0)
    if loss in ("grpo", "gspo"):  # mean over a completion, then over completions
        return (per_token.sum(-1) / tokens).mean()
    if loss == "dr-grpo":
        return per_token.sum() / (PROMPTS * GENERATIONS * LENGTH)
    return per_token.sum() / MASK.sum()


class Found(NamedTuple):
    value: float
    gradient: Tensor


def theirs(loss: Loss, rewards: Tensor) -> Found:
    logits = LOGITS.clone().requires_grad_()
    value = trl_loss(loss, logits, advantages(rewards, GRPOConfig(loss=loss).scale))
    return Found(value.item(), torch.autograd.grad(value, logits)[0])


def ours(loss: Loss, rewards: Tensor, kl_weight: float = BETA) -> Found:
    options = LossOptions(loss, "decision", EPSILON, EPSILON_HIGH, None, kl_weight, "k3", 0.0)
    policy, numbers = PlackettLuce(LENGTH), torch.arange(PROMPTS)
    scored = group_advantages(rewards, scale=GRPOConfig(loss=loss).scale)
    batch = make_batch(policy, OLD, REFERENCE, COMPLETIONS, None, scored, numbers, LENGTH, options)
    result = loss_and_gradient(policy.at(LOGITS), batch, options)
    return Found(float(result.measure().value[0]), result.gradient)


def assert_same(one: Found, other: Found) -> None:
    assert one.value == pytest.approx(other.value, abs=1e-13)
    torch.testing.assert_close(one.gradient, other.gradient, rtol=0, atol=1e-13)


# Value, norm of the gradient, and the gradient at the first logit.
WRITTEN: dict[Loss, tuple[float, float, float]] = {
    "grpo": (0.124221911432, 0.205478886118, -0.000428274031626),
    "dr-grpo": (0.0659546565619, 0.106063274814, 0.00630631880962),
    "dapo": (0.153916507961, 0.21521608539, 0.00751230913501),
    "bnpo": (0.153916507961, 0.21521608539, 0.00751230913501),
    "cispo": (0.180767229508, 0.151881060016, 0.0126449950707),
    "gspo": (0.0776634895947, 0.168523878649, 0.000831799364263),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_where_every_group_has_spread_all_agree(loss: Loss) -> None:
    found = theirs(loss, REWARDS)
    assert_same(ours(loss, REWARDS), found)
    numbers = (found.value, float(found.gradient.norm()), float(found.gradient[0, 0]))
    assert numbers == pytest.approx(WRITTEN[loss], abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_groups_without_spread_are_counted_but_by_dapo(loss: Loss) -> None:
    """TRL has no dynamic sampling: its dapo counts them, which is our bnpo. KL is of all of them here too."""
    if loss != "dapo":
        assert_same(ours(loss, FLAT), theirs(loss, FLAT))
        return
    assert_same(ours("bnpo", FLAT), theirs("dapo", FLAT))
    # DAPO's batch has groups with spread only: of 33 tokens, the 21 of the first and the last.
    assert (int(MASK.sum()), int(MASK[[0, 2]].sum())) == (33, 21)
    counted, dropped = ours("bnpo", FLAT, 0.0), ours("dapo", FLAT, 0.0)
    assert_same(dropped, Found(counted.value * 33 / 21, counted.gradient * 33 / 21))
    pulls = [ours(name, FLAT).gradient - ours(name, FLAT, 0.0).gradient for name in ("bnpo", "dapo")]
    torch.testing.assert_close(*pulls, rtol=0, atol=1e-13)
    assert bool((pulls[1][1] != 0).any())


def test_batch_scale_is_the_deviation_of_all_rewards() -> None:
    ours = group_advantages(FLAT, scale="batch").values
    torch.testing.assert_close(ours, advantages(FLAT, "batch"), rtol=0, atol=1e-13)


def test_normalize_then_sum_is_gdpo() -> None:
    """GDPO, equations 4 to 6: normalize each reward within its group, sum, normalize over the batch."""
    second = 40 + 10 * wave(GENERATIONS, PROMPTS, GENERATIONS).roll(1, 1)
    summed = advantages(REWARDS, "group") + 0.5 * advantages(second, "group")
    gdpo = (summed - summed.mean()) / summed.std()
    found = combine_advantages(
        {"a": REWARDS, "b": second}, {"b": 0.5}, aggregation="normalize-then-sum", groups=None, scale="group",
        deviation_floor=1e-3, spread_tolerance=1e-6,
    )  # fmt: skip
    torch.testing.assert_close(found.values, gdpo, rtol=0, atol=1e-13)


def test_silence_is_kept_out_where_trl_reads_it_as_zero() -> None:
    silent = REWARDS.clone()
    silent[0, 2] = torch.nan
    found = group_advantages(silent).values
    assert found[0, 2] == 0
    heard = torch.tensor([0, 1, 3])
    three = REWARDS[0, heard]
    torch.testing.assert_close(found[0, heard], (three - three.mean()) / three.std(), rtol=0, atol=1e-13)
    as_zero = advantages(silent.nan_to_num(0.0), "group")
    assert float((as_zero[0] - found[0]).abs().max()) > 0.1
