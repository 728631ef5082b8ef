"""`golden/night/night.json`: some nights of the default learner, worked out, which an app's tests repeat.

The exporter writes it from these types; `golden_night.schema.json`, beside this file, says what each key is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from personality_common.bundle.stored import Array, StoredArray
from personality_common.contract import TOP_K
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object
from personality_common.files.typed import from_json

GOLDEN_NIGHT_SCHEMA: Final = 2
"""Nights of schema 1 are of a learner that did not ask what texts are liked for."""


@dataclass(frozen=True)
class NightSettings:
    """Of the learner: what opens the gate, and what a head may spend."""

    gate: float
    kl_budget: float
    overlap_budget: float


@dataclass(frozen=True)
class NightFigures:
    """What a night finds, step by step.

    Attributes:
        wealth, peak: of the gate, a logarithm for each stake, and the greatest ever of their mean.
        open: whether the gate is, after this night.
        forgotten: whether the nights before were.
        contrasts: of the evidence that counts, (before, since).
        width: of the prior; None while the gate is closed, 0 if the feedback is likelier without a taste.
        alpha, noise, gain, log_likelihood: of the posterior; `log_likelihood` is that of `before`.
        limit, step, share: the longest step that is worth it, the one taken, and step / limit.
        overlap, overlap_error, kl: what the head has spent on the reference.
    """

    wealth: tuple[float, ...]
    peak: float
    open: bool
    forgotten: bool
    contrasts: tuple[int, int]
    width: float | None
    alpha: float | None
    noise: float | None
    gain: float | None
    log_likelihood: float | None
    limit: float | None
    step: float
    share: float
    overlap: float
    overlap_error: float
    kl: float


@dataclass(frozen=True)
class GoldenNightRecord:
    """The content of `night.json`; arrays lie beside it.

    Attributes:
        nights: one after the other; each starts from what the one before left.
    """

    schema: Literal[1, 2]
    learner: str
    settings: NightSettings
    nights: tuple[NightFigures, ...]
    arrays: dict[str, StoredArray]


@dataclass(frozen=True)
class GoldenNight:
    """The record with its arrays.

    Attributes:
        arrays: of M nights of T texts with G candidates each, over V tokens, with L likenesses: `texts`
            (M, T), rows of the bundle's reference; `uniform` (M, T, G, V); `tokens` (M, T, G, 8); `rewards`,
            `relevance`, `advantages` (M, T, G), NaN where nothing was said; `likeness` (M, T, L); `evidence`
            (V + 2 + L, V + 2 + L), of the first night; `taste`, `direction`, `bias` (M, V). Of schema 1
            there is no `likeness`, and L is 0.
    """

    record: GoldenNightRecord
    arrays: Mapping[str, Array]


def read_golden_night(path: Path) -> GoldenNight:
    """Read golden nights.

    Args:
        path: `night.json`.

    Raises:
        DataError: a file is missing or malformed, or an array has not the shape that the others ask for.
    """
    record = from_json(GoldenNightRecord, read_json_object(path), str(path))
    arrays = {name: array.read(path.parent) for name, array in record.arrays.items()}
    if (uniform := arrays.get("uniform", np.zeros(0))).ndim != 4:
        raise DataError(f"{path}: uniform must be (nights, texts, candidates, tokens), is {uniform.shape}")
    nights, texts, group, tokens = uniform.shape
    shapes: dict[str, tuple[int, ...]] = {"texts": (nights, texts), "tokens": (nights, texts, group, TOP_K)}
    shapes |= dict.fromkeys(("rewards", "relevance", "advantages"), (nights, texts, group))
    shapes |= dict.fromkeys(("taste", "direction", "bias"), (nights, tokens))
    size = tokens + 2
    if record.schema > 1:
        likenesses = arrays["likeness"].shape[-1] if "likeness" in arrays else 0
        shapes["likeness"], size = (nights, texts, likenesses), size + likenesses
    shapes["evidence"] = (size, size)
    for name, wanted in shapes.items():
        found = arrays[name].shape if name in arrays else None
        if found != wanted or len(record.nights) != nights:
            raise DataError(f"{path}: {name} must be {wanted} of {len(record.nights)} nights, is {found}")
    return GoldenNight(record, arrays)
