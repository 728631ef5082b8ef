"""Files and hub datasets -> numbered records, one at a time, in bounded memory.

A record that cannot be decoded comes out as a `BadRecord` in its place: whether that ends the
run is the caller's decision. `pretrain.data.json_records` and `pretrain.data.parquet_records` read the files.
"""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from personality_common.errors import ConfigError, DataError, ToolkitError
from pretrain.data.json_records import (
    json_lines,
    read_json_lines,
    read_json_values,
    read_prose,
    read_table,
    read_text_lines,
)
from pretrain.data.parquet_records import read_parquet
from pretrain.data.schemas import BadRecord

HUB_PREFIX: Final = "hf:"
STANDARD_INPUT: Final = "-"
HUB_TIMEOUT_S: Final = 10.0
FILES_PER_PROCESS: Final = 8
"""From so many on, processes share files, not records: differences in size even out, and no process
parses what is not its own."""

NumberedRecords = Iterator[tuple[int, object | BadRecord]]

_READERS: Final[dict[str, tuple[str, Callable[[Path], NumberedRecords]]]] = {
    ".jsonl": ("line", read_json_lines),
    ".jsonl.gz": ("line", read_json_lines),
    ".json": ("line", read_json_values),
    ".json.gz": ("line", read_json_values),
    ".parquet": ("row", read_parquet),
}
_NAMED: Final[dict[str, tuple[str, Callable[[Path, str], NumberedRecords]]]] = {
    ".txt": ("line", lambda path, _: read_text_lines(path)),
    ".csv": ("line", read_table),
    ".tsv": ("line", read_table),
}
"""Read where they are named; in a folder of conversations such files are about something else."""
_PROSE: Final[dict[str, tuple[str, Callable[[Path], NumberedRecords]]]] = {".txt": ("record", read_prose)}


@dataclass(frozen=True)
class Part:
    """One file or one stream of a source.

    ``read()`` starts over at each call and yields (number, record): numbers are lines of a text
    file, rows of a Parquet file, records of a stream, from 1.

    Attributes:
        name: as errors give it.
        counts: what is numbered: line, row or record.
        read: as above.
        stride, offset: record n of this stream is record (n - 1) * stride + offset of the whole one, from 0,
            where several processes share a stream.
    """

    name: str
    counts: str
    read: Callable[[], NumberedRecords]
    stride: int = 1
    offset: int = 0

    def position(self, number: int) -> str:
        """Where a record is, as an editor or a person finds it."""
        return f"{self.name}:{number}" if self.counts == "line" else f"{self.name}: {self.counts} {number}"


def open_sources(sources: Sequence[str], rank: int = 0, size: int = 1, column: str = "text") -> list[Part]:
    """What there is to read in several sources, each file once; raises as `open_source`.

    Args:
        column: of tables.
    """
    found = (part for source in sources for part in open_source(source, rank, size, column=column))
    parts = {part.name: part for part in found}
    return list(parts.values())


def open_source(
    source: str, rank: int = 0, size: int = 1, *, prose: bool = False, column: str = "text"
) -> list[Part]:
    """Find what there is to read for one of `size` processes; nothing is read yet.

    Of many files each process reads some; of few, it takes every size-th record of each. Hub datasets are
    split by `datasets.distributed.split_dataset_by_node`. Parts that another process reads are there, and
    empty, so that a part has the same place in the list of every process.

    Args:
        source: a file, a folder, a pattern, ``-``, or ``hf:OWNER/NAME``. Of a folder, all files
            below it with an extension of conversations, in the order of their paths; other extensions,
            and names that begin with a dot, are left alone.

    Raises:
        ConfigError: no such path.
        DataError: nothing in it that can be read, or no name of a hub dataset.
    """
    if source.startswith(HUB_PREFIX):
        name = source.removeprefix(HUB_PREFIX)
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name, re.ASCII):
            raise DataError(f"a hub dataset is written hf:OWNER/NAME, got {source!r}")
        return [stream_part(source, lambda: open_hub_stream(name, rank, size), rank, size)]
    if source == STANDARD_INPUT:
        if size > 1:
            raise ConfigError("--data - is for one process: the others have no standard input")
        return [Part("standard input", "line", lambda: json_lines(sys.stdin.buffer))]
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_readable(file, path, prose))
        if not files:
            raise DataError(f"no {_known(prose)} file in {source}")
    elif path.is_file():
        if _reader(path, prose) is None:
            raise DataError(f"cannot read {source}: the name must end in {_known(prose, named=True)}")
        files = [path]
    elif glob.has_magic(source):
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        files = sorted(file for file in found if file.is_file() and _reader(file, prose) is not None)
        if not files:
            raise ConfigError(f"no {_known(prose, named=True)} file is like {source}")
    else:
        raise ConfigError(f"no such file or folder: {source} (a hub dataset is written hf:OWNER/NAME)")
    by_file = len(files) >= FILES_PER_PROCESS * size
    return [
        _file_part(file, prose, column, rank, size, i if by_file else None) for i, file in enumerate(files)
    ]


