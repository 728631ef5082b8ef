"""The vectors of one user's chunks, in memory, to compare others with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS: Final = 16384
"""Rows that are kept together: what grows by blocks is never copied. 25 MB, of which the system gives what is
written to; with a quarter of them a search of 100,000 takes a sixth longer."""


class Vectors:
    """Rows in the order of their ids, which rise; a row can be shown, hidden, or gone."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._blocks: list[NDArray[np.float32]] = []
        self._ids = np.empty(0, np.int64)
        self._shown = np.empty(0, bool)
        self._rows = 0

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,) of all rows, those that are gone too."""
        return self._ids[: self._rows]

    def append(self, ids: NDArray[np.int64], vectors: NDArray[Any], shown: NDArray[np.bool_]) -> None:
        """Add rows: (n,) ids above all others, (n, dim) vectors of any float, (n,) whether they are shown."""
        end = self._rows + len(ids)
        while len(self._blocks) * BLOCK_ROWS < end:
            self._blocks.append(np.empty((BLOCK_ROWS, self._dim), np.float32))
        if end > len(self._ids):
            room = len(self._blocks) * BLOCK_ROWS
            self._ids = np.concatenate([self.ids, np.empty(room - self._rows, np.int64)])
            self._shown = np.concatenate([self._shown[: self._rows], np.empty(room - self._rows, bool)])
        self._ids[self._rows : end] = ids
        self._shown[self._rows : end] = shown
        done = 0
        while done < len(ids):
            block, row = divmod(self._rows + done, BLOCK_ROWS)
            count = min(len(ids) - done, BLOCK_ROWS - row)
            self._blocks[block][row : row + count] = vectors[done : done + count]
            done += count
        self._rows = end

    def place(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) ids -> (n,) rows, -1 for one that is not here."""
        if not self._rows:
            return np.full(len(ids), -1, np.int64)
        rows = np.searchsorted(self.ids, ids).clip(max=self._rows - 1)
        return np.where(self.ids[rows] == ids, rows, -1)

    def vector(self, row: int) -> NDArray[np.float32]:
        """(dim,)."""
        found: NDArray[np.float32] = self._blocks[row // BLOCK_ROWS][row % BLOCK_ROWS]
        return found

    def show(self, row: int, shown: bool) -> None:
        self._shown[row] = shown

    def remove(self, row: int) -> None:
        self._shown[row] = False
        self.vector(row)[:] = 0

    def scores(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """(dim,) -> (N,) cosines, minus infinity where a row is not shown."""
        found = np.empty(self._rows, np.float32)
        for first, block in self._filled():
            np.dot(block, vector, out=found[first : first + len(block)])
        found[~self._shown[: self._rows]] = -np.inf
        return found

    def near(self, vectors: NDArray[np.float32], least: float) -> Iterator[tuple[int, int]]:
        """Of (n, dim) vectors, which has a cosine of at least `least` to which row, hidden ones too."""
        for first, block in self._filled():
            for number, row in np.argwhere(vectors @ block.T >= least):
                yield int(number), first + int(row)

    def _filled(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for number, block in enumerate(self._blocks):
            first = number * BLOCK_ROWS
            if first < self._rows:
                yield first, block[: self._rows - first]
