"""The posterior against densities of all rewards, covariance written out, and penalized least squares.

Its factorization is in float32: 1e-6 of the largest number is what that leaves.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import null_space
from scipy.stats import multivariate_normal
from torch import Tensor

from grpo.evidence import TEXT_VARIANCE, Evidence, Heard, evidence_of
from grpo.posterior import (
    LIKENESS_WIDTH,
    TOPIC_WIDTH,
    WIDTHS,
    at_most,
    at_width,
    conclude,
    learnable,
    likeliest,
    moments_of,
    normal_equations,
    relevance,
)

VOCABULARY, NIGHTS, TEXTS, GROUP, WIDTH, LIKENESSES = 7, 2, 5, 4, 2, 3
Array = NDArray[np.float64]


def heard_of(seed: int, taste: float = 1.0, texts: int = TEXTS) -> Heard:
    generator = torch.Generator().manual_seed(seed)
    count = texts * GROUP
    tokens = torch.rand(count, VOCABULARY, generator=generator).argsort(-1)[:, :WIDTH]
    m = torch.randn(count, generator=generator, dtype=torch.float64)
    liked = torch.linspace(-taste, taste, VOCABULARY, dtype=torch.float64)
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    text = torch.arange(count) // GROUP
    reward = liked[tokens].mean(-1) + 0.5 * m + 0.4 * noise + text * 0.3 + seed
    return Heard(tokens, text, m, reward, VOCABULARY)


def likeness_of(night: int, texts: int = TEXTS) -> Tensor:
    """Large, so that a width of .05 counts."""
    draw = torch.Generator().manual_seed(70 + night)
    return 5 * torch.randn(texts, LIKENESSES, generator=draw, dtype=torch.float64)


def evidence_of_night(heard: Heard, night: int = 0) -> Evidence:
    return evidence_of(heard, 1, likeness_of(night, int(heard.text[-1]) + 1))


def total(nights: list[Heard]) -> Evidence:
    evidence = Evidence.none(VOCABULARY, 1, LIKENESSES)
    for night, heard in enumerate(nights):
        evidence = evidence.plus(evidence_of_night(heard, night))
    return evidence


NO_LIKENESS = torch.zeros(60, LIKENESSES, dtype=torch.float64)
NIGHTS_HEARD = [heard_of(seed) for seed in range(NIGHTS)]
EVIDENCE = total(NIGHTS_HEARD)


def written_out() -> tuple[Array, Array, Array, Array, Array]:
    """X, m, y, the nights' indicators and the covariance of the errors, of all nights.

    A text's own part, and what its likes are liked for, are errors that it has in common with itself, and
    with all texts.
    """
    rows = np.concatenate([heard.rows().numpy() for heard in NIGHTS_HEARD])
    count = TEXTS * GROUP
    night = np.repeat(np.eye(NIGHTS), count, 0)
    text = np.repeat(np.arange(NIGHTS * TEXTS), GROUP)
    z = np.concatenate([likeness_of(night).numpy() for night in range(NIGHTS)])[text]
    covariance = np.eye(len(rows)) + TEXT_VARIANCE * np.equal.outer(text, text) + LIKENESS_WIDTH * z @ z.T
    return rows[:, :-2], rows[:, -2], rows[:, -1], night, covariance


@pytest.mark.parametrize("width", [0.05, 0.3, 3.0, 50.0])
@pytest.mark.parametrize("noise", [0.1, 0.4, 2.0])
def test_likelihood_is_that_of_all_contrasts_of_the_rewards(width: float, noise: float) -> None:
    inputs, m, y, night, covariance = written_out()
    # What is left of the rewards when alpha and the nights' means are free.
    basis = null_space(np.column_stack([night, m]).T)

    def density(rho: float) -> float:
        of_all = noise * (covariance + rho * inputs @ inputs.T)
        return float(multivariate_normal(cov=basis.T @ of_all @ basis).logpdf(basis.T @ y))

    normal = normal_equations(EVIDENCE)
    trial, none = at_width(normal, width), at_width(normal, 0.0)

    def penalty(noise_left: float, log_likelihood: float) -> float:
        """-1/2 log |I + rho A|, from log ML."""
        n = normal.contrasts
        return log_likelihood + n / 2 * math.log(noise_left / n) + normal.cost

    ours = penalty(trial.noise, trial.log_likelihood) - (trial.noise - none.noise) / (2 * noise)
    assert penalty(none.noise, none.log_likelihood) == pytest.approx(0, abs=1e-12)
    assert ours == pytest.approx(density(width) - density(0.0), abs=1e-5)


def test_what_texts_are_liked_for_costs_the_likelihood_its_determinant() -> None:
    """Against the density of the rewards with and without it, of nights in which nothing else counts."""
    inputs, m, y, night, covariance = written_out()
    basis = null_space(night.T)
    z = np.concatenate([likeness_of(n).numpy() for n in range(NIGHTS)]).repeat(GROUP, 0)
    without = covariance - LIKENESS_WIDTH * z @ z.T
    noise = 0.7

    def density(of_all: Array) -> float:
        return float(multivariate_normal(cov=noise * basis.T @ of_all @ basis).logpdf(basis.T @ y))

    flat = [Heard(h.tokens, h.text, 0 * h.relevance, h.reward, VOCABULARY) for h in NIGHTS_HEARD]
    normal = normal_equations(total(flat))
    bare = normal_equations(total(flat)._replace(of_texts=torch.zeros(0, VOCABULARY + 2).double()))
    ours = -normal.cost - (normal.square - bare.square) / (2 * noise)
    assert (bare.cost, inputs.shape[1], len(m)) == (0.0, VOCABULARY, len(y))
    assert ours == pytest.approx(density(covariance) - density(without), abs=1e-8)


def test_evidence_is_that_of_generalized_least_squares_with_what_texts_are_liked_for() -> None:
    inputs, m, y, night, covariance = written_out()
    rows, free = np.column_stack([inputs, y]), np.column_stack([night, m])
    inverse = np.linalg.inv(covariance)
    weight = inverse - inverse @ free @ np.linalg.solve(free.T @ inverse @ free, free.T @ inverse)
    expected = rows.T @ weight @ rows
    normal = normal_equations(EVIDENCE)
    whole = normal.products - normal.taken.T @ normal.taken
    np.testing.assert_allclose(whole, expected[:-1, :-1], rtol=0, atol=1e-10)
    np.testing.assert_allclose(normal.single, expected[:-1, :-1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(normal.moment, expected[:-1, -1], rtol=0, atol=1e-10)
    assert normal.square == pytest.approx(expected[-1, -1], abs=1e-10)
    taste = np.linspace(-1, 2, VOCABULARY)
    assert normal.product(torch.from_numpy(taste)) == pytest.approx(taste @ expected[:-1, :-1] @ taste)


def test_a_text_that_is_liked_anyway_says_nothing_of_its_sets() -> None:
    """Texts of one kind are liked, and always shown with one token; without their likeness the token is."""
    heard = heard_of(5, taste=0.0, texts=60)
    liked = (heard.text % 2).double()
    tokens = heard.tokens.clone()
    tokens[heard.text % 2 == 1, 0] = 0
    heard = Heard(
        tokens, heard.text, 0 * heard.relevance, heard.reward - heard.text * 0.3 + 3 * liked, VOCABULARY
    )
    kinds = torch.where(torch.arange(60) % 2 == 1, 1.0, -1.0).double()[:, None]

    def worth(likeness: Tensor) -> float:
        normal = normal_equations(evidence_of(heard, 1, likeness))
        return float(at_width(normal, 3.0).taste[0])

    blind, seeing = worth(0 * kinds), worth(10 * kinds)
    assert blind > 1
    assert abs(seeing) < 0.3 * blind


@pytest.mark.parametrize("width", [0.3, 3.0])
def test_taste_and_relevance_minimize_the_penalized_sum_of_squares(width: float) -> None:
    """With a parameter for each text, tied to its night's mean and its likeness, for the covariance."""
    inputs, m, y, night, _ = written_out()
    rows, texts = len(y), NIGHTS * TEXTS
    of_text = np.repeat(np.eye(texts), GROUP, 0)
    of_night = np.repeat(np.eye(NIGHTS), TEXTS, 0)
    z = np.concatenate([likeness_of(number).numpy() for number in range(NIGHTS)])
    nothing, others = np.zeros, texts + NIGHTS + LIKENESSES
    system = np.block(
        [
            [inputs, m[:, None], of_text, nothing((rows, NIGHTS + LIKENESSES))],
            [np.eye(VOCABULARY) / math.sqrt(width), nothing((VOCABULARY, 1 + others))],
            [nothing((texts, VOCABULARY + 1)), np.eye(texts), -of_night, -z],
            [
                nothing((LIKENESSES, VOCABULARY + 1 + texts + NIGHTS)),
                np.eye(LIKENESSES) / LIKENESS_WIDTH**0.5,
            ],
        ]
    )
    assert night.shape == (rows, NIGHTS)
    assert TEXT_VARIANCE == 1
    known = np.concatenate([y, nothing(VOCABULARY + texts + LIKENESSES)])
    solution = np.linalg.lstsq(system, known, rcond=None)[0]
    normal = normal_equations(EVIDENCE)
    trial = at_width(normal, width)
    np.testing.assert_allclose(trial.taste.numpy(), solution[:VOCABULARY], rtol=0, atol=1e-6)
    assert relevance(normal, trial.taste) == pytest.approx(float(solution[VOCABULARY]), abs=1e-6)