def stream_part(name: str, open_stream: Callable[[], Iterable[object]], rank: int = 0, size: int = 1) -> Part:
    """A part that reads a `datasets` stream: the hub's, or any other of its streaming loaders.

    With `size` above 1 the stream is already one process's share of it.

    The stream is pulled one record at a time, and no further than its reader asks.

    Raises (while reading):
        ToolkitError: the stream broke off. That is not a bad record: what follows is lost.
    """

    def read() -> NumberedRecords:
        number = 0
        stream = iter(open_stream())
        while True:
            # Any library below `datasets` may raise here, with types of its own.
            try:
                record = next(stream)
            except StopIteration:
                return
            except Exception as error:
                raise ToolkitError(
                    f"{name} broke off after record {number}: {_reason(error)}; if it does so again, "
                    "download its files and pass them with --data: local files are read record by record"
                ) from error
            number += 1
            yield number, record

    share = name if size == 1 else f"{name} (share {rank + 1} of {size})"
    return Part(share, "record", read, stride=size, offset=rank)


def open_hub_stream(name: str, rank: int = 0, size: int = 1) -> Iterable[object]:
    """The train split of a hub dataset, or one process's share of it, streamed: nothing is downloaded ahead
    of the reader.

    Raises:
        ToolkitError: the hub cannot be reached, or has no such dataset that can be read.
        DataError: a local file or folder has the dataset's name.
    """
    if Path(name).exists():
        # `datasets` would read it and say nothing.
        raise DataError(f"a local {name} hides {HUB_PREFIX}{name}: to read it, pass ./{name}")
    import datasets  # here, since it takes a second and only the hub needs it
    from datasets.distributed import split_dataset_by_node
    from huggingface_hub import HfApi

    try:
        # `datasets` retries for half a minute before it says that there is no network.
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_S)
        stream = datasets.load_dataset(name, split="train", streaming=True)
        share: Iterable[object] = stream if size == 1 else split_dataset_by_node(stream, rank, size)
    except Exception as error:
        raise ToolkitError(
            f"cannot stream the train split of {HUB_PREFIX}{name}: {_reason(error)}; check the name and "
            "the network, or pass --data a local copy (JSONL or Parquet)"
        ) from error
    return share


def _reason(error: Exception) -> str:
    """Errors of the network say what happened; those of a parser may quote the data, so not they."""
    kind = type(error).__name__
    lines = str(error).splitlines()
    of_network = isinstance(error, OSError) or type(error).__module__.startswith("httpx")
    return f"{kind}: {lines[0][:200].rstrip('.')}" if of_network and lines else kind


def _file_part(file: Path, prose: bool, column: str, rank: int, size: int, whole: int | None) -> Part:
    """`whole` is the number of a file that goes to one process as it is; None: all share its records."""
    found = _reader(file, prose)
    assert found is not None
    counts, reader = found

    def read() -> NumberedRecords:
        if whole is not None:
            return reader(file, column) if whole % size == rank else iter(())
        return ((number, record) for number, record in reader(file, column) if number % size == rank)

    return Part(str(file), counts, read if size > 1 else lambda: reader(file, column))


def _reader(file: Path, prose: bool) -> tuple[str, Callable[[Path, str], NumberedRecords]] | None:
    """What a file's records are counted by, and what reads them; None for one that is not read."""
    name = file.name.lower()
    for extension, (counts, read) in (_READERS | _PROSE if prose else _READERS).items():
        if name.endswith(extension):
            return counts, partial(_without_column, read)
    named = () if prose else _NAMED.items()
    return next((reader for extension, reader in named if name.endswith(extension)), None)


def _without_column(read: Callable[[Path], NumberedRecords], path: Path, _: str) -> NumberedRecords:
    return read(path)


def _is_readable(file: Path, folder: Path, prose: bool) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    known = _READERS | _PROSE if prose else _READERS
    return not hidden and file.name.lower().endswith(tuple(known)) and file.is_file()


def _known(prose: bool, named: bool = False) -> str:
    known = [*_READERS, *(_PROSE if prose else _NAMED if named else ())]
    return f"{', '.join(known[:-1])} or {known[-1]}"
