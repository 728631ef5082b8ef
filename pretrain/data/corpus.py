"""The texts of a run: each process holds the texts of its share on disk, and the keys of one range.

What a run does depends on the set of texts alone: the order of the data and the number of processes
that read it change nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personality_common.runs.processes import Processes
from pretrain.data.agreement import agree, agree_on_labels, fingerprint_of
from pretrain.data.conversations import (
    POSITIONS_KEPT,
    DataConfig,
    LabelReader,
    PartCount,
    ReadSummary,
    distinct_texts,
    no_text,
)
from pretrain.data.sources import open_sources
from pretrain.data.split import is_validation
from pretrain.data.spool import TextSpool
from pretrain.data.spread import Spread


@dataclass(frozen=True)
class Corpus:
    """The distinct texts of a source.

    Attributes:
        keys: of the texts, sorted; each process holds those of a range, see `pretrain.data.agreement`.
        held_out: of each text, whether it is for validation; held as `keys`.
        summary: what was read, by all processes.
        fingerprint: SHA-256 over the sorted keys: of the set of texts, in whatever order they came.
        labels: (M, 2) int64, each a text's number among all and a token's position, sorted and distinct;
            none where labels are not read. All processes hold all.
    """

    keys: Spread[np.bytes_]
    held_out: Spread[np.bool_]
    summary: ReadSummary
    fingerprint: str
    labels: NDArray[np.int64]
    _own: NDArray[np.bool_] = field(repr=False)
    _spool: TextSpool = field(repr=False)

    @property
    def labels_fingerprint(self) -> str:
        """SHA-256 over the labels, of which each text's key says whose they are."""
        return hashlib.sha256(self.labels.astype("<i8").tobytes()).hexdigest()

    @property
    def own_keys(self) -> NDArray[np.bytes_]:
        """(n,) of the texts that are this process's to embed, sorted; read from disk each time."""
        return self._spool.field("key", self._own)

    def own_texts(self, chosen: NDArray[np.bool_]) -> Iterator[str]:
        """The texts of `own_keys` where `chosen` (n,)."""
        of_all = np.zeros_like(self._own)
        of_all[self._own] = chosen
        return self._spool.texts(of_all)


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
    try:
        yield _read(spool, config, val_fraction, processes, known_labels)
    finally:
        spool.close()


def _read(
    spool: TextSpool,
    config: DataConfig,
    val_fraction: float,
    processes: Processes,
    known_labels: Mapping[str, Sequence[int]] | None,
) -> Corpus:
    """Read this process's share, and agree with the others on what there is in all."""
    summary = ReadSummary()
    labels = LabelReader(known_labels or {})

    def spool_all() -> None:
        parts = open_sources(config.sources, processes.rank, processes.size, config.text_column)
        reader = None if known_labels is None else labels
        # Without a limit repeats may come, too: the spool tells them apart on disk.
        apart = config.max_samples is not None
        for text, place, key in distinct_texts(parts, config, summary, reader, apart):
            spool.add(text, key, place, is_validation(text, val_fraction))

    processes.share(spool_all)
    agreed = agree(spool, config.max_samples, processes)
    for part, repeats in spool.repeats.items():
        summary.parts[part].texts -= repeats
        summary.parts[part].repeats += repeats
    keys = Spread(agreed.keys, processes)
    summary = _total(summary, config.name, agreed.found, len(keys), processes)
    if not len(keys):
        raise no_text(config, summary)
    return Corpus(
        keys=keys,
        held_out=Spread(agreed.held_out, processes),
        summary=summary,
        fingerprint=fingerprint_of(agreed.keys, processes),
        labels=agree_on_labels(labels, agreed.keys, keys.start, agreed.last, processes),
        _own=agreed.own,
        _spool=spool,
    )


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
