"""The gate against its definition, written out text by text, and against what chance makes of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from grpo.evidence import Evidence, Heard, evidence_of
from grpo.gate import BLOCK, LEAST_CONTRASTS, RELEVANCE_WIDTH, STAKES, TASTE_WIDTH, Wealth, bet

VOCABULARY, WIDTH = 6, 2
ENOUGH = 20.0
NONE = Evidence.none(VOCABULARY, 1, 0)


def night(seed: int, counts: list[int], *, taste: float = 0.0, relevance: bool = True) -> Heard:
    """`counts` are the candidates heard of each text."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    tokens = torch.rand(len(text), VOCABULARY, generator=generator).argsort(-1)[:, :WIDTH]
    numbers = torch.randn(2, len(text), generator=generator, dtype=torch.float64)
    liked = torch.linspace(-taste, taste, VOCABULARY, dtype=torch.float64)
    m = numbers[0] if relevance else torch.zeros(len(text), dtype=torch.float64)
    return Heard(tokens, text, m, numbers[1] + liked[tokens].mean(-1), VOCABULARY)


def known_of(heard: Heard) -> Evidence:
    """Of a night of texts that are like none."""
    return evidence_of(heard, 1, torch.zeros(int(heard.text[-1]) + 1, 0, dtype=torch.float64))


def written_out(heard: Heard, before: Evidence) -> tuple[list[float], float]:
    """Logarithms of the stakes' wealth, and the greatest wealth; the posterior is updated text by text."""
    products = before.products.numpy()
    prior = np.diag([1 / TASTE_WIDTH] * VOCABULARY + [1 / RELEVANCE_WIDTH])
    precision, moment, square = prior + products[:-1, :-1], products[:-1, -1].copy(), products[-1, -1]
    contrasts = before.contrasts
    rows, texts = heard.rows().numpy(), heard.text.numpy()
    counts = np.bincount(texts)
    blocks = [np.flatnonzero(texts == t) for t in range(len(counts)) if counts[t] > 1]
    alone = np.flatnonzero(counts[texts] == 1)
    if len(alone) > 1:
        blocks += list(np.array_split(alone, math.ceil(len(alone) / BLOCK)))
    wealth, peak = np.ones(len(STAKES)), 1.0
    for block in blocks:
        centred = rows[block] - rows[block].mean(0)
        inputs, y = centred[:, :-1], centred[:, -1]
        covariance = np.linalg.inv(precision)
        mean = covariance @ moment
        noise = (square - moment @ mean) / max(1, contrasts)
        if contrasts >= LEAST_CONTRASTS and noise > 0:
            e, p = y - inputs[:, -1] * mean[-1], inputs[:, :-1] @ mean[:-1]
            v = np.linalg.inv(np.eye(len(block)) + inputs @ covariance @ inputs.T)
            t = [-(np.roll(e, -k) - p) @ v @ (np.roll(e, -k) - p) / (2 * noise) for k in range(len(block))]
            for i, stake in enumerate(STAKES):
                wealth[i] *= math.exp(stake * t[0]) / np.mean(np.exp(stake * np.array(t)))
        peak = max(peak, wealth.mean())
        precision, moment = precision + inputs.T @ inputs, moment + inputs.T @ y
        square, contrasts = square + y @ y, contrasts + len(block) - 1
    return [math.log(w) for w in wealth], math.log(peak)


@pytest.mark.parametrize(
    "counts",
    [[4] * 12, [2, 5, 3, 4, 4, 2, 5, 3, 4, 4], [1] * 60, [1] * 26 + [3] * 9, [0, 4, 1, 0, 5, 1, 6, 6, 6, 1]],
    ids=["groups", "ragged", "thumbs", "both", "gaps"],
)
def test_wealth_is_what_the_definition_says(counts: list[int]) -> None:
    heard = night(0, counts, taste=1.0)
    first = bet(Wealth(), heard, NONE)
    logs, peak = written_out(heard, NONE)
    assert first.logs == pytest.approx(logs, abs=1e-9)
    assert first.peak == pytest.approx(peak, abs=1e-9)
    assert any(logs)
    # The next night knows this one.
    known = known_of(heard)
    second = bet(first, night(1, counts, taste=1.0), known)
    more, _ = written_out(night(1, counts, taste=1.0), known)
    assert second.logs == pytest.approx([a + b for a, b in zip(logs, more, strict=True)], abs=1e-9)
    assert second.peak >= first.peak


