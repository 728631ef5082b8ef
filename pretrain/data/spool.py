"""What a process has read, on disk: texts, and an entry for each, in the order of keys in the end.

A text takes no memory: what is held is a run of entries, sorted before it goes to disk, and then a range of
keys, merged from all runs.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from pretrain.data.conversations import RECORD_BITS
from pretrain.data.keys import KEY_DTYPE

RUN_TEXTS: Final = 1 << 18
"""Entries in memory at a time: 11 MB, and twice that while they are sorted."""

_ENTRY: Final = np.dtype(
    [("key", KEY_DTYPE), ("place", "<i8"), ("held_out", "?"), ("start", "<i8"), ("end", "<i8")]
)
_PACKED: Final = struct.Struct("<16sq?qq")


class TextSpool:
    """Texts in nameless files, which are gone when the process is, however it ends.

    First texts are added, then `sort` is called, once; what else there is comes after that.

    Attributes:
        repeats: of texts that had been added before, how many were found by now, by the part of their record;
            all after `sort`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts, self._entries = _nameless(folder), _nameless(folder)
        self.repeats: Counter[int] = Counter()
        self._waiting = bytearray()
        self._end = 0
        self._runs = [0]
        """Where each run ends among the entries, after 0."""

    def __len__(self) -> int:
        return self._runs[-1] + len(self._waiting) // _ENTRY.itemsize

    def add(self, text: str, key: bytes, place: int, held_out: bool) -> None:
        """Raises OSError: no space."""
        start = self._end
        self._end += self._texts.write(text.encode())
        self._waiting += _PACKED.pack(key, place, held_out, start, self._end)
        if len(self._waiting) == RUN_TEXTS * _ENTRY.itemsize:
            self._end_run()

    def sort(self, edges: NDArray[np.bytes_]) -> list[int]:
        """Put the entries in the order of their keys, of each key the first that was added.

        Args:
            edges: (n,) the least key of each of some ranges, rising; that of the first is the least there is.

        Returns:
            n + 1 numbers: which entry is the first of each range; and how many there are.

        Raises OSError: no space.
        """
        self._end_run()
        self._texts.flush()
        # (runs, n + 1), where each range begins in each run.
        begins = np.stack(
            [
                np.append(start + np.searchsorted(self.entries(start, end)["key"], edges), end)
                for start, end in pairwise(self._runs)
            ]
        )
        merged, bounds = _nameless(self._folder), [0]
        for starts, ends in pairwise(begins.T):
            runs = zip(starts.tolist(), ends.tolist(), strict=True)
            entries = self._distinct(np.concatenate([self.entries(start, end) for start, end in runs]))
            merged.write(entries.tobytes())
            bounds.append(bounds[-1] + len(entries))
        merged.flush()
        self._entries.close()
        self._entries = merged
        return bounds

    def entries(self, start: int, end: int) -> NDArray[np.void]:
        """Fields: `key`; `place` of the record; `held_out`, whether for validation; `start`, which grows as
        texts are added, and `end` of the text in the file."""
        size = _ENTRY.itemsize
        return np.frombuffer(os.pread(self._entries.fileno(), (end - start) * size, start * size), _ENTRY)

    def field(self, name: str, chosen: NDArray[np.bool_]) -> NDArray[Any]:
        """One field of the entries where `chosen` (n,)."""
        values, filled = np.empty(np.count_nonzero(chosen), _ENTRY[name]), 0
        for entries in self._chosen(chosen):
            values[filled : filled + len(entries)] = entries[name]
            filled += len(entries)
        return values

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[str]:
        """Of the entries where `chosen` (n,)."""
        for entries in self._chosen(chosen):
            for start, end in entries[["start", "end"]].tolist():
                yield os.pread(self._texts.fileno(), end - start, start).decode()

    def close(self) -> None:
        self._texts.close()
        self._entries.close()

    def _chosen(self, chosen: NDArray[np.bool_]) -> Iterator[NDArray[np.void]]:
        for start in range(0, len(chosen), RUN_TEXTS):
            part = chosen[start : start + RUN_TEXTS]
            yield self.entries(start, start + len(part))[part]

    def _end_run(self) -> None:
        entries = self._distinct(np.frombuffer(bytes(self._waiting), _ENTRY))
        self._waiting.clear()
        self._entries.write(entries.tobytes())
        self._entries.flush()
        self._runs.append(self._runs[-1] + len(entries))

    def _distinct(self, entries: NDArray[np.void]) -> NDArray[np.void]:
        """By key, of each the first."""
        entries = entries[np.argsort(np.ascontiguousarray(entries["key"]), kind="stable")]
        again = np.zeros(len(entries), np.bool_)
        again[1:] = entries["key"][1:] == entries["key"][:-1]
        self.repeats.update((entries["place"][again] >> RECORD_BITS).tolist())
        return entries[~again]


def _nameless(folder: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=folder)  # closed by `close`
