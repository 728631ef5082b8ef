"""The taste that feedback tells of, in closed form: linear regression with a normal prior and unknown noise.

    theta ~ N(0, rho s2 I);    beta ~ N(0, LIKENESS_WIDTH s2 I);    alpha and every night's mean are free

The width rho of the prior, in units of the noise s2, is the one under which the data are likeliest; a width
of 0, no taste at all, is one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from grpo.evidence import Evidence, Heard

WIDTHS: Final = (3.0, 0.3)
"""Widths rho that are tried beside 0. More of them, between and beyond, gained nothing (BENCHMARKS.md)."""
TOPIC_WIDTH: Final = WIDTHS[1]
"""Of the taste for each topic."""
LIKENESS_WIDTH: Final = 0.05
"""Of what texts are liked for. Without it texts that are liked anyway make their sets look good."""
LEAST_NOISE: Final = 1e-12
"""Least share of the rewards' sum of squares that is noise, so that rewards without any do no harm."""


@dataclass(frozen=True)
class Posterior:
    """What is known of a user's taste.

    Attributes:
        taste: (V,) float64, theta, in units of the reward; 0 without evidence of one.
        topics: (V, T) float64, what is added to the taste per unit of each topic of a text; None without
            evidence that it depends on the text.
        relevance: alpha.
        noise: s2.
        width: rho; 0 if the data are likelier without a taste.
        gain: log ML(width) - log ML(0), nats.
    """

    taste: Tensor = field(repr=False)
    topics: Tensor | None = field(repr=False)
    relevance: float
    noise: float
    width: float
    gain: float


@dataclass(frozen=True, eq=False)
class Normal:
    """Evidence with what texts are liked for, and m, projected out: what is said of theta alone."""

    products: Tensor  # (V, V), X^T X before that
    taken: Tensor  # (L + 1, V), T: A = X^T X - T^T T
    moment: Tensor  # (V,), b = X^T y
    square: float  # y^T y
    contrasts: int
    slope: float  # m^T y / m^T m
    loadings: Tensor  # (V,), X^T m / m^T m
    cost: float  # 1/2 log |I + LIKENESS_WIDTH Z^T Z|

    @cached_property
    def single(self) -> Tensor:
        """(V, V) float32: A, made where it is asked for."""
        taken = self.taken.float()
        return self.products.float().addmm_(taken.T, taken, alpha=-1)

    def product(self, taste: Tensor) -> float:
        """taste^T A taste."""
        taken = self.taken @ taste
        return float(taste @ (self.products @ taste) - taken @ taken)


class Trial(NamedTuple):
    """One width tried."""

    width: float
    taste: Tensor
    noise: float  # q, the sum of squares that is left as noise
    log_likelihood: float
    factor: Tensor | None  # (V, V) float32 lower, of I + rho A; None for a width of 0


def normal_equations(evidence: Evidence) -> Normal:
    """Project out what texts are liked for, by its prior, and then m, which makes alpha free.

    Of R = [X m y] the former leaves, as if the errors' covariance were I + LIKENESS_WIDTH Z Z^T,

        R^T R - R^T Z (Z^T Z + I / LIKENESS_WIDTH)^-1 Z^T R
    """
    products, of_texts = evidence.products, evidence.of_texts
    size = len(products)
    square = LIKENESS_WIDTH * of_texts[:, size:]
    square.diagonal().add_(1)
    factor = torch.linalg.cholesky(square)
    half = torch.linalg.solve_triangular(factor, math.sqrt(LIKENESS_WIDTH) * of_texts[:, :size], upper=False)
    numbers = products[:, -2:] - half.T @ half[:, -2:]
    with_m, with_y = numbers[:-2, 0], numbers[:-2, 1]
    (m, m_y), (_, y) = numbers[-2:].tolist()
    # Sets that are all as relevant say nothing of alpha.
    loadings = with_m / m if m > 0 else torch.zeros_like(with_m)
    slope = m_y / m if m > 0 else 0.0
    taken = torch.cat([half[:, :-2], math.sqrt(max(m, 0.0)) * loadings[None]])
    return Normal(
        products[:-2, :-2], taken, with_y - with_m * slope, max(LEAST_NOISE * y, y - m_y * slope),
        evidence.contrasts, slope, loadings, _half_log_determinant(factor),
    )  # fmt: skip


def at_width(normal: Normal, width: float) -> Trial:
    """With A = X^T X, b = X^T y over n contrasts:

    theta = rho (I + rho A)^-1 b;    q = y^T y - b^T theta
    log ML = -n/2 log(q / n) - 1/2 log |I + rho A| - cost

    I + rho A is far from singular, so it is factored in float32, which takes half the time: theta is then
    within 1e-5 of its largest number. q is taken at that theta, where it errs by the square of that.
    """
    if width == 0:
        taste = torch.zeros_like(normal.moment)
        return Trial(0.0, taste, normal.square, _of_noise(normal.square, normal), None)
    matrix = width * normal.single
    matrix.diagonal().add_(1)
    factor = torch.linalg.cholesky(matrix)
    taste = _solve(factor, normal.moment[:, None], width)[:, 0]
    penalty = float(taste @ taste) / width
    explained = 2 * float(taste @ normal.moment) - normal.product(taste)
    noise = max(normal.square - explained + penalty, LEAST_NOISE * normal.square)
    return Trial(width, taste, noise, _of_noise(noise, normal) - _half_log_determinant(factor), factor)


