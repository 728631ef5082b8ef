"""Evidence against generalized least squares with the covariance written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from grpo.evidence import TEXT_VARIANCE, Evidence, Heard, Whitening, bounded, evidence_of, hear
from grpo.groups import Groups

VOCABULARY, TEXTS, GROUP, WIDTH, LIKENESSES = 11, 6, 4, 3, 2
LIKENESS = torch.randn(TEXTS, LIKENESSES, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def night(seed: int, offset: float = 0.0) -> tuple[Groups, Tensor]:
    """Sets of one to three tokens; some are not heard, one text has a single candidate heard, one none."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.rand(TEXTS, GROUP, VOCABULARY, generator=generator).argsort(-1)[..., :WIDTH]
    actions[0, 1, 2:] = -1
    actions[3, 2, 1:] = -1
    rewards = torch.randn(TEXTS, GROUP, generator=generator, dtype=torch.float64) + offset
    rewards[1, 1:] = torch.nan
    rewards[2] = torch.nan
    rewards[4, 0] = torch.nan
    return Groups(actions, {"reward": rewards}), torch.randn(TEXTS, VOCABULARY, generator=generator)


def heard_of(seed: int, offset: float = 0.0) -> Heard:
    groups, logits = night(seed, offset)
    return hear(groups, logits, {})


def written_out(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows [X m y z] in loops, and the covariance of their errors."""
    groups, logits = night(seed)
    rows, texts = [], []
    for text in range(TEXTS):
        mean = float(logits[text].double().mean())
        for candidate in range(GROUP):
            reward = float(groups.rewards["reward"][text, candidate])
            tokens = [v for v in groups.actions[text, candidate].tolist() if v >= 0]
            if np.isnan(reward):
                continue
            row = np.zeros(VOCABULARY + 2 + LIKENESSES)
            row[tokens] = 1 / len(tokens)
            row[VOCABULARY] = np.mean([float(logits[text, v]) - mean for v in tokens])
            row[VOCABULARY + 1] = reward
            row[VOCABULARY + 2 :] = LIKENESS[text]
            rows.append(row)
            texts.append(text)
    same = np.equal.outer(texts, texts)
    return np.array(rows), np.eye(len(rows)) + TEXT_VARIANCE * same


def test_rows_are_sets_relevance_and_reward() -> None:
    rows, _ = written_out(0)
    np.testing.assert_allclose(heard_of(0).rows().numpy(), rows[:, :-LIKENESSES], rtol=0, atol=1e-6)


def test_products_are_those_of_generalized_least_squares_with_a_free_mean() -> None:
    rows, covariance = written_out(0)
    inverse = np.linalg.inv(covariance)
    ones = np.ones(len(rows))
    free = inverse - np.outer(inverse @ ones, inverse @ ones) / (ones @ inverse @ ones)
    evidence, expected, size = evidence_of(heard_of(0), 2, LIKENESS), rows.T @ free @ rows, VOCABULARY + 2
    np.testing.assert_allclose(evidence.products.numpy(), expected[:size, :size], rtol=0, atol=1e-6)
    np.testing.assert_allclose(evidence.of_texts.numpy(), expected[size:], rtol=0, atol=1e-6)
    assert evidence.contrasts == len(rows) - 1
    assert evidence.moments.shape == (VOCABULARY, 2)


def test_whitening_makes_the_covariance_the_identity_and_knows_no_mean() -> None:
    _, covariance = written_out(0)
    whitening, count = Whitening(heard_of(0)), len(covariance)
    matrix = whitening.apply(torch.eye(count, dtype=torch.float64)).numpy()
    # On what is left when the mean is gone, the covariance is a projection of rank n - 1.
    whitened = matrix @ covariance @ matrix.T
    np.testing.assert_allclose(whitened @ whitened, whitened, rtol=0, atol=1e-12)
    assert np.trace(whitened) == pytest.approx(count - 1)
    np.testing.assert_allclose(matrix @ np.ones(count), 0, atol=1e-12)
    back = whitening.back(torch.eye(count, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(back, matrix.T, rtol=0, atol=1e-12)


def test_a_constant_in_the_rewards_says_nothing() -> None:
    ours, theirs = (evidence_of(heard_of(0, offset), 1, LIKENESS) for offset in (0.0, 1e6))
    torch.testing.assert_close(ours.products, theirs.products, rtol=0, atol=1e-8)
    torch.testing.assert_close(ours.of_texts, theirs.of_texts, rtol=0, atol=1e-8)


def test_what_all_texts_are_alike_in_says_nothing() -> None:
    ours, theirs = (evidence_of(heard_of(0), 1, LIKENESS + shift).of_texts for shift in (0.0, 1e6))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)


def test_evidence_of_nights_adds_up() -> None:
    first, second = (evidence_of(heard_of(seed), 1, LIKENESS) for seed in (0, 1))
    both = first.plus(second)
    assert both.contrasts == first.contrasts + second.contrasts
    torch.testing.assert_close(both.products, first.products + second.products)
    torch.testing.assert_close(both.of_texts, first.of_texts + second.of_texts)


def test_a_silent_night_has_no_evidence() -> None:
    groups, logits = night(0)
    silent = Groups(groups.actions, {"reward": torch.full((TEXTS, GROUP), torch.nan)})
    evidence = evidence_of(hear(silent, logits, {}), 1, LIKENESS)
    none = Evidence.none(VOCABULARY, 1, LIKENESSES)
    assert evidence.contrasts == 0
    assert torch.equal(evidence.products, none.products)
    assert torch.equal(evidence.of_texts, none.of_texts)
    again = evidence_of(heard_of(0), 1, LIKENESS).none_like()
    assert [t.shape for t in (again.products, again.moments, again.of_texts)] == [
        t.shape for t in (none.products, none.moments, none.of_texts)
    ]


def test_rewards_of_several_functions_are_weighted_and_all_must_speak() -> None:
    groups, logits = night(0)
    reward = groups.rewards["reward"]
    other = torch.zeros_like(reward)
    other[0, 0] = torch.nan
    heard = hear(Groups(groups.actions, {"reward": reward, "other": other}), logits, {"reward": 2.0})
    assert len(heard) == len(heard_of(0)) - 1
    torch.testing.assert_close(heard.reward, 2 * heard_of(0).reward[1:])


def test_rewards_far_from_the_nights_median_are_brought_to_four_deviations_of_it() -> None:
    rewards = torch.tensor([-1.0, 100.0, 0.0, 1.0, -50.0, 2.0, -2.0], dtype=torch.float64)
    far = 4 * 1.4826 * 2  # the distances are 0, 1, 1, 2, 2, 50, 100
    expected = torch.tensor([-1.0, far, 0.0, 1.0, -far, 2.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(bounded(rewards), expected)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(bounded(rewards[order]), expected[order])
    thumbs = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    assert torch.equal(bounded(thumbs), thumbs)
    assert bounded(thumbs[:0]).shape == (0,)
    groups, logits = night(0)
    groups.rewards["reward"][0, 0] = 1e6
    assert float(hear(groups, logits, {}).reward.max()) < 100


def test_worth_and_per_token_are_products_with_the_rows() -> None:
    heard = heard_of(0)
    inputs = heard.rows()[:, :-2]
    values = torch.randn(VOCABULARY, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(heard.worth(values), inputs @ values)
    of_sets = torch.randn(len(heard), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(heard.per_token(of_sets), inputs.T @ of_sets)
