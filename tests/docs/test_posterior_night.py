"""The default night by hand, as the app's engineers are told to write it, is that of the default learner."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import posterior_by_hand as hand
import pytest
import torch
from posterior_by_hand import Candidate, State, night

from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.head import Head
from grpo.learner import Learned, study
from grpo.learners import PosteriorLearner
from grpo.reference import Reference
from personality_common.bundle.bundle import open_bundle
from personality_common.bundle.golden_night import GoldenNight, read_golden_night
from personality_common.errors import DataError
from pretrain.personality.rules.family import PERSONALITY

TOKENS, WIDTH, TEXTS, GROUP = 40, 12, 14, 4


def texts_of(tokens: Any, rewards: Any) -> list[list[Candidate]]:
    return [
        [
            Candidate(list(map(int, t)), None if math.isnan(r) else float(r))
            for t, r in zip(ts, rs, strict=True)
        ]
        for ts, rs in zip(tokens, rewards, strict=True)
    ]


class Life:
    """Nights by both, of a user whose taste changes after `change`; rewards without a taste for None."""

    def __init__(self, seed: int, change: int | None, noise: float) -> None:
        rng = np.random.default_rng(seed)
        weight = rng.standard_normal((TOKENS, WIDTH)).astype(np.float32)
        bias = (0.3 * rng.standard_normal(TOKENS)).astype(np.float32)
        self.sample = rng.standard_normal((200, WIDTH)).astype(np.float16).astype(np.float32)
        self.head = Head(torch.from_numpy(weight), torch.from_numpy(bias))
        self.reference = Reference(torch.from_numpy(self.sample), self.head, GRPOConfig())
        self.learned = Learned.nothing(TOKENS, *self.reference.describing)
        self.state = State.start(TOKENS, len(self.sample))
        self.rng, self.change, self.noise = rng, change, noise
        self.taste = rng.standard_normal(TOKENS)

    def day(self, at: int) -> tuple[Any, Any, Any]:
        rows = self.rng.integers(0, len(self.sample), TEXTS)
        tokens = np.argsort(self.rng.random((TEXTS, GROUP, TOKENS)), axis=-1)[..., :8]
        sign = 0 if self.change is None else 1 if at < self.change else -1
        rewards = sign * self.taste[tokens].mean(-1) + self.noise * self.rng.standard_normal((TEXTS, GROUP))
        rewards[at % TEXTS, 0] *= 30  # beyond any bound
        rewards[self.rng.random((TEXTS, GROUP)) < 0.2] = np.nan
        rewards[:3, 1:] = np.nan
        return rows, tokens, rewards

    def live(self, at: int) -> tuple[Any, hand.Night]:
        rows, tokens, rewards = self.day(at)
        groups = Groups(torch.from_numpy(tokens), {"reward": torch.from_numpy(rewards)})
        latents = self.reference.latents[torch.from_numpy(rows)]
        self.learned, posterior = study(latents, groups, self.learned, self.reference, {})
        weight, bias = (tensor.numpy() for tensor in self.head)
        made = night(texts_of(tokens, rewards), latents.numpy(), self.state, weight, bias, self.sample)
        self.state = made.state
        return posterior, made


@pytest.mark.parametrize(("seed", "change"), [(2, 9), (4, 9), (2, None)])
def test_the_night_by_hand_is_the_night_of_the_learner(seed: int, change: int | None) -> None:
    life = Life(seed, change, 0.35)
    seen = set()
    for at in range(14):
        before = life.learned.total.contrasts
        posterior, made = life.live(at)
        theirs, ours = life.learned, life.state
        np.testing.assert_allclose(ours.logs, theirs.wealth.logs, rtol=1e-4, atol=1e-5)
        assert ours.peak == pytest.approx(theirs.wealth.peak, rel=1e-4, abs=1e-5)
        assert [s.contrasts for s in (ours.before, ours.since)] == [
            e.contrasts for e in (theirs.before, theirs.since)
        ]
        sums, size = ours.before.plus(ours.since).s, TOKENS + 2
        np.testing.assert_allclose(sums[:size, :size], theirs.total.products, atol=1e-4)
        np.testing.assert_allclose(sums[size:], theirs.total.of_texts, atol=1e-4)
        assert (posterior is None) == (made.taste is None)
        seen.add("forgotten" if theirs.total.contrasts < before else "kept")
        if posterior is None or made.taste is None:
            seen.add("closed")
            continue
        assert made.taste.width == posterior.width
        np.testing.assert_allclose(made.taste.theta, posterior.taste, atol=2e-5 * abs(made.taste.theta).max())
        for mine, yours in (("alpha", "relevance"), ("noise", "noise"), ("gain", "gain")):
            assert getattr(made.taste, mine) == pytest.approx(getattr(posterior, yours), rel=2e-3, abs=2e-4)
        assert (ours.width, ours.width_contrasts) == (theirs.prior.width, theirs.prior.contrasts)
        seen.add("suspected" if ours.since.contrasts else "one taste")
    assert {"kept", "closed"} <= seen
    assert ("forgotten" in seen, "suspected" in seen) == ((True, True) if change else (False, False))


def golden_of(bundle: Path) -> tuple[GoldenNight, Any, Any, Any]:
    found = open_bundle(bundle, PERSONALITY)
    nights, golden, manifest = found.golden_night, found.golden, found.manifest
    assert nights is not None
    assert manifest.reference is not None
    update = golden.record.update.arrays
    weight, bias = (update[name].read(bundle / "golden") for name in ("projection_weight", "output_bias"))
    return nights, weight, bias, manifest.reference.latents.read(bundle).astype(np.float32)


def test_the_golden_nights_of_a_bundle_by_hand(openai_bundle: Path) -> None:
    """From the files alone, as an XCTest reads them."""
    nights, weight, bias, reference = golden_of(openai_bundle)
    arrays, state = nights.arrays, State.start(325, len(reference))
    in_use = bias
    for at, figures in enumerate(nights.record.nights):
        latents = reference[arrays["texts"][at]]
        logits = latents.astype(np.float64) @ weight.T.astype(np.float64) + in_use
        noisy = logits[:, None] - np.log(-np.log1p(-arrays["uniform"][at].astype(np.float64)))
        assert (np.argsort(-noisy, axis=-1, kind="stable")[..., :8] == arrays["tokens"][at]).all()
        texts = texts_of(arrays["tokens"][at], arrays["rewards"][at])
        made = night(texts, latents, state, weight, bias, reference)
        for name in ("relevance", "advantages", "likeness"):
            ours = np.array(getattr(made, name), dtype=float)  # None becomes NaN
            np.testing.assert_allclose(ours, arrays[name][at], atol=1e-6)
        if at == 0:
            np.testing.assert_allclose(made.tonight.s, arrays["evidence"], atol=1e-5)
        state, in_use = made.state, arrays["bias"][at]
        np.testing.assert_allclose(state.logs, figures.wealth, atol=1e-5)
        assert state.peak == pytest.approx(figures.peak, abs=1e-5)
        assert (state.before.contrasts, state.since.contrasts) == figures.contrasts
        moved = (bias + figures.step * arrays["direction"][at]).astype(np.float32)
        np.testing.assert_allclose(moved, in_use, atol=1e-6)
        assert figures.open == (made.taste is not None)
        if made.taste is None:
            assert figures.step == 0
            continue
        assert made.taste.width == figures.width
        np.testing.assert_allclose(made.taste.theta, arrays["taste"][at], atol=1e-5)
        np.testing.assert_allclose(made.direction, arrays["direction"][at], atol=1e-5)
        for name in ("alpha", "noise", "gain"):
            assert getattr(made.taste, name) == pytest.approx(getattr(figures, name), rel=1e-3, abs=1e-5)
        assert made.limit == pytest.approx(figures.limit, rel=1e-4)
        assert made.step == pytest.approx(figures.step, rel=0.03)  # the toolkit leaves a little unused
        use = hand.spent(
            reference @ weight.T.astype(np.float64) + in_use, reference @ weight.T.astype(np.float64) + bias
        )
        np.testing.assert_allclose(use, (figures.overlap, figures.overlap_error, figures.kl), atol=2e-3)
        assert hand.within(use)


def test_the_golden_nights_show_what_nights_do(openai_bundle: Path) -> None:
    """A gate that is closed, then open; a head that moves, within a budget; a taste that changes."""
    nights = golden_of(openai_bundle)[0].record.nights
    assert not nights[0].open
    assert nights[-1].open
    assert [figures.forgotten for figures in nights] == [False] * (len(nights) - 1) + [True]
    assert any(0 < figures.share < 1 for figures in nights)


def test_the_learner_gives_the_golden_heads(openai_bundle: Path) -> None:
    nights, weight, bias, reference = golden_of(openai_bundle)
    arrays = nights.arrays
    head = Head(torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy()))
    learner = PosteriorLearner(Reference(torch.from_numpy(reference), head, GRPOConfig()))
    kept, same = learner.start(), 0
    for at in range(len(nights.record.nights)):
        groups = Groups(
            torch.from_numpy(arrays["tokens"][at].astype(np.int64)),
            {"reward": torch.from_numpy(arrays["rewards"][at].copy())},
        )
        kept, moved = learner.move(torch.from_numpy(reference[arrays["texts"][at]]), groups, kept)
        if kept.learned.prior.topical:
            continue  # golden nights leave out what depends on the text
        np.testing.assert_allclose(kept.head.bias, arrays["bias"][at], atol=1e-6)
        assert moved.share == pytest.approx(nights.record.nights[at].share, rel=1e-4)
        same += nights.record.nights[at].step > 0
    assert same > 0


def test_golden_nights_that_are_damaged(openai_bundle: Path, tmp_path: Path) -> None:
    source = openai_bundle / "golden" / "night"
    record = json.loads((source / "night.json").read_text())
    for name in record["arrays"]:
        (tmp_path / f"{name}.bin").symlink_to(source / f"{name}.bin")
    (tmp_path / "night.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="link"):
        read_golden_night(tmp_path / "night.json")
    for name in record["arrays"]:
        (tmp_path / f"{name}.bin").unlink()
        (tmp_path / f"{name}.bin").write_bytes((source / f"{name}.bin").read_bytes())
    assert read_golden_night(tmp_path / "night.json").record.learner == "posterior"
    for change, words in (
        ({"nights": record["nights"][1:]}, "of 3 nights"),
        (
            {"arrays": {k: v for k, v in record["arrays"].items() if k != "taste"}},
            r"taste must be \(4, 325\)",
        ),
        (
            {"arrays": {k: v for k, v in record["arrays"].items() if k != "likeness"}},
            r"likeness must be \(4, 24, 0\)",
        ),
        ({"schema": 1}, r"evidence must be \(327, 327\)"),
        ({"schema": 3}, "schema"),
    ):
        (tmp_path / "night.json").write_text(json.dumps(record | change))
        with pytest.raises(DataError, match=words):
            read_golden_night(tmp_path / "night.json")