@pytest.mark.parametrize("size", [2, 5, 8])
def test_moving_the_rewards_of_a_text_round_wins_nothing_on_average(size: int) -> None:
    """Exactly, for the text that is bet on last: its rewards move, and those before stay."""
    heard = night(2, [4] * 10 + [size], taste=1.0, relevance=False)
    wealths = []
    for k in range(size):
        reward = heard.reward.clone()
        reward[-size:] = reward[-size:].roll(k)
        moved = Heard(heard.tokens, heard.text, heard.relevance, reward, VOCABULARY)
        wealths.append([math.exp(log) for log in bet(Wealth(), moved, NONE).logs])
    before = written_out(
        dataclasses.replace(
            heard,
            tokens=heard.tokens[:-size],
            text=heard.text[:-size],
            relevance=heard.relevance[:-size],
            reward=heard.reward[:-size],
        ),
        NONE,
    )[0]
    assert np.mean(wealths, 0) == pytest.approx(np.exp(before), rel=1e-9)
    assert np.std(wealths, 0).min() > 1e-3


def test_under_exchangeable_rewards_mean_wealth_stays_one() -> None:
    """4,000 lives of 9 texts; sets and their relevance differ, rewards do not depend on them."""
    lives = 4_000
    final = np.array(
        [np.mean(np.exp(bet(Wealth(), night(seed, [4] * 9), NONE).logs)) for seed in range(lives)]
    )
    mean, error = final.mean(), final.std() / math.sqrt(lives)
    assert 1e-3 < error < 0.02
    assert abs(mean - 1) < 3.5 * error, (mean, error)


def test_a_taste_opens_the_gate_and_it_stays_open() -> None:
    wealth, known = Wealth(), NONE
    assert not wealth.reached(ENOUGH)
    for seed in range(6):
        heard = night(seed, [4] * 12, taste=6.0)
        wealth, known = bet(wealth, heard, known), known.plus(known_of(heard))
    assert wealth.reached(ENOUGH)
    assert wealth.peak >= math.log(ENOUGH)
    poorer = bet(wealth, night(9, [4] * 12, taste=-6.0), known)
    assert max(poorer.logs) < max(wealth.logs)
    assert poorer.reached(ENOUGH)
    assert poorer.peak == wealth.peak


def test_nothing_is_bet_before_the_noise_is_known() -> None:
    few = night(0, [4] * ((LEAST_CONTRASTS - 1) // 3 + 1), taste=6.0)
    assert bet(Wealth(), few, NONE) == Wealth()
    assert bet(Wealth(), night(0, [], taste=1.0), NONE) == Wealth()
    assert bet(Wealth(), night(0, [0, 1, 0], taste=1.0), NONE) == Wealth()
    same = night(0, [4] * 12)
    silent = Heard(same.tokens, same.text, same.relevance, torch.full_like(same.reward, 2.0), VOCABULARY)
    assert bet(Wealth(), silent, NONE) == Wealth()


def test_rewards_in_another_unit_win_the_same() -> None:
    heard = night(0, [4] * 12, taste=1.0)
    scaled = Heard(heard.tokens, heard.text, heard.relevance, 1e4 * heard.reward - 1e6, VOCABULARY)
    assert bet(Wealth(), scaled, NONE).logs == pytest.approx(bet(Wealth(), heard, NONE).logs, abs=1e-6)


def test_a_wealth_beyond_any_float_is_kept() -> None:
    rich = Wealth((900.0, 1000.0, 1100.0), 1100.0)
    richer = bet(rich, night(3, [4] * 12, taste=3.0), NONE)
    assert all(math.isfinite(log) for log in (*richer.logs, richer.peak))


def columns(heard: Heard) -> list[Tensor]:
    return [heard.tokens, heard.text, heard.relevance, heard.reward]
