"""`pt lm data`: read, leave duplicates out, divide, check for leaks, write."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import ConfigError, DataError
from personality_common.files.atomic import write_json
from personality_common.files.staging import staged_folder
from personality_common.terminal.progress import Reporter
from pretrain.data.keys import KeySet, text_key
from pretrain.data.split import is_validation
from pretrain.lm.chat import Document
from pretrain.lm.config import DataConfig
from pretrain.lm.data.documents import document_line, restored
from pretrain.lm.data.duplicates import Signatures, exact_key
from pretrain.lm.data.folder import (
    DATA_FILE,
    SCHEMA,
    SPLIT_NAMES,
    DataRecord,
    Nearest,
    Shard,
    Size,
    SourceRecord,
    SplitName,
)
from pretrain.lm.data.leaks import HeldOut
from pretrain.lm.data.mix import DEMO_MIX, MixFile, SourceConfig, SplitConfig, read_mix
from pretrain.lm.data.shards import ShardWriter, place_of
from pretrain.lm.data.sources import Found, Reading, read_source

TOLD_EVERY: Final = 1_000
"""Documents between two words of progress."""
SAID_EVERY: Final = 100_000
"""Documents read between two lines, where nobody knows how many there are."""
_TRAIN, _VALIDATION, _TEST = range(3)
_NOTHING: Final = "a mix must leave documents to train with, this one leaves none"
_HELD_OUT: Final[tuple[tuple[int, SplitName], ...]] = ((_VALIDATION, "validation"), (_TEST, "test"))


def build_data(config: DataConfig, reporter: Reporter) -> DataRecord:
    """Write a folder of documents; what was there is replaced once all is written.

    The same mix, seed and sources give the same bytes. In memory are one document, some tens of bytes for
    each, what is held out as hashes, and, at the end, one file of the result.

    Raises:
        DataError: the mix or a source is malformed, nothing is left to train with, or held-out documents
            stand in training; the message names them and their twins.
        ConfigError: the folder holds something else.
        ToolkitError: a package is missing, or the hub cannot be reached.
        OSError: no space, no permission.
    """
    if config.out.exists() and not (config.out / DATA_FILE).is_file():
        raise ConfigError(f"--out must be a new folder or one of pt lm data, {config.out} is not")
    file = read_mix(config.mix or DEMO_MIX)
    with staged_folder(config.out) as folder:
        spool = _Spool(
            folder / ".documents", folder / ".signatures", [_Tally(source) for source in file.mix.sources]
        )
        with closing(Signatures(spool.signed)) as signatures:
            _collect(spool, signatures, file, reporter)
            kept = _choose(spool, signatures, file.mix.split, reporter)
        shards = _write(spool, kept, file, folder, reporter)
        spool.path.unlink()
        spool.signed.unlink()
        record = DataRecord(
            schema=SCHEMA,
            seed=file.mix.seed,
            mix_sha256=file.sha256,
            fingerprint=_fingerprint(shards),
            sources=tuple(tally.record() for tally in spool.tallies),
            files=shards,
            loss=file.mix.loss,
        )
        write_json(folder / DATA_FILE, asdict(record))
    return record


@dataclass
class _Tally:
    """What becomes of a source, counted."""

    source: SourceConfig
    reading: Reading = field(default_factory=Reading)
    counts: Counter[str] = field(default_factory=Counter)
    held_out: Counter[str] = field(default_factory=Counter)
    sizes: dict[SplitName, Size] = field(default_factory=lambda: dict.fromkeys(SPLIT_NAMES, Size()))
    nearest: Nearest | None = None

    def write(self, split: SplitName, document: Document) -> None:
        size = self.sizes[split]
        characters = sum(len(turn.text) for turn in document.turns)
        self.sizes[split] = Size(size.documents + 1, size.characters + characters)
        if split != "train" and document.held_out:
            self.held_out[document.held_out] += 1

    def record(self) -> SourceRecord:
        source = self.source
        return SourceRecord(
            source.name, source.kind, source.under, source.weight,
            read=self.counts["read"],
            bad_records=self.reading.bad_records,
            silent=self.reading.silent,
            excluded=self.counts["excluded"],
            exact_duplicates=self.counts["exact"],
            near_duplicates=self.counts["near"],
            over_limit=self.counts["over"],
            **self.sizes,
            held_out={kind: self.held_out[kind] for kind in ("value", "phrasing")},
            nearest=self.nearest,
        )  # fmt: skip


@dataclass
class _Spool:
    """Documents on their way: lines in a file, signatures in another, and of each a few numbers.

    Attributes:
        path, signed: the files.
        tallies: by number of the source.
        sources, sides, places: of each document the number of its source, its side of the split, and its
            place in the order.
        size: bytes of the lines.
    """

    path: Path
    signed: Path
    tallies: list[_Tally]
    sources: array[int] = field(default_factory=lambda: array("H"))
    sides: array[int] = field(default_factory=lambda: array("B"))
    places: array[int] = field(default_factory=lambda: array("Q"))
    size: int = 0

    def documents(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, Document, bytes]]:
        """Number, document and line of those that are wanted."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if wanted[number]:
                    yield number, restored(json.loads(line)), line


