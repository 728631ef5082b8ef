"""The gate: is what the rewards say of sets more than chance? A test that may be read after every night.

A wealth of 1 is bet, text by text, on the rewards of a text's candidates being where the posterior so far
expects them, against the same rewards moved round among the candidates. If rewards do not depend on the set
(they are exchangeable among the candidates of a text), no bet has an advantage, wealth is a martingale, and
it ever reaches 20 with probability 1/20 at most, however long one plays (Ville's inequality). Nothing is
drawn: rewards are moved round in a circle, by every distance.

Source: testing by betting, Shafer 2021 (arXiv:1903.06991); Ramdas et al. 2023 (arXiv:2210.01948).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from grpo.evidence import Evidence, Heard

STAKES: Final = (0.25, 0.6, 1.0)
"""Exponents of a bet; a third of the wealth follows each."""
TASTE_WIDTH, RELEVANCE_WIDTH = 3.0, 100.0
"""Prior variances of theta and alpha, in units of the noise."""
LEAST_CONTRASTS: Final = 20
"""Before there are so many the noise is not known well enough to bet."""
BLOCK: Final = 25
"""Most texts with one candidate heard that are one block of exchangeable rewards."""


class Wealth(NamedTuple):
    """State of the test; evidence adds up over nights.

    logs: logarithm of what each of `STAKES` has made of 1.
    peak: logarithm of the greatest wealth there ever was; wealth is the mean over the stakes.
    """

    logs: tuple[float, ...] = (0.0,) * len(STAKES)
    peak: float = 0.0

    def reached(self, enough: float | None) -> bool:
        """Whether the gate is open: for good, once there was so much; None: there is no gate."""
        return enough is None or self.peak >= math.log(enough)


class GateReading(NamedTuple):
    """How a gate stands.

    wealth: the greatest there ever was.
    enough: what opens it; None without a gate.
    """

    wealth: float
    enough: float | None
    open: bool

    @classmethod
    def of(cls, wealth: Wealth, enough: float | None) -> GateReading:
        return cls(math.exp(min(wealth.peak, 700.0)), enough, wealth.reached(enough))

    def __str__(self) -> str:
        if self.enough is None:
            return "none"
        return f"{'open' if self.open else 'closed'} (wealth {self.wealth:.3g} of {self.enough:g})"


def bet(wealth: Wealth, heard: Heard, before: Evidence) -> Wealth:
    """Bet on a night, text after text.

    With e = y - alpha m, p = X theta and V the covariance of what is expected, all of the posterior before
    the text and of rows centred within it, the stake f wins exp(f t_0) / mean_k exp(f t_k), where
    t_k = -(e_k - p)^T V^-1 (e_k - p) / 2 s2 and e_k is e moved round by k. As alpha is estimated, this is
    exact only for sets of equal relevance; elsewhere nearly so.

    Args:
        before: evidence of earlier nights; any that does not depend on this one will do.
    """
    blocks = _blocks(heard)
    if not blocks:
        return wealth
    expected = _expect(blocks, heard.rows(), before)
    gains = torch.zeros(len(STAKES), len(blocks), dtype=torch.float64)
    for size in sorted({len(rows) for rows in blocks}):
        which = torch.tensor([i for i, rows in enumerate(blocks) if len(rows) == size])
        gains[:, which] = _gains(expected, which, size)
    logs = torch.tensor(wealth.logs, dtype=torch.float64)[:, None] + gains.cumsum(1)
    means = logs.logsumexp(0) - math.log(len(STAKES))
    return Wealth(tuple(logs[:, -1].tolist()), max(wealth.peak, float(means.max())))


def _blocks(heard: Heard) -> list[Tensor]:
    """Rows whose rewards may change places: of a text with two or more, or of some texts with one each."""
    counts = torch.bincount(heard.text).tolist()
    start, blocks, single = 0, [], []
    for count in counts:
        if count > 1:
            blocks.append(torch.arange(start, start + count))
        elif count == 1:
            single.append(start)
        start += count
    if len(single) > 1:
        parts = -(-len(single) // BLOCK)
        blocks += [
            torch.tensor(single[i * len(single) // parts : (i + 1) * len(single) // parts])
            for i in range(parts)
        ]
    return blocks


class _Expected(NamedTuple):
    """What the posterior before each block expects of it; rows are the blocks', one after the other."""

    starts: Tensor  # (blocks,) first row
    factor: Tensor  # (n, n) lower: the blocks' on its diagonal are the factors of V
    taste: Tensor  # (n,) p
    rewards: Tensor  # (n,) e
    noise: Tensor  # (blocks,) s2
    known: Tensor  # (blocks,) bool: the noise is known well enough


