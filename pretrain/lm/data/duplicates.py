"""Documents that say nearly the same: MinHash by datasketch, candidates by bands of equal hashes.

The signatures lie in a file and bands are compared one at a time, so that a document takes some tens of bytes
of memory, where an index of all bands would take kilobytes.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pretrain.lm.chat import Document
from pretrain.lm.data.documents import GIVEN, said
from pretrain.lm.tokenizer import import_extra

SHINGLE: Final = 5
"""Words; of a shorter document, all of them."""
BANDS: Final = 16
ROWS: Final = 8
"""Two documents of similarity 0.8 share a band of 8 hashes with probability 0.95, of 0.9 with 0.9999, of 0.5
with 0.06."""
SIMILAR: Final = 0.8
"""Share of equal hashes from which on the later of two documents is left out; it estimates the Jaccard
similarity of their sets of shingles."""
HASHES: Final = BANDS * ROWS
_BATCH: Final = 4_096
"""Shingles at a time, each of which is 128 hashes."""
_DTYPE: Final = np.dtype("<u4")
_WORD: Final = re.compile(r"\w+")


class Signatures:
    """Signatures of documents, in a file in their order."""

    def __init__(self, path: Path) -> None:
        """Start a new file.

        Raises:
            ToolkitError: datasketch is not installed.
        """
        self._min_hash: Any = import_extra("datasketch").MinHash
        # The scheme is named, since what is dropped must not change with the library's default.
        empty = self._min_hash(num_perm=HASHES, scheme="affine32")
        self._permutations = empty.permutations
        self._path = path
        self._file = path.open("wb")
        self.count = 0

    def add(self, document: Document) -> None:
        """Append a document's signature."""
        signature = self._min_hash(
            num_perm=HASHES, scheme="affine32", permutations=self._permutations, hashfunc=_hash32
        )
        runs = shingles(document)
        for start in range(0, len(runs), _BATCH):
            signature.update_batch(runs[start : start + _BATCH])
        self._file.write(signature.hashvalues.astype(_DTYPE).tobytes())
        self.count += 1

    def close(self) -> None:
        """Close the file, whatever became of it."""
        self._file.close()

    def near_duplicates(self) -> NDArray[np.bool_]:
        """(documents,) whether each is similar to an earlier one, be that one left out or not."""
        self.close()
        found = np.zeros(self.count, bool)
        if not self.count:
            return found
        signatures = np.memmap(self._path, _DTYPE, "r", shape=(self.count, HASHES))
        for band in range(BANDS):
            for members in _equal(np.array(signatures[:, band * ROWS : (band + 1) * ROWS])):
                _compare(signatures, members, found)
        return found


def shingles(document: Document) -> list[bytes]:
    """Runs of five words, with the perspective before each; in no particular order, none twice."""
    words = _WORD.findall(said(document).lower())
    tag = document.perspective or ""
    runs = {" ".join([tag, *words[i : i + SHINGLE]]) for i in range(max(1, len(words) - SHINGLE + 1))}
    return [run.encode() for run in runs]


def _hash32(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")


def _equal(band: NDArray[np.uint32]) -> list[NDArray[np.int64]]:
    """Groups of two or more rows that are equal (or, once in 2^64, seem so), each in ascending order."""
    multipliers = np.random.default_rng(0).integers(1, 1 << 63, ROWS, np.uint64) | np.uint64(1)
    keys = (band.astype(np.uint64) * multipliers).sum(axis=1, dtype=np.uint64)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    return [group for group in np.split(order, starts) if len(group) > 1]


def _compare(signatures: NDArray[np.uint32], members: NDArray[np.int64], found: NDArray[np.bool_]) -> None:
    while len(members) > 1:
        first, rest = members[0], members[1:]
        similar = (signatures[rest] == signatures[first]).mean(axis=1) >= SIMILAR
        found[rest[similar]] = True
        members = rest[~similar]


def exact_key(document: Document) -> str:
    """What is equal for documents that say the same under the same tag."""
    roles = " ".join(turn.role for turn in document.turns if turn.role not in GIVEN)
    return f"{document.perspective}\0{roles}\0{said(document)}"