def _collect(spool: _Spool, signatures: Signatures, file: MixFile, reporter: Reporter) -> None:
    """Read all sources; of documents that say the same, the first stays."""
    seen = KeySet()
    with spool.path.open("wb") as out:
        for number, tally in enumerate(spool.tallies):
            excluded = set(tally.source.exclude)
            for found in read_source(tally.source, file, tally.reading):
                tally.counts["read"] += 1
                if tally.counts["read"] % SAID_EVERY == 0:
                    reporter.say(f"{tally.source.name}: {tally.counts['read']:,} documents so far")
                document = found.document
                if document.id in excluded:
                    excluded.remove(document.id)
                    tally.counts["excluded"] += 1
                elif not seen.add(text_key(exact_key(document))):
                    tally.counts["exact"] += 1
                else:
                    line = document_line(document)
                    out.write(line)
                    spool.size += len(line)
                    spool.sources.append(number)
                    spool.sides.append(_side(found, file.mix.split))
                    spool.places.append(place_of(document.id, file.mix.seed))
                    signatures.add(document)
            if excluded:
                raise DataError(
                    f"source {tally.source.name}: exclude must name documents of the source, "
                    f"{min(excluded)!r} is none"
                )
            reporter.say(f"{tally.source.name}: {tally.counts['read']:,} documents read")
    if not spool.size:
        raise DataError(_NOTHING)


def _side(found: Found, split: SplitConfig) -> int:
    """Decided by the group alone, so that it survives whatever else changes."""
    group, held_out = found.document.group, split.validation + split.test
    if found.unseen is None:
        if is_validation(group, split.test):
            return _TEST
        return _VALIDATION if is_validation(group, held_out) else _TRAIN
    if not found.unseen:
        return _TRAIN
    return _TEST if is_validation(group, split.test / held_out) else _VALIDATION


def _choose(
    spool: _Spool, signatures: Signatures, split: SplitConfig, reporter: Reporter
) -> NDArray[np.bool_]:
    """(documents,) which are written: none that is nearly another, and of what is held out not too many."""
    reporter.say(f"comparing {len(spool.places):,} documents")
    near = signatures.near_duplicates()
    sources, sides = np.frombuffer(spool.sources, np.uint16), np.frombuffer(spool.sides, np.uint8)
    places = np.frombuffer(spool.places, np.uint64)
    kept = ~near
    for number, tally in enumerate(spool.tallies):
        of_source = sources == number
        tally.counts["near"] = int((of_source & near).sum())
        for side in (_VALIDATION, _TEST):
            rows = np.flatnonzero(of_source & (sides == side) & kept)
            beyond = rows[np.argsort(places[rows], kind="stable")][split.most :]
            kept[beyond] = False
            tally.counts["over"] += len(beyond)
    return kept


def _write(
    spool: _Spool, kept: NDArray[np.bool_], file: MixFile, folder: Path, reporter: Reporter
) -> dict[str, Shard]:
    """Held-out documents first, so that each training document is compared with them as it is written."""
    sides = np.frombuffer(spool.sides, np.uint8)
    held_out = HeldOut()
    shards: dict[SplitName, dict[str, Shard]] = {}
    for side, split in _HELD_OUT:
        with closing(ShardWriter(folder, split, 0)) as writer:
            for number, document, line in spool.documents(kept & (sides == side)):
                held_out.add(document)
                spool.tallies[spool.sources[number]].write(split, document)
                writer.add(spool.places[number], line)
            shards[split] = writer.finish()
    weight = max(tally.source.weight for tally in spool.tallies)
    with closing(ShardWriter(folder, "train", int(spool.size * weight))) as writer:
        _train(spool, kept & (sides == _TRAIN), file.mix.seed, held_out, writer, reporter)
        nearest = held_out.nearest()
        shards["train"] = writer.finish()
    for tally in spool.tallies:
        tally.nearest = nearest.get(tally.source.name)
    if not shards["train"]:
        raise DataError(_NOTHING)
    return {name: shard for split in SPLIT_NAMES for name, shard in shards[split].items()}


def _train(
    spool: _Spool,
    wanted: NDArray[np.bool_],
    seed: int,
    held_out: HeldOut,
    writer: ShardWriter,
    reporter: Reporter,
) -> None:
    """Write training documents as often as they weigh."""
    total = int(wanted.sum())
    with reporter.stage("comparing with what is held out", total, "documents") as stage:
        for done, (number, document, line) in enumerate(spool.documents(wanted), 1):
            tally = spool.tallies[spool.sources[number]]
            for copy in range(_copies(document, tally.source.weight)):
                if copy == 0:
                    held_out.scan(document)
                    writer.add(spool.places[number], line)
                else:
                    again = replace(document, id=f"{document.id}#{copy + 1}")
                    writer.add(place_of(again.id, seed), document_line(again))
                tally.write("train", document)
            if done % TOLD_EVERY == 0:
                stage.advance(TOLD_EVERY)
        stage.advance(total % TOLD_EVERY)


def _copies(document: Document, weight: float) -> int:
    """How often a document is written: the whole part of the weight, and once more for the rest of it in so
    many documents, by their names."""
    return int(weight) + is_validation(f"weight\0{document.id}", weight % 1)


def _fingerprint(shards: dict[str, Shard]) -> str:
    digest = hashlib.sha256()
    for name, shard in shards.items():
        digest.update(f"{name}\0{shard.sha256}\n".encode())
    return digest.hexdigest()
