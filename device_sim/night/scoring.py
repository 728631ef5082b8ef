"""Answers that were decoded, against what they should be: no model judges another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

ORDERS: Final = range(1, 7)
BETA: Final = 1.0


def chrf(answer: str, wanted: str) -> float:
    """How much of a text another has, 0 to 1: the F1 of n-grams of 1 to 6 characters, spaces left out.

    Source: Popović, chrF: character n-gram F-score for automatic MT evaluation, 2015; means of precision and
    of recall over the orders that both texts are long enough for. The paper prefers F2, for translations,
    whose length is given; of answers that would praise the long ones.
    """
    precisions, recalls = [], []
    first, second = "".join(answer.split()), "".join(wanted.split())
    for n in ORDERS:
        found, there = _grams(first, n), _grams(second, n)
        if not found or not there:
            continue
        same = (found & there).total()
        precisions.append(same / found.total())
        recalls.append(same / there.total())
    if not precisions or not sum(precisions) + sum(recalls):
        return 0.0
    precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def relevance(
    asked: Sequence[str], answers: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> list[float]:
    """Cosine of each answer to what it answers; an empty answer has 0.

    What a night of answers to other questions ruins, however likely it makes them.
    """
    if not asked:
        return []
    cosines = (embed(list(asked)) * embed([answer.strip() or "-" for answer in answers])).sum(axis=1)
    return [float(c) if answer.strip() else 0.0 for c, answer in zip(cosines, answers, strict=True)]


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
