"""Conversations -> the distinct texts that humans wrote in them, in order of first appearance.

Reads local JSON, JSONL (also gzipped) and Parquet, and hub datasets by streaming, in the schemas
of `pretrain.data.schemas`. Texts are compared after stripping, exactly: no case folding, no Unicode
normalization.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, get_args

from personality_common.errors import ConfigError, DataError
from personality_common.printable import described
from pretrain.data.keys import KeySet, text_key
from pretrain.data.schemas import LABELS_KEY, BadRecord, Truncated, Unit, human_texts, text_labels
from pretrain.data.sources import Part, open_sources

POSITIONS_KEPT: Final = 5
RECORD_BITS: Final = 40
"""Of a place, those that tell the record within its part; those above tell the part."""


class Found(NamedTuple):
    """A text as the reader comes upon it.

    Attributes:
        text: stripped.
        place: of its record among all records of the source, whichever process read it: an int64 that grows
            with part and record.
        key: see `text_key`.
    """

    text: str
    place: int
    key: bytes


@dataclass(frozen=True)
class DataConfig:
    """Where the texts come from and what counts as one.

    Attributes:
        source: conversations: a file, a folder, a pattern such as `logs/*.jsonl`, `-` for JSONL on standard
            input, or a hub dataset (streamed), `hf:OWNER/NAME`; may be given several times.
        unit: what counts as one text: each human `turn`, or all of a `conversation` together.
        max_samples: stop reading after so many distinct texts; none: read all.
        skip_bad_records: count malformed records and go on, instead of stopping at the first.
        text_column: of a CSV or TSV file.
    """

    source: str | tuple[str, ...]
    unit: Unit = "turn"
    max_samples: int | None = 50_000
    skip_bad_records: bool = False
    text_column: str = "text"

    def __post_init__(self) -> None:
        if not self.sources or not all(self.sources):
            raise ConfigError("--data must name a file, a folder, or hf:OWNER/NAME; it is empty")
        if self.unit not in get_args(Unit):
            raise ConfigError(f"--unit must be turn or conversation, got {self.unit!r}")
        if self.max_samples is not None and self.max_samples < 1:
            raise ConfigError(f"--max-samples must be 1 or more, got {self.max_samples}")

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def name(self) -> str:
        """Of the source, for people."""
        return ", ".join(self.sources)


@dataclass
class PartCount:
    """What one file or stream gave; see ReadSummary."""

    name: str
    records: int = 0
    bad_records: int = 0
    blank_texts: int = 0
    repeats: int = 0
    texts: int = 0


@dataclass
class ReadSummary:
    """What was read: counts per file, and their totals. Holds no user text.

    Attributes:
        parts: the files and streams that were opened, in order. ``records`` counts all that were
            read, bad ones included; ``blank_texts`` human turns of white space; ``repeats`` texts
            that had come before; ``texts`` the distinct ones that it was first to give.
        bad_positions: "file:line: why" of the first few bad records.
    """

    parts: list[PartCount] = field(default_factory=list)
    bad_positions: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        return sum(part.records for part in self.parts)

    @property
    def bad_records(self) -> int:
        return sum(part.bad_records for part in self.parts)

    @property
    def blank_texts(self) -> int:
        return sum(part.blank_texts for part in self.parts)

    @property
    def repeats(self) -> int:
        return sum(part.repeats for part in self.parts)

    @property
    def texts(self) -> int:
        return sum(part.texts for part in self.parts)


def read_texts(config: DataConfig) -> tuple[list[str], ReadSummary]:
    """Read everything, so that a bad record is found before any work is done.

    Raises:
        DataError: as `iter_distinct_texts`; or there is no text at all.
        ToolkitError: the hub cannot be reached, or breaks off.
    """
    summary = ReadSummary()
    texts = list(iter_distinct_texts(config, summary))
    if not texts:
        raise no_text(config, summary)
    return texts, summary


def no_text(config: DataConfig, summary: ReadSummary) -> DataError:
    """What to say of a source without any text."""
    skipped = f", {summary.bad_records} of them malformed" if summary.bad_records else ""
    return DataError(
        f"no human text in {config.name}: {summary.records} records{skipped}, "
        f"{summary.blank_texts} blank turns; human turns are those from human or user"
    )


def iter_distinct_texts(config: DataConfig, summary: ReadSummary) -> Iterator[str]:
    """Yield the distinct texts while reading, for data that do not fit in memory.

    Holds one record, and a key per text (`pretrain.data.keys`).

    Args:
        config: what to read.
        summary: filled in as reading goes on.

    Raises:
        DataError: the source is not there, or a record is malformed (unless skip_bad_records);
            the message has file and line, or row.
        ToolkitError: the hub cannot be reached, or breaks off.
    """
    parts = open_sources(config.sources, column=config.text_column)
    return (found.text for found in distinct_texts(parts, config, summary))


@dataclass
class LabelReader:
    """Collects labels while texts are read: of a text that comes again, those of every time.

    Attributes:
        known: name of a label -> the positions of its tokens in the vocabulary; none leaves the label out.
        keys, tokens, places: of each pair of a text and a token, the text's key (16 bytes), the token's
            position, and the record's place as in `Found`.
    """

    known: Mapping[str, Sequence[int]]
    keys: bytearray = field(default_factory=bytearray)
    tokens: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))

    def positions(self, record: object, unit: Unit) -> list[list[int]]:
        """Of each text of a record, its labels' tokens.

        Raises:
            BadRecord: see `text_labels`; or a label is not known.
        """
        found = []
        for labels in text_labels(record, unit):
            for label in labels:
                if label not in self.known:
                    raise BadRecord(
                        f"{LABELS_KEY} must be of the {len(self.known)} known, not {described(label)}"
                    )
            found.append([token for label in labels for token in self.known[label]])
        return found

    def add(self, key: bytes, tokens: Iterable[int], place: int) -> None:
        for token in tokens:
            self.keys += key
            self.tokens.append(token)
            self.places.append(place)


def distinct_texts(
    parts: Iterable[Part],
    config: DataConfig,
    summary: ReadSummary,
    labels: LabelReader | None = None,
    apart: bool = True,
) -> Iterator[Found]:
    """`iter_distinct_texts` of parts that are already found; ``config.source`` is not looked at.

    Args:
        labels: takes the labels of the records that are read; None: they are not looked at.
        apart: leave out texts that have come before, which takes memory for the keys of all. Else they come
            and count as texts, too, and ``config.max_samples`` must be None.
    """
    seen = KeySet() if apart else None
    for index, part in enumerate(parts):
        count = PartCount(part.name)
        summary.parts.append(count)
        for number, record in part.read():
            count.records += 1
            try:
                if isinstance(record, BadRecord):
                    raise record
                texts, blank = human_texts(record, config.unit)
                tokens = labels.positions(record, config.unit) if labels else []
            except BadRecord as bad:
                _count_bad(
                    f"{part.position(number)}: {bad}", count, summary, config, isinstance(bad, Truncated)
                )
                continue
            count.blank_texts += blank
            place = (index << RECORD_BITS) + (number - 1) * part.stride + part.offset
            keys = [text_key(text) for text in texts]
            if labels:
                for key, positions in zip(keys, tokens, strict=True):
                    labels.add(key, positions, place)
            for text, key in zip(texts, keys, strict=True):
                if seen is not None and not seen.add(key):
                    count.repeats += 1
                    continue
                count.texts += 1
                yield Found(text, place, key)
                if seen is not None and len(seen) == config.max_samples:
                    return


def _count_bad(
    where_and_why: str, count: PartCount, summary: ReadSummary, config: DataConfig, rest: bool
) -> None:
    if not config.skip_bad_records and rest:
        raise DataError(f"{where_and_why}; what follows cannot be read: get the file again, or mend it")
    if not config.skip_bad_records:
        raise DataError(f"{where_and_why} (--skip-bad-records leaves such records out and counts them)")
    count.bad_records += 1
    if len(summary.bad_positions) < POSITIONS_KEPT:
        summary.bad_positions.append(where_and_why)
