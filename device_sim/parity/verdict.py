"""From comparisons to verdicts: which tolerance holds for what, and the words that say where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from device_sim.parity.inputs import Suite
from device_sim.parity.report import Comparison
from personality_common.bundle.bundle import Bundle, Part
from personality_common.bundle.stored import Array
from personality_common.contract import LATENT, LOGITS
from personality_common.evidence.claims import Check, within
from personality_common.evidence.tolerances import Tolerance

GOLDEN: Final = "golden"


@dataclass(frozen=True)
class Compared:
    """A comparison with what it was made of."""

    record: Comparison
    suite: Suite
    value: Array
    reference: Array


def verdicts(bundle: Bundle, part: Part, compared: list[Compared]) -> Iterator[Check]:
    """Every check of one package between one pair of runtimes."""
    if part.name == "encoder":
        yield from _encoder(bundle, part, compared)
    else:
        yield from _personality(bundle, part, compared)
    yield _nonfinite(part, compared)


def _personality(bundle: Bundle, part: Part, compared: list[Compared]) -> Iterator[Check]:
    for feature in (LATENT, LOGITS):
        own = [c for c in compared if c.record.feature == feature]
        tolerance = bundle.tolerances.get(_tolerance(part, own, feature))
        if not own or tolerance is None:
            continue
        plain = [c for c in own if not c.suite.hostile]
        name = f"{feature}: max |difference|"
        yield _worst(bundle, part, plain, tolerance, "max_abs", name)
        hostile = [c for c in own if c.suite.hostile]
        if hostile:
            name = f"{feature}, hostile inputs: max |difference| / max(1, |{feature}|)"
            yield _worst(bundle, part, hostile, tolerance, "scaled_abs", name)
    ranked = [c for c in compared if c.record.feature == LOGITS and c.suite.ranked]
    tolerance = bundle.tolerances.get(f"{'float16' if _rounded_head(part, ranked) else part.precision}.top8")
    if ranked and tolerance is not None:
        yield _worst(bundle, part, ranked, tolerance, "top8", "top 8: mean share in common")


def _tolerance(part: Part, compared: list[Compared], feature: str) -> str:
    if feature == LOGITS and part.precision == "float32" and _rounded_head(part, compared):
        return "state.logits"
    return f"{part.precision}.{feature}"


def _rounded_head(part: Part, compared: list[Compared]) -> bool:
    """State buffers hold the head in float16, whatever the program computes in; golden logits do not."""
    return part.name == "stateful" and any(c.record.reference == GOLDEN for c in compared)


def _encoder(bundle: Bundle, part: Part, compared: list[Compared]) -> Iterator[Check]:
    weights = bundle.manifest.settings.encoder_weights
    tolerance = bundle.tolerances.get(f"encoder-{weights}.cosine")
    if tolerance is None:
        return
    measure = "mean_cosine" if tolerance.measure.startswith("mean") else "cosine"
    for feature in dict.fromkeys(c.record.feature for c in compared):
        own = [c for c in compared if c.record.feature == feature and c.suite.ranked]
        if own:
            what = "mean cosine" if measure == "mean_cosine" else "least cosine"
            yield _worst(bundle, part, own, tolerance, measure, f"{feature}: {what}")


def _worst(
    bundle: Bundle, part: Part, compared: list[Compared], tolerance: Tolerance, measure: str, name: str
) -> Check:
    """Of several sets of inputs, the one that does worst; rows that are not finite are checked elsewhere."""
    known = [(getattr(c.record.measures, measure), c) for c in compared]
    known = [(value, c) for value, c in known if value is not None]
    value, detail = None, "no row is finite on both sides"
    if known:
        value, worst = (max if tolerance.bound == "<=" else min)(known, key=lambda item: item[0])
        detail = _where(bundle, worst)
        if measure == "top8":
            detail = f"{worst.suite.name}, {worst.record.measures.rows} rows"
    record = compared[0].record
    id = f"{record.feature}.{measure.replace('_', '-')}"
    return within(
        id, name, value, tolerance.bound, tolerance.value, detail, package=part.file, runtimes=record.runtimes
    )


def _nonfinite(part: Part, compared: list[Compared]) -> Check:
    total = sum(c.record.measures.nonfinite for c in compared)
    bad = [c for c in compared if c.record.measures.nonfinite]
    detail = ""
    if bad:
        first = bad[0]
        rows = np.flatnonzero((np.isfinite(first.value) != np.isfinite(first.reference)).any(axis=1))
        detail = (
            f"{first.record.feature} of {first.suite.name}, row {rows[0]}: "
            f"{np.isfinite(first.value[rows[0]]).sum()} of {first.value.shape[1]} finite in "
            f"{first.record.value}, {np.isfinite(first.reference[rows[0]]).sum()} in {first.record.reference}"
        )
    return within(
        "finite", "NaN and infinity in the same places", total, "<=", 0, detail,
        unit="values", package=part.file, runtimes=compared[0].record.runtimes,
    )  # fmt: skip


def _where(bundle: Bundle, compared: Compared) -> str:
    measures = compared.record.measures
    row, column = measures.worst_row, measures.worst_column
    assert row is not None
    assert column is not None
    flat = (
        compared.value.reshape(len(compared.value), -1),
        compared.reference.reshape(len(compared.value), -1),
    )
    element = f"{compared.record.feature}[{column}]"
    if compared.record.feature == LOGITS:
        element = f"token {column} {bundle.vocabulary.tokens[column]!r}"
    return (
        f"{compared.suite.name}, row {row}, {element}: {flat[0][row, column]:.6g} against "
        f"{flat[1][row, column]:.6g}"
    )
