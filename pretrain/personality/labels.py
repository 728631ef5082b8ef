"""What people say of the training texts, mixed into what the teacher says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from personality_common.contract import VOCAB_SIZE

MOST_WEIGHT: Final = 4.0
"""Of a text: a rare label's counts for at most so many, a frequent one's for at least one in so many."""


@dataclass(frozen=True)
class LabelMix:
    """Labels of training texts, and how much they count.

    Attributes:
        weight: W, above 0 and at most 1.
        pairs: (M, 2) int64, each a labelled text's row and a token's position; sorted and distinct.
    """

    weight: float
    pairs: NDArray[np.int64]

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(n,) the labelled texts' rows, sorted."""
        return np.unique(self.pairs[:, 0])

    @cached_property
    def spoken(self) -> Tensor:
        """(325,) bool: whether any text has this label."""
        return torch.from_numpy(self._counts > 0)

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        return np.bincount(self.pairs[:, 1], minlength=VOCAB_SIZE)

    @cached_property
    def _text_weights(self) -> NDArray[np.float32]:
        """(n,) mean of N / (K n_j) over a text's labels j, of which n_j of N pairs are; K are in use."""
        label_weights = len(self.pairs) / (np.count_nonzero(self._counts) * self._counts.clip(min=1))
        at = np.searchsorted(self.rows, self.pairs[:, 0])
        sums = np.bincount(at, label_weights[self.pairs[:, 1]])
        return (sums / np.bincount(at)).clip(1 / MOST_WEIGHT, MOST_WEIGHT).astype(np.float32)

    def targets(self, rows: NDArray[np.int64], teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the labels of some texts into their targets.

        Args:
            rows: (N,) of the texts, labelled or not.
            teacher: (N, 325) what the teacher says of them.

        Returns:
            (N, 325): `(1 - W) teacher + W label` for a labelled text's tokens of which any label of the data
            speaks, `teacher` for all others; and (N,) how much each text counts, 1 where it has no label.
        """
        labelled = np.isin(rows, self.rows)
        label = self._label(rows)
        weights = np.ones(len(rows), np.float32)
        weights[labelled] = self._text_weights[np.searchsorted(self.rows, rows[labelled])]
        mixed = torch.lerp(teacher, label.to(teacher.device), self.weight)
        speaks = torch.from_numpy(labelled)[:, None] & self.spoken
        return torch.where(speaks.to(teacher.device), mixed, teacher), torch.from_numpy(weights).to(
            teacher.device
        )

    def shares(self, rows: NDArray[np.int64]) -> Tensor:
        """(N, 325): of labelled texts, 1 over the number of their labels for each of them."""
        label = self._label(rows)
        return label / label.sum(dim=1, keepdim=True)

    def _label(self, rows: NDArray[np.int64]) -> Tensor:
        """(N, 325): 1 for a text's labels."""
        label = np.zeros((len(rows), VOCAB_SIZE), np.float32)
        starts, ends = (np.searchsorted(self.pairs[:, 0], rows, side=side) for side in ("left", "right"))
        for at in (ends > starts).nonzero()[0]:
            label[at, self.pairs[starts[at] : ends[at], 1]] = 1
        return torch.from_numpy(label)
