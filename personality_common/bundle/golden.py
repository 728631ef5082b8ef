"""`golden.json`: vectors that PyTorch computed at export, which an app's tests compare with too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from personality_common.bundle.stored import Array, StoredArray
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object
from personality_common.files.typed import from_json

GOLDEN_SCHEMA: Final = 1
_GREATEST_ID: Final = (1 << 31) - 1


@dataclass(frozen=True)
class GoldenUpdate:
    """One step of the head, worked out."""

    formula: str
    learning_rate: float
    arrays: dict[str, StoredArray]


@dataclass(frozen=True, kw_only=True)
class GoldenRecord:
    """The content of `golden.json`; arrays lie beside it.

    Attributes:
        texts: of each row; None where random vectors stand in for those of texts.
        token_ids: of each text; None without an encoder of tokens.
        top_indices, top_tokens: of each row, the outputs with the greatest logits, the greatest first.
        shipped_top_indices, shipped_top_tokens: of each text, the same with the weights that the text
            encoder's package holds; None without that package, and in a bundle of an earlier version.
    """

    schema: Literal[1]
    texts: tuple[str, ...] | None
    token_ids: tuple[tuple[int, ...], ...] | None
    top_indices: tuple[tuple[int, ...], ...]
    top_tokens: tuple[tuple[str, ...], ...]
    arrays: dict[str, StoredArray]
    update: GoldenUpdate
    shipped_top_indices: tuple[tuple[int, ...], ...] | None = None
    shipped_top_tokens: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        if any(token > _GREATEST_ID for ids in self.token_ids or () for token in ids):
            raise ValueError(f"token_ids must be {_GREATEST_ID} or less")


@dataclass(frozen=True)
class Golden:
    """The record with its arrays, (N, …) each, N >= 1."""

    record: GoldenRecord
    arrays: dict[str, Array]


def read_golden(path: Path, widths: Mapping[str, int]) -> Golden:
    """Read golden vectors.

    Args:
        path: `golden.json`.
        widths: arrays that must be there, and the numbers in a row of each.

    Raises:
        DataError: a file is missing or malformed, or they do not have one number of rows.
    """
    record = from_json(GoldenRecord, read_json_object(path), str(path))
    arrays = {name: array.read(path.parent) for name, array in record.arrays.items()}
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    listed = (record.texts, record.token_ids, record.shipped_top_indices, record.shipped_top_tokens)
    rows |= {len(given) for given in listed if given is not None}
    if len(rows) != 1 or not min(rows):
        raise DataError(
            f"{path}: texts, token_ids and arrays must have as many rows each, have {sorted(rows)}"
        )
    for name, width in widths.items():
        shape = arrays[name].shape if name in arrays else None
        if shape != (*rows, width):
            raise DataError(f"{path}: array {name!r} must have shape {(*rows, width)}, has {shape}")
    return Golden(record, arrays)
