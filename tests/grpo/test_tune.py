"""The update: exact steps, limits, what it must refuse, and that it learns only from what it was told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from grpo.batch import make_batch
from grpo.config import GRPOConfig
from grpo.groups import Groups, concatenate
from grpo.head import Head, top_overlap
from grpo.plackett_luce import PlackettLuce
from grpo.policies import PADDING
from grpo.scoring import score
from grpo.tune import tune_head
from personality_common.errors import DataError, ToolkitError

VOCABULARY, DIM, K = 20, 6, 3
OPEN = GRPOConfig(k=K, learning_rate=1.0, kl_stop=None, kl_budget=None, overlap_budget=None)
NAN = float("nan")


def make_head(seed: int = 0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(
        torch.randn(VOCABULARY, DIM, generator=generator), torch.randn(VOCABULARY, generator=generator)
    )


def make_night(head: Head, seed: int = 1, texts: int = 10, group: int = 4) -> tuple[Tensor, Groups]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.nn.functional.normalize(torch.randn(texts, DIM, generator=generator), dim=-1)
    actions = PlackettLuce(K).sample(head.logits(latents), group, generator)
    # Liked: tokens with a low index.
    rewards = -actions.double().mean(-1) + 0.1 * torch.randn(texts, group, generator=generator)
    return latents, Groups(actions, {"reward": rewards})


def test_one_sgd_step_is_that_of_autograd_through_a_linear_layer() -> None:
    head = make_head()
    latents, groups = make_night(head)
    config = replace(
        OPEN, inner_iterations=1, kl_weight=0.0, entropy_weight=0.0, advantage_scale="none", loss="bnpo"
    )
    result = tune_head(latents, groups, head, head, config)

    # At the first step every ratio is 1, so the gradient is that of -mean of A log pi over the decisions.
    weight, bias = (t.double().requires_grad_() for t in head)
    z = latents.double() @ weight.T + bias
    rewards = groups.rewards["reward"]
    advantages = rewards - rewards.mean(-1, keepdim=True)
    gone = torch.zeros(10, 4, VOCABULARY, dtype=torch.bool)
    loss = torch.zeros((), dtype=torch.float64)
    for j in range(K):
        token = groups.actions[..., j]
        log_p = z[:, None].expand_as(gone).masked_fill(gone, -torch.inf).log_softmax(-1)
        loss = loss - (advantages * log_p.gather(-1, token[..., None])[..., 0]).sum() / (10 * 4 * K)
        gone = gone | torch.nn.functional.one_hot(token, VOCABULARY).bool()
    loss.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    for new, old, gradient in (
        (result.head.weight, weight, weight.grad),
        (result.head.bias, bias, bias.grad),
    ):
        assert new.dtype == torch.float32
        # float32 rounding of numbers near 1, over sums of ten.
        torch.testing.assert_close(new.double(), (old - gradient).detach(), rtol=0, atol=1e-6)
    norm = float(torch.cat([weight.grad.flatten(), bias.grad]).norm())
    assert result.steps[0].gradient_norm == pytest.approx(norm, rel=1e-5)


def test_same_inputs_same_bits_and_inputs_are_left_alone() -> None:
    head = make_head()
    latents, groups = make_night(head)
    before = [t.clone() for t in (*head, latents, groups.actions, groups.rewards["reward"])]
    first, second = (tune_head(latents, groups, head, head, OPEN) for _ in range(2))
    assert torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(first.head.bias, second.head.bias)
    assert first.steps == second.steps
    after = (*head, latents, groups.actions, groups.rewards["reward"])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not first.head.weight.requires_grad


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_rewarded_tokens_become_likelier(optimizer: str) -> None:
    head = make_head()
    latents, groups = make_night(head, texts=40)
    rate = 0.05 if optimizer == "adam" else 1.0
    config = replace(OPEN, optimizer=optimizer, learning_rate=rate)  # type: ignore[arg-type]
    result = tune_head(latents, groups, head, head, config)
    low, high = (h.logits(latents).softmax(-1)[:, :5].sum(-1).mean() for h in (head, result.head))
    assert float(high) > float(low) + 0.02
    assert result.night.changed_weights > 100
    assert result.reasons == ()


def test_gradient_clip_bounds_the_step() -> None:
    head = make_head()
    latents, groups = make_night(head)
    config = replace(OPEN, inner_iterations=1, gradient_clip=1e-3)
    result = tune_head(latents, groups, head, head, config)
    assert result.steps[0].gradient_norm > 1e-2
    # The step is lr * clip; float32 rounds head weights near 1 by up to 6e-8 each, 140 of them.
    assert result.night.head_change == pytest.approx(1e-3, rel=1e-3)


def test_missing_rewards_do_not_move_the_head() -> None:
    head = make_head()
    latents, groups = make_night(head)
    rewards = groups.rewards["reward"].clone()
    rewards[:, 3] = NAN
    fewer = Groups(groups.actions[:, :3], {"reward": rewards[:, :3]})
    with_missing = Groups(groups.actions, {"reward": rewards})
    config = replace(OPEN, loss="grpo")
    kept, padded = (tune_head(latents, g, head, head, config).head for g in (fewer, with_missing))
    # The same sums, in another order where zeros are added.
    torch.testing.assert_close(padded.weight, kept.weight, rtol=0, atol=1e-6)


def test_nothing_to_learn_leaves_the_very_same_head() -> None:
    head = make_head()
    latents, groups = make_night(head)
    flat = Groups(groups.actions, {"reward": torch.full((10, 4), 0.3)})
    result = tune_head(latents, flat, head, head, OPEN)
    assert result.head is head
    assert result.night.dropped_share == 1.0
    assert result.night.steps == 0
    assert "none of 10 groups has spread" in result.reasons[0]


def test_a_silent_no_op_is_an_error() -> None:
    head = make_head()
    latents, groups = make_night(head)
    with pytest.raises(ToolkitError, match="no weight moved in float32; raise learning_rate"):
        tune_head(latents, groups, head, head, replace(OPEN, learning_rate=1e-12))


def test_a_head_that_overflows_is_an_error() -> None:
    head = make_head()
    latents, groups = make_night(head)
    with pytest.raises(ToolkitError, match="must stay finite"):
        tune_head(latents, groups, head, head, replace(OPEN, learning_rate=3e38, kl_estimator="k3"))


def test_a_night_stops_at_its_limit_on_kl() -> None:
    head = make_head()
    latents, groups = make_night(head)
    free = tune_head(latents, groups, head, head, OPEN)
    limit = free.steps[3].kl_old * 0.999
    stopped = tune_head(latents, groups, head, head, replace(OPEN, kl_stop=limit))
    assert len(stopped.steps) == 4
    assert stopped.steps == free.steps[:4]
    assert "stopped after step 4 of 12" in stopped.reasons[0]


@pytest.mark.parametrize("budget", ["kl", "overlap"])
def test_budgets_scale_an_update_back_along_its_line(budget: str) -> None:
    head = make_head()
    latents, groups = make_night(head)
    hard = replace(OPEN, learning_rate=5.0)
    free = tune_head(latents, groups, head, head, hard)
    limits: dict[str, float] = (
        {"kl_budget": free.night.kl_shipped / 4} if budget == "kl" else {"overlap_budget": 0.95}
    )
    assert free.night.overlap_shipped < 0.95
    held = tune_head(latents, groups, head, head, replace(hard, **limits))  # type: ignore[arg-type]
    assert 0 < held.night.scale < 1
    assert "scaled back to" in held.reasons[0]
    if budget == "kl":
        assert held.night.kl_shipped <= limits["kl_budget"]
        assert held.night.kl_shipped == pytest.approx(limits["kl_budget"], rel=1e-2)
    else:
        assert held.night.overlap_shipped >= 0.95
    line = head.weight + held.night.scale * (free.head.weight - head.weight)
    torch.testing.assert_close(held.head.weight, line, rtol=0, atol=1e-5)


def test_budgets_without_room_keep_the_head() -> None:
    head, shipped = make_head(), make_head(seed=5)
    latents, groups = make_night(head)
    result = tune_head(latents, groups, head, shipped, replace(OPEN, kl_budget=1e-6))
    assert result.head is head
    assert result.night.scale == 0
    assert result.night.changed_weights == 0
    assert "scaled back to 0" in result.reasons[0]


def test_kl_to_the_shipped_head_pulls_back() -> None:
    head, shipped = make_head(), make_head(seed=5)
    latents, groups = make_night(head)
    strict = replace(OPEN, loss="grpo", kl_weight=5.0, kl_estimator="k2", learning_rate=0.1)
    free, pulled = (tune_head(latents, groups, head, shipped, c).night for c in (OPEN, strict))
    start = float(
        PlackettLuce(K).at(head.logits(latents)).kl(PlackettLuce(K).at(shipped.logits(latents))).mean()
    )
    assert pulled.kl_shipped < 0.9 * start
    assert pulled.kl_shipped < free.kl_shipped


def test_given_log_probabilities_are_what_ratios_are_taken_against() -> None:
    head = make_head()
    latents, groups = make_night(head)
    policy = PlackettLuce(K)
    start = head.logits(latents)
    known = policy.at(start).set_log_prob(groups.actions)
    given = torch.where(torch.arange(4) < 2, known - 1.5, NAN)
    advantages, numbers = score(latents, groups, OPEN)
    batch = make_batch(policy, start, start, groups.actions, given, advantages, numbers, K, OPEN.loss_options)
    old = batch.old_decisions
    assert old is not None
    torch.testing.assert_close(old[:, :2].sum(-1), given[:, :2], rtol=0, atol=1e-12)
    torch.testing.assert_close(old[:, 2:], policy.at(start).log_prob(groups.actions)[:, 2:], rtol=0, atol=0)
    # Given what the start would say anyway, the update is the same, but for rounding in float64.
    config = replace(OPEN, learning_rate=0.5)
    without, same = (
        tune_head(latents, g, head, head, config) for g in (groups, replace(groups, behaviour=known))
    )
    torch.testing.assert_close(same.head.weight, without.head.weight, rtol=0, atol=1e-6)


def test_metrics_of_the_night() -> None:
    head = make_head()
    latents, groups = make_night(head, texts=3, group=2)
    rewards = torch.tensor([[1.0, 3.0], [NAN, 2.0], [5.0, 5.0]], dtype=torch.float64)
    result = tune_head(
        latents,
        Groups(groups.actions, {"a": rewards}),
        head,
        head,
        replace(OPEN, single_candidates="similar"),
    )
    night = result.night
    assert (night.groups, night.dropped_groups, night.candidates) == (3, 2, 5)
    assert night.dropped_share == pytest.approx(2 / 3)
    assert night.reward_mean == pytest.approx(16 / 5)
    assert night.reward_std == pytest.approx((2**0.5 + 0) / 2)
    assert night.reward_means == {"a": pytest.approx(16 / 5)}
    assert (night.advantage_min, night.advantage_max) == (pytest.approx(-(2**-0.5)), pytest.approx(2**-0.5))
    assert result.steps[0].loss == pytest.approx(
        -OPEN.entropy_weight * float(entropy_of(head, latents)), abs=1e-6
    )
    assert night.kl_old == pytest.approx(result.steps[-1].kl_old)
    expected = torch.cat([(result.head.weight - head.weight).flatten(), result.head.bias - head.bias]).norm()
    assert night.head_change == pytest.approx(float(expected), rel=1e-5)


def entropy_of(head: Head, latents: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=head.logits(latents)).entropy().mean()


def test_top_overlap_counts_common_tokens() -> None:
    ours, theirs = torch.tensor([[4.0, 3, 2, 1]]), torch.tensor([[4.0, 1, 2, 3]])
    assert top_overlap(ours, theirs, k=2).tolist() == [0.5]


def test_shapes_dtypes_and_tokens_are_checked() -> None:
    head = make_head()
    latents, groups = make_night(head)
    wrong = Groups(groups.actions.clone().fill_(PADDING), groups.rewards)
    wrong.actions[0, 0, 0] = VOCABULARY
    for arguments, message in (
        ((latents[:3], groups, head), "a row per group, got 3 for 10"),
        ((latents.double(), groups, head), "latents must be float32"),
        ((latents[:, :4], groups, head), r"\(V, d\), \(V,\) and \(N, d\)"),
        ((latents, wrong, head), "token indices must be in 0..19"),
        ((latents * NAN, groups, head), "latents must be finite"),
    ):
        with pytest.raises(DataError, match=message):
            tune_head(*arguments, head, OPEN)
    with pytest.raises(DataError, match="each token once"):
        Groups(torch.zeros(1, 2, 2, dtype=torch.int64), {"r": torch.zeros(1, 2)})
    with pytest.raises(DataError, match=r"reward must be \(texts, group\) \(10, 4\)"):
        Groups(groups.actions, {"reward": torch.zeros(10, 3)})


def test_nights_of_different_sizes_are_joined_with_padding() -> None:
    head = make_head()
    _, small = make_night(head, texts=2, group=2)
    _, large = make_night(head, texts=3, group=4)
    joined = concatenate(
        [replace(small, actions=small.actions[..., :2]), replace(large, behaviour=torch.zeros(3, 4))]
    )
    assert joined.actions.shape == (5, 4, 3)
    assert bool((joined.actions[:2, 2:] == PADDING).all())
    assert bool((joined.actions[:2, :, 2] == PADDING).all())
    assert joined.rewards["reward"].isnan().sum() == 4
    assert joined.behaviour is not None
    assert joined.behaviour.isnan().sum() == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "ppo"}, "loss must be one of grpo, dr-grpo"),
        ({"delta": 1.1}, "delta must be more than 1"),
        ({"clip_low": 1.5}, "clip_low must be at most 1"),
        ({"clip_high": 0.0}, "clip_high must be positive"),
        ({"learning_rate": NAN}, "learning_rate must be positive"),
        ({"inner_iterations": 0}, "inner_iterations must be 1 or more"),
        ({"overlap_budget": 1.5}, "overlap_budget must be a share"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"reward_weights": (("a", 1.0), ("a", 2.0))}, "reward_weights must be distinct"),
    ],
)
def test_config_names_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ToolkitError, match=message):
        replace(GRPOConfig(), **change)  # type: ignore[arg-type]
