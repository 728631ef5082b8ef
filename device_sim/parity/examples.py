"""The inputs on which two runtimes differ most, with what a person would see of them."""

from __future__ import annotations

import numpy as np

from device_sim.parity.report import Example
from device_sim.parity.verdict import GOLDEN, Compared
from personality_common.bundle.bundle import Bundle
from personality_common.contract import LOGITS
from personality_common.evidence.distances import top_indices

EXAMPLES = 3
"""Of each package and pair."""


def worst_examples(bundle: Bundle, compared: list[Compared]) -> tuple[Example, ...]:
    """The rows of real inputs whose logits differ most, by pair of runtimes; the worst first."""
    real = [c for c in compared if c.suite.ranked and c.record.feature == LOGITS]
    pairs = dict.fromkeys((c.record.value, c.record.reference) for c in real)
    examples: list[Example] = []
    for pair in pairs:
        if pair[1] == GOLDEN and len(pairs) > 1 and any(other != GOLDEN for _, other in pairs):
            continue  # two runtimes say more, on more texts
        own = [c for c in real if (c.record.value, c.record.reference) == pair]
        rows = [(float(d), c, i) for c in own for i, d in enumerate(_row_errors(c))]
        rows.sort(key=lambda row: -row[0])
        examples += [_example(bundle, c, i) for _, c, i in rows[:EXAMPLES]]
    return tuple(examples)


def _row_errors(compared: Compared) -> list[float]:
    difference = np.abs(compared.value.astype(np.float64) - compared.reference.astype(np.float64))
    return [float(d) for d in np.nan_to_num(difference, nan=np.inf).max(axis=1)]


def _example(bundle: Bundle, compared: Compared, row: int) -> Example:
    value, reference = compared.value[row], compared.reference[row]
    worst = int(np.nan_to_num(np.abs(value - reference), nan=np.inf).argmax())
    tokens = bundle.vocabulary.tokens
    tops = [tuple(tokens[i] for i in top_indices(side[None])[0]) for side in (value, reference)]
    texts = compared.suite.texts
    record = compared.record
    return Example(
        record.package,
        record.value,
        record.reference,
        record.inputs,
        row,
        texts[row] if texts else None,
        float(abs(float(value[worst]) - float(reference[worst]))),
        tokens[worst],
        (float(value[worst]), float(reference[worst])),
        (tops[0], tops[1]),
    )
