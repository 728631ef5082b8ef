"""Which examples train, which choose, and which are only measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from personality_common.files.fingerprint import fingerprint
from pretrain.character.records import Examples

SplitName = Literal["group", "archetype", "random"]
SPLIT_NAMES: Final = get_args(SplitName)
FOLDS: Final = 10
"""One is measured, one fits temperatures, and the rest trains."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Rows of the examples; each is in one of them."""

    train: Rows
    val: Rows
    test: Rows

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the three."""
        digest = hashlib.sha256()
        for rows in (self.train, self.val, self.test):
            digest.update(fingerprint(rows).encode())
        return digest.hexdigest()


def split(examples: Examples, by: SplitName, seed: int) -> Split:
    """Divide examples, with awareness and dominant emotion alike on all sides.

    Args:
        by: what is never divided. `group`: a cell, whose examples share their people and scene. `archetype`:
            a character, so that none of those measured was trained on. `random`: nothing.
        seed: of what is drawn.

    Raises:
        DataError: too few cells or archetypes to divide.
    """
    test, val, *rest = folds(examples, by, FOLDS, seed)
    return Split(np.sort(np.concatenate(rest)), val, test)


def folds(examples: Examples, by: SplitName, count: int, seed: int) -> list[Rows]:
    """Rows of `count` parts of about the same size; as `split`, which divides into FOLDS."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = {"group": examples.cells, "archetype": examples.archetypes, "random": None}[by]
    found = len(examples) if groups is None else len(np.unique(groups))
    if found < count:
        what = {"group": "cells", "archetype": "archetypes", "random": "examples"}[by]
        raise DataError(f"--split {by} needs {count} {what} or more, the data have {found}")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    divided = kind(count, shuffle=True, random_state=seed)
    return [part for _, part in divided.split(examples.features, _strata(examples, count), groups)]


def _strata(examples: Examples, least: int) -> Rows:
    """A number for what should be as frequent on all sides; those of fewer examples than `least` are one."""
    awareness = examples.labels[:, examples.schema.places["thought.awareness"]].argmax(axis=1)
    dominant = examples.labels[:, examples.schema.places["thought.dominant"]]
    index = dominant.argmax(axis=1) if dominant.shape[1] > 1 else dominant[:, 0].astype(np.int64)
    strata = awareness * 8 + index
    found, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    frequent = np.where(counts >= least, found, -1)
    rows: Rows = frequent[inverse].astype(np.int64)
    return rows
