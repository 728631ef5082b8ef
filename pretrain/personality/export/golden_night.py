"""Some nights of the default learner, so that an app's own night can be held to them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from grpo.config import GRPOConfig
from grpo.evidence import Evidence, Whitening, hear
from grpo.groups import Groups
from grpo.head import Head
from grpo.learner import Learned, Made, direction, longest_step, make_head, study
from grpo.reference import Reference
from personality_common.bundle.golden_night import (
    GOLDEN_NIGHT_SCHEMA,
    GoldenNightRecord,
    NightFigures,
    NightSettings,
)
from personality_common.bundle.manifest import ReferenceSample
from personality_common.bundle.stored import StoredArray
from personality_common.contract import TOP_K, VOCAB_SIZE
from personality_common.files.atomic import write_json
from personality_common.files.fingerprint import fingerprint
from pretrain.personality.run import Run

NIGHT_DIR: Final = "night"
NIGHT_FILE: Final = "night.json"
NIGHTS: Final = 4
"""The first opens no gate yet; the user's taste is the contrary in the last."""
TEXTS: Final = 24
GROUP: Final = 4
NOISE: Final = 0.1
"""Standard deviation of what a reward has besides the worth of the set, which is between -1 and 1."""
_DTYPES: Final = {"texts": "<i4", "uniform": "<f4", "tokens": "<i4", "bias": "<f4"}
"""Others are float64."""


class _Day(NamedTuple):
    """What was shown, and what was said of it."""

    texts: NDArray[np.int64]
    uniform: NDArray[np.float64]
    tokens: NDArray[np.int64]
    rewards: NDArray[np.float64]


def write_golden_nights(folder: Path, run: Run, bundle: Path, sample: ReferenceSample) -> None:
    """Write `night.json` and the arrays that it names.

    A device leaves out what depends on the text (docs/on-the-device.md), and so do these nights.

    Args:
        folder: new.
        bundle: the sample's.
    """
    folder.mkdir()
    weight, bias = run.model.projection.weight.detach(), run.model.output_bias.detach()
    latents = torch.from_numpy(sample.latents.read(bundle).astype(np.float32))
    reference = Reference(latents, Head(weight, bias), GRPOConfig())
    rng = np.random.default_rng(0)
    taste = rng.choice([-1.0, 1.0], VOCAB_SIZE)
    learned, head = Learned.nothing(VOCAB_SIZE, *reference.describing), reference.shipped
    nights: list[NightFigures] = []
    arrays: dict[str, list[NDArray[Any]]] = {}
    evidence: NDArray[Any] = np.zeros(0)
    for night in range(NIGHTS):
        day = _day(rng, night, -taste if night == NIGHTS - 1 else taste, latents, head)
        learned, figures, found = _night(day, learned, reference)
        nights.append(figures)
        evidence = evidence if evidence.size else _whole(learned.total)
        head = Head(weight, torch.from_numpy(found["bias"]))
        for name, array in (day._asdict() | found).items():
            arrays.setdefault(name, []).append(array)
    stacked = {name: np.stack(values) for name, values in arrays.items()}
    stacked["evidence"] = evidence
    config = reference.config
    assert config.gate is not None
    assert config.kl_budget is not None
    assert config.overlap_budget is not None
    record = GoldenNightRecord(
        GOLDEN_NIGHT_SCHEMA, "posterior",
        NightSettings(config.gate, config.kl_budget, config.overlap_budget), tuple(nights),
        {name: _write(folder, name, array) for name, array in stacked.items()},
    )  # fmt: skip
    write_json(folder / NIGHT_FILE, asdict(record))


