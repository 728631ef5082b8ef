"""Parquet files -> numbered records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pretrain.data.schemas import LABELS_KEY, SCHEMA_KEYS, BadRecord

ROWS_PER_BATCH: Final = 256  # 1024 rows of 15 turns take twice as long per row: the garbage collector


def read_parquet(path: Path) -> Iterator[tuple[int, object | BadRecord]]:
    """Yield (row, record), rows from 1; only the columns of known schemas are read.

    A row that cannot be decoded is a BadRecord; one that stands for the rest of the file, where
    the file itself is broken, ends it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    with path.open("rb") as file:
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            columns = [key for key in SCHEMA_KEYS if key in parquet.schema_arrow.names]
            if not columns:
                yield 1, BadRecord("the file must have a column conversations, messages or text")
                return
            columns += [LABELS_KEY] if LABELS_KEY in parquet.schema_arrow.names else []
            for batch in parquet.iter_batches(ROWS_PER_BATCH, columns=columns):
                for record in _rows(batch):
                    row += 1
                    yield row, record
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            yield row + 1, BadRecord(f"the Parquet file is broken here or further on ({reason[:200]})")


def _rows(batch: object) -> list[object]:
    """The batch's rows, decoded; Arrow does not promise that its strings are UTF-8."""
    from pyarrow import RecordBatch

    assert isinstance(batch, RecordBatch)
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        pass
    rows: list[object] = []
    for index in range(batch.num_rows):
        try:
            rows += batch.slice(index, 1).to_pylist()
        except UnicodeDecodeError:
            rows.append(BadRecord("a string is not UTF-8"))
    return rows