def learnable(evidence: Evidence) -> bool:
    """Whether there is anything to learn from: rewards that are not all the same."""
    return evidence.contrasts > 1 and float(evidence.products[-1, -1]) > 0


def likeliest(normal: Normal, widths: tuple[float, ...] = WIDTHS) -> tuple[Trial, ...]:
    """All widths tried, the likeliest first."""
    trials = [at_width(normal, width) for width in (0.0, *widths)]
    return tuple(sorted(trials, key=lambda trial: -trial.log_likelihood))


def at_most(normal: Normal, widths: tuple[float, ...]) -> float:
    """What no log ML of `likeliest` is above, from sums of squares: in a small part of the time.

    With C = I + rho X X^T it is, by Cauchy and Schwarz,

        q = y^T C^-1 y >= (y^T y)^2 / (y^T y + rho b^T b)

    and log |C| is at least what it would be if all eigenvalues of A that are not 0 were the same,
    t = tr A^2 / tr A, as log (1 + x) is above the parabola through 0 that touches it at rho t. A^2 has no
    more trace than it would have with what is projected out in it.
    """
    trace = max(0.0, float(normal.products.trace()) - float(normal.taken.square().sum()))
    products = normal.products.numpy()
    common = float(np.einsum("ij,ij", products, products)) / trace if trace else 1.0
    explained = float(normal.moment @ normal.moment) / normal.square
    half = normal.contrasts / 2
    most = max(
        half * math.log1p(width * explained) - trace / common / 2 * math.log1p(width * common)
        for width in (0.0, *widths)
    )
    return most + _of_noise(normal.square, normal)


def conclude(normal: Normal, trials: tuple[Trial, ...], moments: Tensor | None) -> Posterior:
    """The posterior at the likeliest width, and whether taste depends on the topics.

    The topics' tastes share A with the taste, as candidates are drawn nearly independently of the text. Then
    each column of the moments M is a regression of its own, as b is:

        Phi = rho (I + rho A)^-1 M;    q falls by the sum of M * Phi, and T more log-determinants count

    Args:
        trials: as `likeliest` gives them.
        moments: (V, T); None if topics are not asked about.
    """
    best = trials[0]
    topics = None
    if best.width and moments is not None:
        factor = _factor(normal, trials)
        topical = _solve(factor, moments, TOPIC_WIDTH)
        noise = max(best.noise - float((moments * topical).sum()), LEAST_NOISE * normal.square)
        cost = moments.shape[1] * _half_log_determinant(factor)
        if _of_noise(noise, normal) - cost > _of_noise(best.noise, normal):
            topics = topical
    return Posterior(
        taste=best.taste,
        topics=topics,
        relevance=relevance(normal, best.taste),
        noise=best.noise / normal.contrasts,
        width=best.width,
        gain=best.log_likelihood - _of_noise(normal.square, normal),
    )


def _factor(normal: Normal, trials: tuple[Trial, ...]) -> Tensor:
    """At TOPIC_WIDTH."""
    tried = next((trial for trial in trials if trial.width == TOPIC_WIDTH), None)
    factor = (tried or at_width(normal, TOPIC_WIDTH)).factor
    assert factor is not None
    return factor


def relevance(normal: Normal, taste: Tensor) -> float:
    """alpha, given the taste."""
    return normal.slope - float(normal.loadings @ taste)


def moments_of(heard: Heard, topics: Tensor, taste: Tensor, alpha: float) -> Tensor:
    """(V, T): what a night's evidence of topics is, under the taste that is known by then.

    Args:
        topics: (N, T) of the night's texts.
    """
    left = heard.reward - heard.worth(taste) - alpha * heard.relevance
    whitening = heard.whitening
    left = whitening.apply((left - left.mean())[:, None])
    return heard.per_token(whitening.back(left * topics.double()[heard.text]))


def _solve(factor: Tensor, moments: Tensor, width: float) -> Tensor:
    """rho (I + rho A)^-1 of moments (V, k), float64."""
    # In units of the largest, so that rewards in any unit fit into float32.
    unit = float(moments.abs().max()) or 1.0
    scaled = (moments * (width / unit)).float()
    # Of few columns, half the time of `cholesky_solve`, with the same bits.
    half = torch.linalg.solve_triangular(factor, scaled, upper=False)
    solved: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return solved.double() * unit


def _half_log_determinant(factor: Tensor) -> float:
    return float(factor.diagonal().double().log().sum())


def _of_noise(noise: float, normal: Normal) -> float:
    return -normal.contrasts / 2 * math.log(noise / normal.contrasts) - normal.cost