def _day(
    rng: np.random.Generator, night: int, taste: NDArray[np.float64], latents: torch.Tensor, head: Head
) -> _Day:
    """Candidates drawn from the head in use, and rewards: silence, and texts with one candidate heard."""
    texts = (night * TEXTS + np.arange(TEXTS)) % len(latents)
    logits = latents[texts].double().numpy() @ head.weight.double().numpy().T + head.bias.double().numpy()
    # float32, from above 0: the same numbers for whoever reads them.
    uniform = np.maximum(rng.random((TEXTS, GROUP, VOCAB_SIZE), np.float32), np.float32(2**-24))
    noisy = logits[:, None] - np.log(-np.log1p(-uniform.astype(np.float64)))
    tokens = np.argsort(-noisy, axis=-1, kind="stable")[..., :TOP_K]
    rewards = (taste[tokens].mean(-1) + NOISE * rng.standard_normal((TEXTS, GROUP))).round(3)
    rewards[0] = np.nan
    rewards[1:4, 1:] = np.nan
    rewards[4, 0] = np.nan
    return _Day(texts, uniform.astype(np.float64), tokens, rewards)


def _night(
    day: _Day, learned: Learned, reference: Reference
) -> tuple[Learned, NightFigures, dict[str, NDArray[Any]]]:
    """The night, its figures, and the arrays that it finds; as `PosteriorLearner`, without topics."""
    latents = reference.latents[day.texts]
    groups = Groups(torch.from_numpy(day.tokens), {"reward": torch.from_numpy(day.rewards)})
    before = learned.total.contrasts
    learned, posterior = study(latents, groups, learned, reference, {})
    made, found = Made(reference.shipped, 1.0, reference.nothing), _candidates(groups, latents, reference)
    found["likeness"] = reference.likeness(latents).numpy()
    found["taste"] = found["direction"] = np.zeros(VOCAB_SIZE)
    limit, step = None, 0.0
    if posterior is not None:
        posterior = replace(posterior, topics=None)
        found["taste"], found["direction"] = posterior.taste.numpy(), direction(posterior).numpy()
        limit = longest_step(posterior, reference)
        if posterior.gain > 0:
            made = make_head(posterior, reference)
            step = made.share * limit
    found["bias"] = made.head.bias.numpy()
    wealth, spent = learned.wealth, made.spent
    return learned, NightFigures(
        wealth=wealth.logs, peak=wealth.peak, open=wealth.reached(reference.config.gate),
        forgotten=learned.total.contrasts < before,
        contrasts=(learned.before.contrasts, learned.since.contrasts),
        width=None if posterior is None else posterior.width,
        alpha=None if posterior is None else posterior.relevance,
        noise=None if posterior is None else posterior.noise,
        gain=None if posterior is None else posterior.gain,
        log_likelihood=learned.log_likelihood, limit=limit, step=step, share=made.share,
        overlap=spent.overlap, overlap_error=spent.error, kl=spent.kl,
    ), found  # fmt: skip


def _whole(evidence: Evidence) -> NDArray[Any]:
    """(V + 2 + L, V + 2 + L): over [x m y z]."""
    with_texts = evidence.of_texts.numpy()
    above = with_texts[:, : len(evidence.products)].T
    return np.vstack([np.hstack([evidence.products.numpy(), above]), with_texts])


def _candidates(groups: Groups, latents: torch.Tensor, reference: Reference) -> dict[str, NDArray[Any]]:
    """Of each candidate, NaN where nothing was said: m, and y after step 1."""
    heard = hear(groups, reference.shipped.logits(latents), {})
    rewards = (heard.reward - heard.reward.mean())[:, None]
    found = {"relevance": heard.relevance, "advantages": Whitening(heard).apply(rewards)[:, 0]}
    said = ~groups.rewards["reward"].isnan()
    arrays = {}
    for name, values in found.items():
        arrays[name] = np.full(said.shape, np.nan)
        arrays[name][said.numpy()] = values.numpy()
    return arrays


def _write(folder: Path, name: str, array: NDArray[Any]) -> StoredArray:
    stored = array.astype(_DTYPES.get(name, "<f8"))
    (folder / f"{name}.bin").write_bytes(stored.tobytes())
    return StoredArray(f"{name}.bin", stored.dtype.name, stored.shape, fingerprint(stored))
