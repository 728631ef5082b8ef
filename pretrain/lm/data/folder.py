"""The folder that `pt lm data` writes: shards of documents, and `data.json`, which says what they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from personality_common.errors import DataError
from personality_common.files.atomic import file_sha256, read_json_object
from personality_common.files.inside import inside
from personality_common.files.typed import from_json
from pretrain.lm.chat import Document, LossConfig
from pretrain.lm.data.documents import read_documents

DATA_FILE: Final = "data.json"
SCHEMA: Final = 1
SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: Final = get_args(SplitName)


@dataclass(frozen=True)
class Shard:
    """A file of documents: how many, of how many bytes, and their SHA-256 in hex."""

    split: SplitName
    documents: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Size:
    """Documents, and the characters of their turns."""

    documents: int = 0
    characters: int = 0


@dataclass(frozen=True)
class Nearest:
    """The held-out document that has most in common with a training document.

    Attributes:
        document, twin: their ids; of the first, `share` of its 13-grams stand in training.
        share: 0 to 1, below what is refused.
    """

    document: str
    twin: str
    share: float


@dataclass(frozen=True)
class SourceRecord:
    """What became of a source.

    Attributes:
        name, kind, licence, weight: as in the mix.
        read: documents that it gave.
        bad_records: malformed ones, left out.
        silent: records without anything to learn, left out: no turn, or none of the assistant's.
        excluded: documents that the mix names and leaves out.
        exact_duplicates, near_duplicates: documents left out since an earlier one says the same, or nearly.
        over_limit: held-out documents beyond the mix's limit, left out.
        train, validation, test: what was written; training documents as often as the weight says.
        held_out: of validation and test: examples of unseen values, and of unseen phrasings.
        nearest: the greatest overlap; None where there is none.
    """

    name: str
    kind: str
    licence: str
    weight: float
    read: int
    bad_records: int
    silent: int
    excluded: int
    exact_duplicates: int
    near_duplicates: int
    over_limit: int
    train: Size
    validation: Size
    test: Size
    held_out: dict[str, int]
    nearest: Nearest | None


@dataclass(frozen=True)
class DataRecord:
    """`data.json`.

    Attributes:
        seed: of the mix.
        mix_sha256: of the mix file's bytes, in hex.
        fingerprint: SHA-256, in hex, of the shards' names and checksums: of all documents in order.
        sources: in the order of the mix.
        files: name -> shard, in the order of reading.
        loss: as in the mix.
    """

    schema: Literal[1]
    seed: int
    mix_sha256: str
    fingerprint: str
    sources: tuple[SourceRecord, ...]
    files: dict[str, Shard]
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class Data:
    """A folder of documents, opened."""

    folder: Path
    record: DataRecord

    @property
    def fingerprint(self) -> str:
        return self.record.fingerprint

    def documents(self, split: SplitName) -> Iterator[Document]:
        """The documents of a split, in the order of the shards, one in memory at a time.

        Raises:
            DataError: a shard is missing, or is another than `data.json` says; or a line is malformed.
        """
        for name, shard in self.record.files.items():
            if shard.split != split:
                continue
            path = inside(self.folder, name)
            if not path.is_file() or path.stat().st_size != shard.bytes or file_sha256(path) != shard.sha256:
                raise DataError(
                    f"{path}: must be the file that {DATA_FILE} describes, is missing or was changed; "
                    "make the data again"
                )
            yield from read_documents(path)


def open_data(folder: Path) -> Data:
    """Open what `pt lm data` wrote.

    Raises:
        DataError: no such folder, or its `data.json` is malformed or of a later version.
    """
    path = folder / DATA_FILE
    if not path.is_file():
        raise DataError(f"{folder}: must be a folder of data, has no {DATA_FILE}; pt lm data makes one")
    return Data(folder, from_json(DataRecord, read_json_object(path), str(path)))