def _expect(blocks: list[Tensor], rows: Tensor, before: Evidence) -> _Expected:
    """The posterior's expectations block after block, without computing it again for each.

    One factorization of the covariance of all rows under the posterior before the night holds the
    conditional covariances of each block given those before it on its diagonal.
    """
    sizes = torch.tensor([len(b) for b in blocks])
    rows = rows[torch.cat(blocks)]
    of = torch.repeat_interleave(torch.arange(len(blocks)), sizes)
    means = torch.zeros(len(blocks), rows.shape[1], dtype=torch.float64).index_add_(0, of, rows)
    rows = rows - (means / sizes[:, None])[of]
    inputs, rewards, m = rows[:, :-1], rows[:, -1], rows[:, -2]

    precision = before.products[:-1, :-1].clone()
    prior = torch.full((len(precision),), 1 / TASTE_WIDTH, dtype=torch.float64)
    prior[-1] = 1 / RELEVANCE_WIDTH
    precision.diagonal().add_(prior)
    root = torch.linalg.cholesky(precision)
    half = torch.linalg.solve_triangular(root, before.products[:-1, -1:], upper=False)
    mean = torch.linalg.solve_triangular(root.mT, half, upper=True)[:, 0]
    unit = torch.zeros(len(precision), 1, dtype=torch.float64)
    unit[-1] = 1
    white = torch.linalg.solve_triangular(root, torch.cat([inputs.T, unit], 1), upper=False)
    covariance = white[:, :-1].T @ white
    square = covariance[:, :-1].contiguous()
    square.diagonal().add_(1)
    factor = torch.linalg.cholesky(square)
    residual = torch.stack([rewards - inputs @ mean, covariance[:, -1]], 1)
    # Innovations of the rewards, and what each says of alpha.
    shocks, of_alpha = torch.linalg.solve_triangular(factor, residual, upper=False).unbind(1)
    starts = sizes.cumsum(0) - sizes

    def earlier(values: Tensor) -> Tensor:
        """(blocks,) sums over the rows of the blocks before."""
        return (values.cumsum(0) - values)[starts]

    alpha = (float(mean[-1]) + earlier(of_alpha * shocks))[of]
    inside = factor * (of[:, None] == of)
    taste = rewards - inside @ shocks - alpha * m
    spent = max(0.0, float(before.products[-1, -1] - before.products[:-1, -1] @ mean))
    contrasts = before.contrasts + (sizes - 1).cumsum(0) - (sizes - 1)
    noise = (spent + earlier(shocks.square())) / contrasts.clamp(min=1)
    known = (contrasts >= LEAST_CONTRASTS) & (noise > 0)
    return _Expected(starts, factor, taste, rewards - alpha * m, noise, known)


def _gains(expected: _Expected, which: Tensor, size: int) -> Tensor:
    """(stakes, blocks of one size): logarithms of what each bet wins."""
    steps = torch.arange(size)
    rows = expected.starts[which][:, None] + steps
    factors = expected.factor[rows[:, :, None], rows[:, None, :]]
    moved = expected.rewards[rows[:, (steps[:, None] + steps) % size]]  # (blocks, k, size)
    off = torch.linalg.solve_triangular(factors, (moved - expected.taste[rows][:, None]).mT, upper=False)
    noise = torch.where(expected.known, expected.noise, 1.0)[which]
    t = off.square().sum(1) / (-2 * noise[:, None])  # (blocks, k)
    staked = torch.tensor(STAKES, dtype=torch.float64)[:, None, None] * t
    gains = staked[..., 0] - (staked.logsumexp(-1) - math.log(size))
    return torch.where(expected.known[which], gains, 0.0)
