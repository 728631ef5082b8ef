"""Advantages against hand-computed values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from grpo.advantages import Advantages, combine_advantages, group_advantages, running_advantages
from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.scoring import score
from personality_common.errors import DataError, ToolkitError

NAN = float("nan")


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_values(result: Advantages, expected: Tensor) -> None:
    assert result.values.dtype == torch.float64
    torch.testing.assert_close(result.values, expected, rtol=0, atol=1e-12)


def test_group_scale_and_missing_feedback() -> None:
    # Deviation of 1, 2, 3 with n - 1 is 1; the NaN neither counts nor moves the mean.
    result = group_advantages(rows([1, 2, 3, NAN], [0, NAN, NAN, 4]))
    half = 2**-0.5
    assert_values(result, rows([-1, 0, 1, 0], [-half, 0, 0, half]))
    assert result.feedback.tolist() == [[True, True, True, False], [True, False, False, True]]
    assert (result.groups, result.dropped) == (2, 0)


def test_scale_none_and_batch() -> None:
    rewards = rows([1, 3], [10, 14])
    assert_values(group_advantages(rewards, scale="none"), rows([-1, 1], [-2, 2]))
    # Mean of 1, 3, 10, 14 is 7: squares 36 + 16 + 9 + 49 = 110, over 3.
    deviation = (110 / 3) ** 0.5
    assert_values(group_advantages(rewards, scale="batch"), rows([-1, 1], [-2, 2]) / deviation)
    # A group without spread counts: mean of 1, 3, 4, 4 is 3: squares 4 + 0 + 1 + 1 = 6, over 3.
    assert_values(group_advantages(rows([1, 3], [4, 4]), scale="batch"), rows([-1, 1], [0, 0]) / 2**0.5)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_groups_without_spread_are_dropped_and_counted(scale: str) -> None:
    dust = 0.7 + 1e-8
    rewards = rows([0.7, dust, 0.7], [5e6, 5e6 + 1, 5e6], [NAN, NAN, NAN], [1, NAN, NAN], [0, 1, 0])
    result = group_advantages(rewards, scale=scale)  # type: ignore[arg-type]
    assert bool((result.values[:4] == 0).all())
    assert result.active.any(-1).tolist() == [False, False, False, False, True]
    assert (result.groups, result.dropped) == (4, 3)


def test_floor_keeps_small_spread_small() -> None:
    result = group_advantages(rows([0.0, 2e-3]), deviation_floor=0.1)
    assert_values(result, rows([-1e-2, 1e-2]))


def test_rows_of_one_group_share_their_mean() -> None:
    result = group_advantages(rows([1], [3], [7], [7]), groups=torch.tensor([4, 4, 9, 9]), scale="none")
    assert_values(result, rows([-1], [1], [0], [0]))
    assert (result.groups, result.dropped) == (2, 1)


def test_nothing_heard_is_no_error() -> None:
    result = group_advantages(rows([NAN, NAN]), scale="batch")
    assert_values(result, rows([0, 0]))
    assert (result.groups, result.dropped) == (0, 0)


def test_infinite_rewards_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="finite or NaN"):
        group_advantages(rows([1, float("inf")]))
    with pytest.raises(DataError, match=r"got shape \(3,\)"):
        group_advantages(torch.zeros(3))


def test_running_baseline_is_the_mean_of_what_came_before() -> None:
    result = running_advantages(rows([1], [NAN], [0], [1]), scale="none")
    assert_values(result, rows([0], [0], [-1], [0.5]))
    assert result.active[:, 0].tolist() == [False, False, True, True]
    assert (result.groups, result.dropped) == (3, 1)
    # Deviation of 1, 0, 1 is sqrt(1/3).
    scaled = running_advantages(rows([1], [NAN], [0], [1]))
    assert_values(scaled, rows([0], [0], [-1], [0.5]) * 3**0.5)


def combine(rewards: dict[str, Tensor], weights: dict[str, float], aggregation: str) -> Advantages:
    return combine_advantages(
        rewards,
        weights,
        aggregation=aggregation,  # type: ignore[arg-type]
        groups=None,
        scale="group",
        deviation_floor=1e-6,
        spread_tolerance=1e-9,
    )


def test_sum_then_normalize_needs_every_function() -> None:
    rewards = {"a": rows([1, 2, 3, 9]), "b": rows([0, 0, 0, NAN]), "off": rows([NAN] * 4)}
    result = combine(rewards, {"off": 0.0, "a": 2.0}, "sum-then-normalize")
    assert_values(result, rows([-1, 0, 1, 0]))


def test_normalize_then_sum_does_not_let_a_large_scale_win() -> None:
    rewards = {"large": rows([1000, 3000]), "small": rows([0.02, 0.01]), "silent": rows([5, 5])}
    half = 2**-0.5
    result = combine(rewards, {"small": 3.0}, "normalize-then-sum")
    # -half + 3 half and half - 3 half, that is 2^.5 and -2^.5, whose deviation is 2.
    assert_values(result, rows([half, -half]))
    assert (result.groups, result.dropped) == (1, 0)


def test_normalize_then_sum_ends_with_a_deviation_of_one_over_the_batch() -> None:
    """GDPO's last step: without it, two functions that agree would push twice as hard as one."""
    generator = torch.Generator().manual_seed(0)
    rewards = {name: torch.randn(50, 8, generator=generator, dtype=torch.float64) for name in "ab"}
    rewards["b"][3] = 7.0
    result = combine(rewards, {}, "normalize-then-sum")
    assert float(result.values.std()) == pytest.approx(1, abs=1e-12)
    assert float(result.values.mean()) == pytest.approx(0, abs=1e-12)
    twice = combine({"a": rewards["a"], "b": rewards["a"]}, {}, "normalize-then-sum")
    assert_values(twice, combine({"a": rewards["a"]}, {}, "normalize-then-sum").values)
    # By hand: -1, 0, 1 and twice 1, 0, -1 are 1, 0, -1, whose deviation is 1.
    small = combine({"a": rows([1, 2, 3]), "b": rows([9, 7, 5])}, {"b": 2.0}, "normalize-then-sum")
    assert_values(small, rows([1, 0, -1]))


