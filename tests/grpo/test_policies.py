"""Policies against dense autograd, torch.distributions and enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from grpo.plackett_luce import PlackettLuce
from grpo.policies import PADDING, Bernoulli
from personality_common.errors import ToolkitError


def draw_actions(texts: int, group: int, width: int, vocabulary: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(texts, group, vocabulary, generator=generator)
    return noise.argsort(-1)[..., :width]


def dense_log_prob(logits: Tensor, actions: Tensor, temperature: float) -> Tensor:
    """The definition, with nothing shared: a logsumexp over the tokens that remain, draw by draw."""
    rows = []
    for text, candidates in enumerate(actions.tolist()):
        for tokens in candidates:
            remaining = torch.ones(logits.shape[1], dtype=torch.bool)
            for token in tokens:
                if token == PADDING:
                    rows.append(torch.zeros((), dtype=logits.dtype))
                    continue
                z = logits[text] / temperature
                rows.append(z[token] - torch.logsumexp(z[remaining], 0))
                remaining = remaining.clone()
                remaining[token] = False
    return torch.stack(rows).view(actions.shape)


def logits_of(scale: float, vocabulary: int = 12, texts: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(texts, vocabulary, generator=generator, dtype=torch.float64)


# 30 leaves rests of e-20 and less; 1000 underflows every exponential but the largest.
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("width", [1, 4, 12])
@pytest.mark.parametrize("best_first", [False, True])
def test_plackett_luce_log_prob_and_gradient_are_the_dense_ones(
    scale: float, width: int, best_first: bool
) -> None:
    logits = logits_of(scale).requires_grad_()
    actions = draw_actions(3, 5, width, 12, seed=1)
    if best_first:
        actions[:, 0] = logits.detach().argsort(-1, descending=True)[:, :width]
    if width > 1:
        actions[1, 2, width // 2 :] = PADDING
        actions[2, 4] = PADDING
    weights = torch.randn(3, 5, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = dense_log_prob(logits, actions, 1.3)
    (expected * weights).sum().backward()
    policy = PlackettLuce(k=width, temperature=1.3)
    actual = policy.at(logits.detach()).log_prob(actions)
    gradient = policy.at(logits.detach()).gradient(actions, weights)
    assert actual.shape == actions.shape
    assert actual.dtype == gradient.dtype == torch.float64
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, logits.grad, rtol=1e-10, atol=1e-12)


def test_float32_logits_lose_nothing_to_cancellation() -> None:
    # Eight tokens hold all but 1e-9 of the mass: float32's total minus the drawn is dust, or negative.
    logits = torch.zeros(1, 325)
    logits[0, :8] = torch.linspace(24, 25, 8)
    actions = torch.arange(9).view(1, 1, 9)
    expected = dense_log_prob(logits.double(), actions, 1.0)
    assert float(expected[0, 0, 8]) == pytest.approx(-math.log(317), abs=1e-12)
    actual = PlackettLuce().at(logits).log_prob(actions)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_plackett_luce_probabilities_sum_to_one() -> None:
    sequences = torch.tensor(list(itertools.permutations(range(5), 3)))[None]
    log_prob = PlackettLuce(k=3, temperature=0.7).at(logits_of(2.0, 5, 1)).set_log_prob(sequences)
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_marginal_is_the_sum_over_orders(k: int) -> None:
    logits = logits_of(2.0, 6, 2).requires_grad_()
    actions = draw_actions(2, 3, k, 6, seed=3)
    orders = [
        dense_log_prob(logits, actions[..., list(p)], 1.0).sum(-1) for p in itertools.permutations(range(k))
    ]
    expected = torch.stack(orders).exp().sum(0).log()
    weights = torch.randn(2, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (expected * weights).sum().backward()
    policy = PlackettLuce(k=k)
    detached = logits.detach()
    torch.testing.assert_close(
        policy.marginal_log_prob(detached, actions), expected.detach(), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        policy.marginal_gradient(detached, actions, weights), logits.grad, rtol=0, atol=1e-12
    )
    sets = torch.tensor(list(itertools.combinations(range(6), k)))[None].expand(2, -1, -1)
    total = policy.marginal_log_prob(detached, sets).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_marginal_refuses_five_tokens_and_padding() -> None:
    policy = PlackettLuce(k=5)
    with pytest.raises(ToolkitError, match="1 to 4 tokens, got 5"):
        policy.marginal_log_prob(logits_of(1.0), draw_actions(3, 2, 5, 12, seed=0))
    with pytest.raises(ToolkitError, match="padding"):
        policy.marginal_log_prob(logits_of(1.0), torch.tensor([[[0, PADDING]]]))


# Under the last two, nearly all candidates of 2 and of 4 have too few tokens after 2 k draws.
@pytest.mark.parametrize("logits", [[0.3, -1.0, 0.8, 0.1], [0.0, 9.0, -0.5, 1.0], [2.0, -4.0, -3.0, -5.0]])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_draws_have_plackett_luce_probabilities(logits: list[float], k: int) -> None:
    """Of every sequence, and so of the first token and of any in the set."""
    row = torch.tensor([logits], dtype=torch.float64)
    policy, draws = PlackettLuce(k=k, temperature=0.8), 40_000
    actions = policy.sample(row, draws, torch.Generator().manual_seed(5))
    assert actions.shape == (1, draws, k)
    assert actions.dtype == torch.int64
    sequences = list(itertools.permutations(range(4), k))
    expected = draws * dense_log_prob(row, torch.tensor(sequences)[None], 0.8).sum(-1).exp()[0]
    counts = torch.tensor([float((actions[0] == torch.tensor(s)).all(-1).sum()) for s in sequences])
    assert float(counts.sum()) == draws
    # Sequences that are too rare for the approximation count as one.
    rare = expected < 10
    counts, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, expected))
    chi_square = float(((counts - expected) ** 2 / expected.clamp(min=10)).sum())
    degrees = int((~rare).sum())
    # Wilson and Hilferty: beyond it once in a thousand.
    most = degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3
    assert chi_square < most


def test_draws_of_many_tokens_have_the_shares_that_one_by_one_has() -> None:
    """8 of 60, against tokens taken one after the other by `torch.multinomial`, which draws without
    replacement in its own way."""
    logits = logits_of(1.5, 60, 1)
    draws = 20_000
    ours = PlackettLuce().sample(logits, draws, torch.Generator().manual_seed(6))[0]
    weights = torch.softmax(logits[0], -1).expand(draws, -1)
    theirs = torch.multinomial(weights, 8, generator=torch.Generator().manual_seed(7))
    assert ours.sort(-1).values.diff(dim=-1).amin() > 0
    for of in (slice(0, 1), slice(7, 8), slice(0, 8)):
        a, b = (torch.bincount(x[:, of].flatten(), minlength=60) / draws for x in (ours, theirs))
        error = ((a + b).clamp(max=1) / draws).sqrt().clamp(min=1 / draws)
        assert float(((a - b).abs() / error).max()) < 4.5


def test_tokens_without_a_mass_come_last() -> None:
    """All exponentials but one underflow."""
    logits = 1000.0 * torch.stack([torch.arange(12.0), torch.arange(12.0).flip(0)])
    actions = PlackettLuce().sample(logits, 300, torch.Generator().manual_seed(8))
    expected = logits.argsort(-1, descending=True)[:, None, :8]
    assert torch.equal(actions, expected.expand_as(actions))


def test_samples_repeat_with_the_seed_and_refuse_more_than_the_vocabulary() -> None:
    first, again, other = (
        PlackettLuce(k=3).sample(logits_of(1.0), 4, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(ToolkitError, match="k 13, vocabulary 12"):
        PlackettLuce(k=13).sample(logits_of(1.0), 4, torch.Generator())


def test_bernoulli_is_torch_distributions() -> None:
    logits = logits_of(2.0).requires_grad_()
    actions = draw_actions(3, 5, 4, 12, seed=6)
    actions[0, 1, 2:] = PADDING
    actions[2, 3] = PADDING
    on = torch.zeros(3, 5, 12, dtype=torch.float64)
    for text, candidate, token in itertools.product(range(3), range(5), range(12)):
        on[text, candidate, token] = float(token in actions[text, candidate].tolist())
    expected = torch.distributions.Bernoulli(logits=logits[:, None] / 0.6).log_prob(on)
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(3, 5, 12, generator=generator, dtype=torch.float64)
    set_weights = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    (dense,) = torch.autograd.grad((expected * weights).sum(), logits, retain_graph=True)
    (of_sets,) = torch.autograd.grad((expected.sum(-1) * set_weights).sum(), logits)
    policy, detached = Bernoulli(temperature=0.6), logits.detach()
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(policy.at(detached).log_prob(actions), expected.detach(), **close)
    torch.testing.assert_close(policy.at(detached).set_log_prob(actions), expected.detach().sum(-1), **close)
    torch.testing.assert_close(policy.at(detached).gradient(actions, weights), dense, **close)
    torch.testing.assert_close(policy.at(detached).set_gradient(actions, set_weights), of_sets, **close)


def test_bernoulli_samples_switch_by_switch() -> None:
    logits = logits_of(1.0, 6, 2)
    actions = Bernoulli(temperature=2.0).sample(logits, 20_000, torch.Generator().manual_seed(8))
    share = torch.stack([(actions == token).any(-1).double().mean(-1) for token in range(6)], -1)
    # Five standard errors of a share of 20,000.
    torch.testing.assert_close(share, torch.sigmoid(logits / 2), rtol=0, atol=5 * 0.5 / 20_000**0.5)
    empty = Bernoulli().sample(torch.full((1, 4), -50.0), 3, torch.Generator().manual_seed(0))
    assert empty.tolist() == [[[PADDING]] * 3]


@pytest.mark.parametrize("policy", [PlackettLuce(temperature=1.7), Bernoulli(temperature=1.7)])
def test_entropy_and_kl_are_those_of_torch_distributions(policy: PlackettLuce | Bernoulli) -> None:
    logits, other = logits_of(2.0).requires_grad_(), logits_of(2.0, seed=9)
    distributions = torch.distributions

    def make(z: Tensor) -> torch.distributions.Distribution:
        if isinstance(policy, PlackettLuce):
            return distributions.Categorical(logits=z / 1.7)
        return distributions.Bernoulli(logits=z / 1.7)

    entropy = make(logits).entropy()
    kl = distributions.kl_divergence(make(logits), make(other))
    if isinstance(policy, Bernoulli):
        entropy, kl = entropy.mean(-1), kl.mean(-1)
    weights = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    (of_entropy,) = torch.autograd.grad((entropy * weights).sum(), logits, retain_graph=True)
    (of_kl,) = torch.autograd.grad((kl * weights).sum(), logits)
    detached = logits.detach()
    elsewhere: Any = policy.at(other)
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(policy.at(detached).entropy(), entropy.detach(), **close)
    torch.testing.assert_close(policy.at(detached).kl(elsewhere), kl.detach(), **close)
    torch.testing.assert_close(policy.at(detached).entropy_gradient(weights), of_entropy, **close)
    torch.testing.assert_close(policy.at(detached).kl_gradient(elsewhere, weights), of_kl, **close)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperature_is_positive_and_finite(temperature: float) -> None:
    for policy in (PlackettLuce, Bernoulli):
        with pytest.raises(ToolkitError, match="temperature must be positive and finite"):
            policy(temperature=temperature)
