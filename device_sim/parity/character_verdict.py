"""What a character predictor's runtimes are compared on, how closely, and the words for what differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sim.parity.character_models import FILES, Rows
from device_sim.parity.config import ParityConfig
from device_sim.parity.report import pair
from personality_common.errors import ConfigError, DataError
from personality_common.evidence.claims import Check, within
from personality_common.evidence.tolerances import Tolerance
from pretrain.character.bundle.folder import Folder
from pretrain.character.bundle.manifest import GOLDEN_FILE
from pretrain.character.features import require_finite
from pretrain.character.schema import FEATURES, Schema
from pretrain.character.synthesis import example_features

CHARACTERS: Final = 900
EXTREMES: Final = 20
"""Rows of each kind."""
SEED: Final = 7

_LIMITS: Final = (
    ("float32", 1e-4, 1.0, "sums of 453 products in another order differ by 1e-5 at most"),
    ("float16", 0.5, 0.98, "logits of up to 100, 0.06 apart there, after three layers"),
    ("int8", 3.0, 0.98, "a scale per row leaves 8 bits; what counts is answers, as at the export"),
)
TOLERANCES: Final = (
    *(Tolerance(f"{p}.outputs", p, "max |difference| of a head", "<=", x, why) for p, x, _, why in _LIMITS),
    *(Tolerance(f"{p}.answers", p, "share of equal answers", ">=", x, why) for p, _, x, why in _LIMITS),
)


@dataclass(frozen=True)
class Inputs:
    """Rows that all runtimes are given; `golden`: what PyTorch gave for them at export."""

    name: str
    features: Rows
    golden: Rows | None = None
    hostile: bool = False


@dataclass(frozen=True)
class Compared:
    """What two runtimes gave for some inputs, (n, 42 or 49) each."""

    value: str
    reference: str
    inputs: Inputs
    ours: Rows
    theirs: Rows

    @property
    def package(self) -> str:
        return FILES[self.value]


def limits_of(config: ParityConfig, precision: str) -> dict[str, float]:
    """`outputs` and `answers`, tightened as asked; ConfigError for one unknown, or wider."""
    own = {t.name: t for t in TOLERANCES if t.applies_to == precision}
    limits = {name: tolerance.value for name, tolerance in own.items()}
    for name, value in config.tolerances:
        if name not in own:
            raise ConfigError(f"--tolerance must name one of {', '.join(own)}; got {name!r}")
        if not own[name].holds(value):
            raise ConfigError(
                f"--tolerance {name} can only be tightened: it is {own[name].bound} {own[name].value:g}, "
                f"got {value:g}"
            )
        limits[name] = value
    return {name.partition(".")[2]: value for name, value in limits.items()}


def all_inputs(schema: Schema) -> Iterator[Inputs]:
    """1,000 rows and one."""
    yield Inputs("characters", example_features(schema, CHARACTERS, SEED))
    yield Inputs("one character", example_features(schema, 1, SEED + 1))
    draw = np.random.default_rng(SEED).uniform(-1, 1, (EXTREMES, FEATURES)).astype(np.float32)
    yield Inputs("random", draw)
    for name, extreme in (
        ("zeros", np.zeros_like(draw)),
        ("all of the largest", np.full_like(draw, 255)),
        ("denormals", (draw * np.float32(1e-40)).astype(np.float32)),
        # Within float16: a Core ML package of that precision takes no more than 65,504.
        ("ten thousand times too large", (draw * np.float32(1e4)).astype(np.float32)),
    ):
        yield Inputs(f"extreme: {name}", extreme, hostile=True)


def golden_inputs(folder: Folder) -> Inputs:
    """The worked examples; DataError if they are malformed."""
    path, rows = folder.path / GOLDEN_FILE, folder.golden()
    try:
        features = np.array([row["features"] for row in rows], np.float32)
        outputs = np.array([row["outputs"] for row in rows], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: rows are malformed: {error!r:.100}") from None
    wanted = (len(rows), FEATURES), (len(rows), folder.schema.size)
    if (features.shape, outputs.shape) != wanted:
        raise DataError(
            f"{path}: features and outputs must be {wanted}, are {features.shape}, {outputs.shape}"
        )
    for key, values in (("features", features), ("outputs", outputs)):
        for number, row in enumerate(values):
            require_finite(row, f"{path}: rows[{number}].{key}")
    return Inputs("golden", features, outputs)


def verdicts(schema: Schema, limits: dict[str, float], own: list[Compared]) -> Iterator[Check]:
    """Of one pair: each head, and the answers."""
    runtimes, package = pair(own[0].value, own[0].reference), own[0].package
    for head, place in schema.heads.items():
        worst, detail = 0.0, ""
        for c in own:
            ours, theirs = (rows[:, place].astype(np.float64) for rows in (c.ours, c.theirs))
            difference = np.abs(ours - theirs)
            if c.inputs.hostile:
                difference /= np.maximum(1.0, np.abs(theirs).max(axis=1, keepdims=True))
            row, column = np.unravel_index(int(difference.argmax()), difference.shape)
            if not difference[row, column] <= worst:
                worst = float(difference[row, column])
                detail = (
                    f"{c.inputs.name}, row {row}, {_label(schema, place.start + int(column))}: "
                    f"{ours[row, column]:.6g} against {theirs[row, column]:.6g}"
                )
        name = f"{head}: max |difference|, of extremes relative to the row's largest"
        yield within(
            f"{head}.max-abs",
            name,
            worst,
            "<=",
            limits["outputs"],
            detail,
            package=package,
            runtimes=runtimes,
        )
    share, detail = 1.0, ""
    for output in schema.of_kind("class", "binary"):
        place = schema.places[output.key]
        same = [_same(c.ours[:, place], c.theirs[:, place], output.kind, limits["outputs"]) for c in own]
        found = float(np.concatenate(same).mean())
        if found < share:
            share = found
            c, rows = next((c, s) for c, s in zip(own, same, strict=True) if not s.all())
            detail = f"{output.key}, first in {c.inputs.name}, row {int(rows.argmin())}"
    yield within(
        "answers",
        "share of equal answers",
        share,
        ">=",
        limits["answers"],
        detail,
        package=package,
        runtimes=runtimes,
    )


def _same(ours: Rows, theirs: Rows, kind: str, apart: float) -> NDArray[np.bool_]:
    """(n,) whether both take the same class, or the same side of 0.

    Where the reference itself has the two likeliest closer than runtimes may differ, either is right.
    """
    same: NDArray[np.bool_]
    if kind == "binary":
        same = (((ours > 0) == (theirs > 0)) | (np.abs(theirs) <= apart)).all(axis=1)
    else:
        lead = theirs.max(axis=1) - theirs[np.arange(len(ours)), ours.argmax(axis=1)]
        same = np.less_equal(lead, 2 * apart)
    return same


def _label(schema: Schema, column: int) -> str:
    names = [f"{output.key} {label}" for output in schema.outputs for label in output.labels]
    return names[column]
