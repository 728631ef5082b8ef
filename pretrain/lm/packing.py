"""Documents -> rows of one length, several documents in each, for a decoder that keeps them apart.

A document's token is an input where the next one is a target; so a document of n tokens takes n - 1 places.
One that is longer than a row is cut, and each of its targets still stands in exactly one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretrain.lm.chat import PAD_ID

OPEN_ROWS: Final = 256
"""That wait for a document that fits. Memory does not grow with the data, and rows are more than 98% full
where most documents are shorter than a third of one."""
NO_TARGET: Final = PAD_ID
"""Stands where nothing is to be learned; padding is never a target."""
INPUTS, TARGETS, DOCUMENTS, WEIGHTS = range(4)
"""Of the second axis of rows."""
WEIGHT_UNIT: Final = 1_000
"""In rows, of a target that counts 1."""

Encoded = tuple[list[int], Sequence[float]]
"""Ids of a document, and for each how much it counts that the model learns to say it; 0 for not at all."""


@dataclass
class Fill:
    """What packing made of documents.

    Attributes:
        documents: packed.
        cut: of them, longer than a row.
        rows: made.
        places: taken by inputs.
        targets: that bear loss.
        length: places of a row.
    """

    length: int
    documents: int = 0
    cut: int = 0
    rows: int = 0
    places: int = 0
    targets: int = 0

    @property
    def rate(self) -> float:
        """Share of the places that are taken."""
        return self.places / (self.rows * self.length) if self.rows else 0.0


def pieces(encoded: Encoded, length: int) -> Iterator[NDArray[np.uint16]]:
    """(3, n) of a document, inputs, targets, weights, n at most `length`; without a target it is left out."""
    ids, counts = encoded
    tokens = np.array(ids, np.uint16)
    weights = (np.array(counts[1:], np.float64) * WEIGHT_UNIT).round().astype(np.uint16)
    whole = np.stack((tokens[:-1], np.where(weights > 0, tokens[1:], np.uint16(NO_TARGET)), weights))
    for start in range(0, whole.shape[1], length):
        piece = whole[:, start : start + length]
        if piece[2].any():
            yield piece


def pack(documents: Iterable[Encoded], length: int, fill: Fill) -> Iterator[NDArray[np.uint16]]:
    """Put each piece where it leaves the least room, among the rows that wait (best fit).

    Args:
        documents: each in ids below 65,536.
        length: places of a row.
        fill: counts what happens.

    Yields:
        (4, length): inputs, targets (NO_TARGET where nothing is to be learned), a number for each document,
        from 0 on, and weights; what is left over is one more document, of padding.
    """
    # By the room that is left; rows of equal room in the order in which they came to it.
    waiting: dict[int, list[list[NDArray[np.uint16]]]] = {}
    count = 0
    for encoded in documents:
        fill.documents += 1
        fill.cut += len(encoded[0]) - 1 > length
        for piece in pieces(encoded, length):
            size = piece.shape[1]
            fill.places += size
            fill.targets += int(piece[2].astype(bool).sum())
            room = min((room for room in waiting if room >= size), default=length)
            row = _take(waiting, room) if room in waiting else []
            count += not row
            row.append(piece)
            if room == size:
                count -= 1
                fill.rows += 1
                yield _row(row, length)
            else:
                waiting.setdefault(room - size, []).append(row)
            if count > OPEN_ROWS:
                count -= 1
                fill.rows += 1
                yield _row(_take(waiting, min(waiting)), length)
    for room in sorted(waiting):
        for row in waiting[room]:
            fill.rows += 1
            yield _row(row, length)


def _take(waiting: dict[int, list[list[NDArray[np.uint16]]]], room: int) -> list[NDArray[np.uint16]]:
    rows = waiting[room]
    row = rows.pop(0)
    if not rows:
        del waiting[room]
    return row


def _row(row: list[NDArray[np.uint16]], length: int) -> NDArray[np.uint16]:
    made = np.zeros((4, length), np.uint16)
    made[INPUTS], made[TARGETS], made[DOCUMENTS] = PAD_ID, NO_TARGET, len(row)
    place = 0
    for number, piece in enumerate(row):
        part = slice(place, place + piece.shape[1])
        made[INPUTS, part], made[TARGETS, part], made[WEIGHTS, part] = piece
        made[DOCUMENTS, part] = number
        place = part.stop
    return made


def write_rows(rows: Iterable[NDArray[np.uint16]], path: Path) -> None:
    """Write rows one after the other."""
    with path.open("wb") as file:
        for row in rows:
            file.write(row.tobytes())


def open_rows(path: Path, length: int) -> NDArray[np.uint16]:
    """(rows, 4, length) of a file of rows, which stay on the disk."""
    if not path.stat().st_size:
        return np.zeros((0, 4, length), np.uint16)
    return np.memmap(path, np.uint16, "r").reshape(-1, 4, length)


class Order:
    """Which rows a step takes: all of them, shuffled anew for each pass.

    A row's place depends on seed and number alone, so a run goes on anywhere.

    Args:
        rows: how many there are, 1 or more.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._pass, self._order = -1, np.zeros(0, np.int64)

    def __call__(self, start: int, count: int) -> NDArray[np.int64]:
        """Indices of the rows that are number `start` and on, counted through all passes."""
        return np.array([self._at(number) for number in range(start, start + count)], np.int64)

    def _at(self, number: int) -> int:
        turn, place = divmod(number, self.rows)
        if turn != self._pass:
            self._pass, self._order = turn, np.random.default_rng((self.seed, turn)).permutation(self.rows)
        return int(self._order[place])
