"""The night by hand, as the app's engineers are told to write it, is the night of GRPO with its defaults."""

import functools
import json
import math

import device_golden as golden
import numpy as np
import pytest
import torch
from night_by_hand import Candidate, Night, draw, gradient, log_probs, night
from night_by_hand import advantages as advantages_by_hand

from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.head import Head
from grpo.tune import tune_head

TEXTS, GROUP, TOKENS, WIDTH = 6, 5, 40, 12


@functools.cache
def _random(seed: int, scale: float) -> tuple[np.ndarray, list[list[Candidate]], Head, Head]:
    """A night with all that can happen: silence, one candidate heard, no spread, short sets, old policies."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((TEXTS, WIDTH)).astype(np.float32)
    latents *= scale / np.linalg.norm(latents, axis=1, keepdims=True)
    shipped = rng.standard_normal((TOKENS, WIDTH)).astype(np.float32)
    bias = (0.1 * rng.standard_normal(TOKENS)).astype(np.float32)
    weight = shipped if seed % 2 else (shipped + 0.2 * rng.standard_normal(shipped.shape)).astype(np.float32)
    logits = latents.astype(np.float64) @ weight.T + bias
    texts = []
    for n in range(TEXTS):
        row = []
        for g in range(GROUP):
            tokens = draw(logits[n], rng.random(TOKENS))[: 8 - g % 2]
            reward: float | None = float(rng.standard_normal()) if rng.random() < 0.8 else None
            if n == 2:
                reward = 1.0
            if n in (3, 4) and g:
                reward = None
            logp = sum(log_probs(logits[n], tokens)) + rng.normal(0, 0.3) if rng.random() < 0.3 else None
            row.append(Candidate(tokens, reward, logp))
        texts.append(row)
    head, first = (Head(torch.from_numpy(w), torch.from_numpy(bias)) for w in (weight, shipped))
    return latents, texts, head, first


@functools.cache
def _by_hand(seed: int, scale: float) -> Night:
    latents, texts, head, shipped = _random(seed, scale)
    return night(latents, texts, *(t.numpy() for t in (*head, *shipped)))


def _groups(texts: list[list[Candidate]]) -> Groups:
    actions = torch.full((len(texts), len(texts[0]), 8), -1)
    rewards = torch.full(actions.shape[:2], math.nan, dtype=torch.float64)
    behaviour = rewards.clone()
    for n, row in enumerate(texts):
        for g, candidate in enumerate(row):
            actions[n, g, : len(candidate.tokens)] = torch.tensor(candidate.tokens)
            rewards[n, g] = math.nan if candidate.reward is None else candidate.reward
            behaviour[n, g] = math.nan if candidate.logp is None else candidate.logp
    return Groups(actions, {"reward": rewards}, behaviour)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_night_by_hand_is_the_night_of_grpo(seed: int, scale: float) -> None:
    latents, texts, head, shipped = _random(seed, scale)
    ours = _by_hand(seed, scale)
    theirs = tune_head(torch.from_numpy(latents), _groups(texts), head, shipped, GRPOConfig())
    assert len(ours.kl) == len(theirs.steps) > 0
    np.testing.assert_allclose(ours.kl, [s.kl_old for s in theirs.steps], rtol=1e-4, atol=1e-7)
    assert ours.share == theirs.night.scale
    # Theirs are products of float32.
    np.testing.assert_allclose(ours.weight, theirs.head.weight.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.bias, theirs.head.bias.numpy(), rtol=0, atol=1e-5)


def test_nights_end_in_every_way() -> None:
    """Or the comparison above would say little."""
    found = []
    for seed in range(4):
        for scale in (1.0, 2.0):
            one = _by_hand(seed, scale)
            found.append((len(one.kl) < 12, one.share == 1, 0 < one.share < 1))
    stopped, whole, scaled = (sum(column) for column in zip(*found, strict=True))
    assert min(stopped, whole, scaled) >= 1


def test_the_gradient_is_that_of_the_loss() -> None:
    """Of the formula that the page gives, by central differences, where no ratio is at a clip."""
    latents, texts, head, shipped = _random(0, 1.0)
    start = latents.astype(np.float64) @ head.weight.numpy().T + head.bias.numpy()
    reference = latents.astype(np.float64) @ shipped.weight.numpy().T + shipped.bias.numpy()
    scores = advantages_by_hand(texts)
    z = start + 0.05 * np.random.default_rng(1).standard_normal(start.shape)

    def loss(at: np.ndarray) -> float:
        total, heard = 0.0, [sum(c.reward is not None for c in row) for row in texts]
        speaking = sum(count > 0 for count in heard)
        for n, row in enumerate(texts):
            for candidate, score in zip(row, scores[n], strict=True):
                if score is None:
                    continue
                old = np.array(log_probs(start[n], candidate.tokens))
                if candidate.logp is not None:
                    old += (candidate.logp - old.sum()) / len(old)
                new = np.array(log_probs(at[n], candidate.tokens))
                ratio = np.exp(new - old)
                held = np.minimum(ratio, 2.0) if score > 0 else np.clip(ratio, 0.5, 4.0)
                total += float((-held * score).mean()) / (speaking * heard[n])
            if heard[n]:
                p, q = (np.exp(x[n] - x[n].max()) for x in (at, reference))
                p, q = p / p.sum(), q / q.sum()
                total += float((0.1 * p * np.log(p / q) + 0.05 * p * np.log(p)).sum()) / speaking
        return total

    found, step = gradient(z, start, reference, texts, scores), 1e-5
    for n, v in [(0, 3), (1, 7), (3, 0), (5, 11), (5, 39)]:
        up, down = z.copy(), z.copy()
        up[n, v] += step
        down[n, v] -= step
        assert found[n, v] == pytest.approx((loss(up) - loss(down)) / (2 * step), rel=1e-5, abs=1e-9)


def test_the_golden_nights_of_the_xctest_are_up_to_date() -> None:
    """Where not: python tests/docs/device_golden.py."""
    written = json.loads((golden.RESOURCES / "night.json").read_text(encoding="utf-8"))
    made = golden.night_cases()
    assert len(written) == len(made) == 2
    for ours, theirs in zip(written, made, strict=True):
        assert ours.keys() == theirs.keys()
        for name in set(ours) - {"texts", "whole"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-7, err_msg=name)
        assert [[c["tokens"] for c in row] for row in ours["texts"]] == [
            [c["tokens"] for c in row] for row in theirs["texts"]
        ]
    assert [case["share"] < 1 for case in written] == [True, False]
