"""The texts of a run: each process holds the text of its share on disk, and all hold the keys of all.

What a run does depends on the set of texts alone: the order of the data and the number of processes
that read it change nothing.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from personality_common.runs.processes import Processes
from pretrain.data.conversations import (
    POSITIONS_KEPT,
    DataConfig,
    LabelReader,
    PartCount,
    ReadSummary,
    distinct_texts,
    no_text,
)
from pretrain.data.keys import KEY_DTYPE
from pretrain.data.sources import open_sources
from pretrain.data.split import is_validation


class TextSpool:
    """Texts in a nameless file: 8 bytes of memory each, and gone when the process is, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `close`
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, text: str) -> None:
        """Raises OSError: no space."""
        self._ends.append(self._ends[-1] + self._file.write(text.encode()))

    def texts(self, indices: NDArray[np.int64]) -> Iterator[str]:
        """Texts by their number, from 0, in the order of adding."""
        for index in indices.tolist():
            start, end = self._ends[index], self._ends[index + 1]
            if self._file.tell() != start:
                self._file.seek(start)
            yield self._file.read(end - start).decode()

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Corpus:
    """The distinct texts of a source.

    Attributes:
        keys: (N,) of all texts, sorted.
        held_out: (N,) bool, whether a text is for validation.
        summary: what was read, by all processes.
        own_keys: (n,) of the texts that are this process's to embed, sorted.
        labels: (M, 2) int64, each a text's number among `keys` and a token's position, sorted and distinct;
            none where labels are not read.
    """

    keys: NDArray[np.bytes_]
    held_out: NDArray[np.bool_]
    summary: ReadSummary
    own_keys: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    _own: NDArray[np.int64] = field(repr=False)
    _spool: TextSpool = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted keys: of the set of texts, in whatever order they came."""
        return hashlib.sha256(self.keys.tobytes()).hexdigest()

    @property
    def labels_fingerprint(self) -> str:
        """SHA-256 over the labels, of which each text's key says whose they are."""
        return hashlib.sha256(self.labels.astype("<i8").tobytes()).hexdigest()

    def own_texts(self, chosen: NDArray[np.bool_]) -> Iterator[str]:
        """The texts of `own_keys` where `chosen` (n,)."""
        return self._spool.texts(self._own[chosen])


@contextmanager
def read_corpus(
    config: DataConfig,
    val_fraction: float,
    folder: Path,
    processes: Processes,
    known_labels: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[Corpus]:
    """Read a source, all processes together, each its share; the texts are there until the block ends.

    Everything is read before anything is done, so that a bad record is found first. A text is its that has
    it first: in the earliest record of the whole source.

    Args:
        folder: where texts are spooled.
        known_labels: see `LabelReader`; None: labels are not looked at.

    Raises:
        DataError: as `pretrain.data.conversations.read_texts`.
        ToolkitError: the hub cannot be reached or breaks off, or another process failed.
        OSError: no space in the folder.
    """
    spool = TextSpool(folder)
    keys, places, held_out = bytearray(), array("q"), array("b")
    summary = ReadSummary()
    labels = LabelReader(known_labels or {})

    def read() -> None:
        parts = open_sources(config.sources, processes.rank, processes.size, config.text_column)
        reader = None if known_labels is None else labels
        for text, key, place in distinct_texts(parts, config, summary, reader):
            spool.add(text)
            keys.extend(key)
            places.append(place)
            held_out.append(is_validation(text, val_fraction))

    try:
        processes.share(read)
        corpus = _agree(
            np.frombuffer(keys, KEY_DTYPE),
            np.frombuffer(places, np.int64),
            np.frombuffer(held_out, np.bool_),
            spool, summary, config, processes, labels,
        )  # fmt: skip
        if not len(corpus.keys):
            raise no_text(config, corpus.summary)
        yield corpus
    finally:
        spool.close()


def _agree(
    keys: NDArray[np.bytes_],
    places: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    spool: TextSpool,
    summary: ReadSummary,
    config: DataConfig,
    processes: Processes,
    labels: LabelReader,
) -> Corpus:
    """Which texts there are in all, whose each is, and what it is labelled with."""
    shares = [len(share) for share in processes.gather(held_out)]
    all_keys = np.concatenate(processes.gather(keys))
    # Within a record texts are in order already, and a record is one process's: a stable sort keeps that.
    all_places = np.concatenate(processes.gather(places))
    order = np.argsort(all_places, kind="stable")
    distinct, first = np.unique(all_keys[order], return_index=True)
    found = len(distinct)
    if config.max_samples is not None and len(first) > config.max_samples:
        kept = first <= np.partition(first, config.max_samples - 1)[config.max_samples - 1]
        distinct, first = distinct[kept], first[kept]
    chosen = order[first]
    # Where one process stops reading, the labels of what follows count for no number of them.
    full = len(distinct) == config.max_samples
    last = int(all_places[chosen].max()) if full else np.iinfo(np.int64).max
    begin = sum(shares[: processes.rank])
    own = chosen[(chosen >= begin) & (chosen < begin + len(keys))] - begin
    return Corpus(
        keys=distinct,
        held_out=np.concatenate(processes.gather(held_out))[chosen],
        summary=_total(summary, config.name, found, len(distinct), processes),
        own_keys=keys[own],
        labels=_agree_on_labels(labels, distinct, last, processes),
        _own=own,
        _spool=spool,
    )


def _agree_on_labels(
    labels: LabelReader, keys: NDArray[np.bytes_], last: int, processes: Processes
) -> NDArray[np.int64]:
    """All processes' labels of `keys`, of records up to the place `last`."""
    of, tokens, at = (
        np.concatenate(processes.gather(np.frombuffer(values, kind)))
        for values, kind in ((labels.keys, KEY_DTYPE), (labels.tokens, np.int64), (labels.places, np.int64))
    )
    if not len(keys):
        return np.empty((0, 2), np.int64)
    texts = np.searchsorted(keys, of).clip(max=len(keys) - 1)
    kept = (keys[texts] == of) & (at <= last)
    return np.unique(np.stack([texts[kept], tokens[kept]], axis=1), axis=0)


def _total(summary: ReadSummary, source: str, distinct: int, kept: int, processes: Processes) -> ReadSummary:
    """What all processes read together; a text that two of them found first is a repeat.

    With `max_samples` each process reads on until it has as many of its own: `kept` of the `distinct` texts
    are left.
    """
    if processes.size == 1:
        return summary
    everyone = [json.loads(text) for text in processes.gather_text(json.dumps(asdict(summary)))]
    total = PartCount(source)
    for part in (part for one in everyone for part in one["parts"]):
        for count in ("records", "bad_records", "blank_texts", "repeats", "texts"):
            setattr(total, count, getattr(total, count) + part[count])
    total.repeats += total.texts - distinct
    total.texts = kept
    positions = [position for one in everyone for position in one["bad_positions"]]
    return ReadSummary([total], positions[:POSITIONS_KEPT])