def test_a_loss_asks_for_its_scale() -> None:
    assert GRPOConfig(loss="dr-grpo").scale == "none"
    assert [GRPOConfig(loss=loss).scale for loss in ("grpo", "dapo", "bnpo", "cispo", "gspo")] == [
        "group"
    ] * 5
    assert GRPOConfig(loss="dr-grpo", advantage_scale="batch").scale == "batch"
    assert GRPOConfig(loss="dr-grpo", reward_aggregation="normalize-then-sum").scale == "group"
    with pytest.raises(ToolkitError, match="advantage_scale must be group with normalize-then-sum"):
        GRPOConfig(advantage_scale="none", reward_aggregation="normalize-then-sum")


def test_normalize_then_sum_counts_a_group_once() -> None:
    rewards = {"a": rows([1, 2], [3, 3], [NAN, NAN]), "b": rows([1, 1], [4, 4], [NAN, NAN])}
    result = combine(rewards, {}, "normalize-then-sum")
    assert (result.groups, result.dropped) == (2, 1)


def test_no_function_with_weight_is_refused() -> None:
    with pytest.raises(DataError, match="weight other than 0"):
        combine({"a": rows([1, 2])}, {"a": 0.0}, "sum-then-normalize")


def thumbs(*rewards: list[float]) -> Groups:
    values = rows(*rewards)
    return Groups(torch.zeros(*values.shape, 1, dtype=torch.int64), {"reward": values})


def test_single_candidates_use_the_running_baseline_beside_real_groups() -> None:
    groups = thumbs([1, NAN], [0, NAN], [2, 4], [NAN, 1])
    config = GRPOConfig(advantage_scale="none", single_candidates="baseline")
    advantages, numbers = score(torch.eye(4), groups, config)
    assert_values(advantages, rows([0, 0], [-1, 0], [-1, 1], [0, 0.5]))
    assert numbers.tolist() == [0, 1, 2, 3]
    assert (advantages.groups, advantages.dropped) == (4, 1)


def test_single_candidates_of_similar_texts_are_a_group() -> None:
    latents = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [1, 0.05]])
    groups = thumbs([1, NAN], [0, NAN], [1, NAN], [1, NAN], [3, 5])
    config = GRPOConfig(advantage_scale="none", single_candidates="similar", similarity=0.9)
    advantages, numbers = score(latents, groups, config)
    assert_values(advantages, rows([0.5, 0], [-0.5, 0], [0, 0], [0, 0], [-1, 1]))
    assert numbers.tolist() == [0, 0, 2, 2, 4]
    assert (advantages.groups, advantages.dropped) == (3, 1)
