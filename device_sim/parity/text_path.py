"""From a text's token ids to its top 8, through the packages as they ship: what the app feels.

The other checks give each package the inputs that PyTorch computed. Here the personality model gets the
embedding that the text encoder's package gave, with its rounded weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from device_sim.parity.inputs import Texts
from device_sim.parity.report import pair
from device_sim.parity.verdict import GOLDEN
from device_sim.runtimes.runtime import Runtime, predict_rows
from personality_common.bundle.bundle import Bundle
from personality_common.bundle.stored import Array
from personality_common.contract import EMBEDDING, LOGITS, TOP_K
from personality_common.evidence.claims import Check, within
from personality_common.evidence.distances import in_common, top_indices

PARTS: Final = ("encoder", "model")
NAMES: Final = {
    "overlap": "text to top 8: mean share in common with PyTorch's",
    "worst": "text to top 8: least share in common with PyTorch's",
    "first": "text to top 8: share of texts whose first token is PyTorch's",
    "shipped": "text to top 8: mean share in common with what these weights give",
}
"""Id after `text.` -> what must hold."""


@dataclass(frozen=True)
class Wanted:
    """What texts should give: (N, 8) outputs, the greatest first; by whom; and `shipped`, what the packages'
    own weights give in PyTorch, where that is known."""

    reference: str
    top: Array
    shipped: Array | None = None


def told(checks: Sequence[Check]) -> Iterator[str]:
    """For each pair of runtimes, a line of `pt parity`."""
    own = [check for check in checks if check.id.startswith("text.")]
    for runtimes in dict.fromkeys(check.runtimes for check in own):
        found = {check.id: check for check in own if check.runtimes == runtimes}
        overlap, worst, first = (found.get(f"text.{key}") for key in ("overlap", "worst", "first"))
        if overlap is None or worst is None or first is None:
            yield f"{runtimes}: not judged: {own[0].detail}"
            continue
        yield (
            f"{runtimes}: {overlap.measured or 0:.4f} of the top 8, at worst {worst.measured or 0:g}; "
            f"first token {first.measured or 0:.0%}"
        )


def text_checks(
    bundle: Bundle,
    runtimes: tuple[Runtime, ...],
    encoded: Mapping[tuple[str, str], Array],
    texts: Texts | None,
) -> Iterator[Check]:
    """The verdict of each runtime that computes from packages.

    Args:
        encoded: (inputs, runtime) -> (N, 1536), the embeddings that the text encoder's package gave.
        texts: of --data.
    """
    record = bundle.golden.record
    top = _ranked(record.top_indices)
    if not all(map(bundle.has, PARTS)) or record.token_ids is None or top is None:
        return
    wanted = {"golden": Wanted(GOLDEN, top, _ranked(record.shipped_top_indices))}
    if texts is not None:
        wanted["texts"] = Wanted("torch", texts.top)
    for runtime in runtimes:
        for inputs, want in wanted.items():
            if runtime.name == "torch" or (embeddings := encoded.get((inputs, runtime.name))) is None:
                continue
            outputs = predict_rows(runtime.load(bundle.package("model")), {EMBEDDING: embeddings})
            yield from _judged(bundle, top_indices(outputs[LOGITS]), want, pair(runtime.name, want.reference))


def _judged(bundle: Bundle, top: Array, want: Wanted, runtimes: str) -> Iterator[Check]:
    if want.reference == GOLDEN and want.shipped is None:
        why = "the bundle is of an earlier version; export it again"
        yield Check("text.overlap", NAMES["overlap"], "not judged", why, runtimes=runtimes)
        return
    shares = in_common(top, want.top)
    found = {
        "overlap": float(shares.mean()),
        "worst": float(shares.min()),
        "first": float((top[:, 0] == want.top[:, 0]).mean()),
    }
    if want.shipped is not None:
        found["shipped"] = float(in_common(top, want.shipped).mean())
    for key, value in found.items():
        tolerance = bundle.tolerances.get(f"text-{_coarser(bundle, key)}.{key}")
        if tolerance is not None:
            detail = f"{len(top)} texts" if key != "worst" else f"text {int(shares.argmin())} of {len(top)}"
            yield within(
                f"text.{key}", NAMES[key], value, tolerance.bound, tolerance.value, detail, runtimes=runtimes
            )


def _coarser(bundle: Bundle, key: str) -> str:
    """Of the weights of the text encoder and of the model, those that decide: 8-bit ones; for what the same
    weights give, those that are computed with in float16."""
    settings = bundle.manifest.settings
    both = (settings.encoder_weights, settings.precision)
    order = ("float16", "int8", "float32") if key == "shipped" else ("int8", "float16", "float32")
    return next((weights for weights in order if weights in both), settings.encoder_weights)


def _ranked(rows: Sequence[Sequence[int]] | None) -> Array | None:
    """(N, 8); None where rows are of other lengths, which the check of golden vectors tells."""
    if rows is None or any(len(row) != TOP_K for row in rows):
        return None
    return np.array(rows)