def test_the_likeliest_width_comes_first_and_noise_has_none() -> None:
    trials = likeliest(normal_equations(EVIDENCE))
    assert [t.log_likelihood for t in trials] == sorted((t.log_likelihood for t in trials), reverse=True)
    posterior = conclude(normal_equations(EVIDENCE), trials, EVIDENCE.moments)
    assert posterior.width > 0
    assert posterior.gain == pytest.approx(
        trials[0].log_likelihood - at_width(normal_equations(EVIDENCE), 0.0).log_likelihood
    )
    quiet = [heard_of(seed, taste=0.0, texts=40) for seed in range(4)]
    without = normal_equations(total(quiet))
    found = conclude(without, likeliest(without), EVIDENCE.moments)
    assert (found.width, found.gain, found.topics) == (0.0, 0.0, None)
    assert not bool(found.taste.any())


@pytest.mark.parametrize("taste", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("nights", [1, 4])
@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_no_likelihood_is_above_the_bound(taste: float, nights: int, unit: float) -> None:
    heard = [heard_of(seed, taste) for seed in range(nights)]
    heard = [Heard(h.tokens, h.text, h.relevance, unit * h.reward, VOCABULARY) for h in heard]
    normal = normal_equations(total(heard))
    for widths in (WIDTHS, WIDTHS[:1], (50.0,), ()):
        likelihood = likeliest(normal, widths)[0].log_likelihood
        assert at_most(normal, widths) >= likelihood - 1e-3
    assert at_most(normal, ()) == pytest.approx(at_width(normal, 0.0).log_likelihood)


@pytest.mark.parametrize("liked", [1.0, 0.0])
def test_the_bound_is_the_likelihood_where_sets_differ_in_one_way(liked: float) -> None:
    """Two tokens, one by one: rewards tell of nothing but which it is, or of the text alone."""
    count = 20
    tokens, text = (torch.arange(count) % 2)[:, None], torch.arange(count) // 2
    reward = liked * (tokens[:, 0] == 0).double() + (1 - liked) * (text % 2)
    heard = Heard(tokens, text, torch.zeros(count).double(), reward, VOCABULARY)
    normal = normal_equations(evidence_of(heard, 1, NO_LIKENESS))
    for width in (0.1, 1.0, 10.0):
        expected = max(at_width(normal, w).log_likelihood for w in (0.0, width))
        assert at_most(normal, (width,)) == pytest.approx(expected, abs=1e-4)


def test_the_bound_is_no_lower_for_what_is_projected_out() -> None:
    """Of two tokens as above, with relevance that tells a little of which it is."""
    count = 20
    tokens, text = (torch.arange(count) % 2)[:, None], torch.arange(count) // 2
    first = (tokens[:, 0] == 0).double()
    m = first + torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64).repeat(count // 4)
    normal = normal_equations(evidence_of(Heard(tokens, text, m, first, VOCABULARY), 1, NO_LIKENESS))
    assert float(normal.taken.square().sum()) > 0.1 * float(normal.products.trace())
    for width in (1.0, 10.0, 100.0):
        likelihood = at_width(normal, width).log_likelihood
        assert likelihood - 1e-4 <= at_most(normal, (width,)) < likelihood + 2


def test_rewards_in_another_unit_give_the_same_taste_in_that_unit() -> None:
    scaled = [Heard(h.tokens, h.text, h.relevance, 1e5 * h.reward + 1e7, h.vocabulary) for h in NIGHTS_HEARD]
    ours, theirs = normal_equations(EVIDENCE), normal_equations(total(scaled))
    first, second = likeliest(ours), likeliest(theirs)
    assert first[0].width == second[0].width
    torch.testing.assert_close(first[0].taste * 1e5, second[0].taste, rtol=1e-5, atol=0)
    gains = [trials[0].log_likelihood - trials[-1].log_likelihood for trials in (first, second)]
    assert gains[0] == pytest.approx(gains[1], abs=1e-4)


def test_rewards_without_noise_are_no_infinity() -> None:
    heard = heard_of(0)
    exact = Heard(heard.tokens, heard.text, heard.relevance, 2 * heard.relevance, VOCABULARY)
    normal = normal_equations(total([exact]))
    posterior = conclude(normal, likeliest(normal), EVIDENCE.moments)
    assert math.isfinite(posterior.gain)
    assert posterior.relevance == pytest.approx(2)


def test_rewards_that_are_all_the_same_are_nothing_to_learn_from() -> None:
    heard = heard_of(0)
    same = Heard(heard.tokens, heard.text, heard.relevance, torch.full_like(heard.reward, 3.1), VOCABULARY)
    assert not learnable(total([same]))
    assert learnable(EVIDENCE)


def test_sets_of_equal_relevance_leave_alpha_at_zero() -> None:
    heard = heard_of(0)
    flat = Heard(heard.tokens, heard.text, torch.full_like(heard.relevance, 0.7), heard.reward, VOCABULARY)
    normal = normal_equations(total([flat]))
    assert (normal.slope, relevance(normal, at_width(normal, 3.0).taste)) == (0.0, 0.0)


def both_ways(topical: float) -> tuple[Heard, Tensor]:
    """A night in which every set, all as relevant, is heard on a text of topic 1 and on one of topic -1."""
    once = heard_of(3, texts=30)
    liked = torch.linspace(topical, -topical, VOCABULARY, dtype=torch.float64)[once.tokens].mean(-1)
    tokens = torch.cat([once.tokens, once.tokens])
    reward = torch.cat([once.reward + liked, once.reward - liked])
    text = torch.cat([once.text, once.text + 30])
    m = torch.zeros(len(text), dtype=torch.float64)
    topics = torch.cat([torch.ones(30), -torch.ones(30)])[:, None]
    return Heard(tokens, text, m, reward, VOCABULARY), topics


def test_topics_are_a_regression_of_their_own() -> None:
    """On a design in which topics and taste do not mix, against one of both, with rows written out."""
    heard, topics = both_ways(1.0)
    normal = normal_equations(evidence_of(heard, 1, NO_LIKENESS))
    trials = likeliest(normal)
    alpha = relevance(normal, trials[0].taste)
    moments = moments_of(heard, topics, trials[0].taste, alpha)
    posterior = conclude(normal, trials, moments)
    assert posterior.topics is not None

    rows = heard.rows().numpy()
    texts = np.repeat(np.arange(60), GROUP)
    covariance = np.eye(len(rows)) + np.equal.outer(texts, texts)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    ones = root @ np.ones(len(rows))
    white = root @ rows - np.outer(ones, ones @ root @ rows) / (ones @ ones)
    sign = topics.numpy()[texts]
    width = trials[0].width
    inputs = np.column_stack([white[:, :VOCABULARY], sign * white[:, :VOCABULARY]])
    penalty = np.diag([1 / width] * VOCABULARY + [1 / TOPIC_WIDTH] * VOCABULARY)
    both = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ white[:, -1])
    np.testing.assert_allclose(posterior.taste.numpy(), both[:VOCABULARY], rtol=0, atol=1e-6)
    np.testing.assert_allclose(posterior.topics[:, 0].numpy(), both[VOCABULARY:], rtol=0, atol=1e-6)


def test_a_taste_that_does_not_depend_on_topics_has_none() -> None:
    heard, topics = both_ways(0.0)
    noisy = heard.reward + torch.randn(len(heard), generator=torch.Generator().manual_seed(1)).double()
    heard = Heard(heard.tokens, heard.text, heard.relevance, noisy, VOCABULARY)
    normal = normal_equations(evidence_of(heard, 1, NO_LIKENESS))
    trials = likeliest(normal)
    moments = moments_of(heard, topics, trials[0].taste, relevance(normal, trials[0].taste))
    assert conclude(normal, trials, moments).topics is None
