"""What `pt run` is given: one row of inputs, or several."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from device_sim.runtimes.arrays import MAX_JSON_BYTES, from_lists, read_arrays
from device_sim.runtimes.pictures import SUFFIXES, read_picture
from personality_common.coreml.features import Feature
from personality_common.errors import DataError
from personality_common.files.bounded import read_bounded
from personality_common.files.inside import inside

Row = dict[str, Any]
FORMS: Final = "FILE.npz, .json, .jsonl, .csv, .png or .jpg"
MAX_ROWS: Final = 1 << 20
"""Of a file; a row takes hundreds of bytes, of which the file may have had two."""


def read_rows(
    path: Path, features: Sequence[Feature], states: Sequence[Feature] = (), steps: bool = False
) -> list[Row]:
    """Read inputs from a file of the user's.

    `.npz` and a `.json` object are one row; a `.json` list of objects, `.jsonl` and `.csv` have a row each.
    In rows, an image is a file's name beside the rows; in cells of `.csv`, arrays, dictionaries and sequences
    are JSON. A `.png` or `.jpg`, or `name=FILE`, is one row of one image.

    Args:
        features: the model's inputs; what has other names is left alone.
        states: read as well, if they are there (of one row).
        steps: the arrays of an `.npz` have the rows along their first axis.

    Raises:
        DataError: missing, malformed, too large, or a value that is none of its feature's.
    """
    suffix = path.suffix.lower()
    name, _, file = str(path).partition("=")
    if file and not path.exists():
        feature = next((f for f in features if f.name == name), None)
        if feature is None or feature.type != "image":
            raise DataError(f"{path}: there is no such file, and the model has no image input {name!r}")
        return [{name: read_picture(Path(file), feature)}]
    if suffix in SUFFIXES:
        images = [feature for feature in features if feature.type == "image"]
        if len(images) != 1:
            raise DataError(f"{path}: an image is for a model with one image input, this has {len(images)}")
        return [{images[0].name: read_picture(path, images[0])}]
    if path.suffix == ".npz":
        arrays = read_arrays(path, [f for f in features if not f.optional], [*_optional(features), *states])
        return _split(path, arrays, {state.name for state in states}) if steps else [arrays]
    if suffix not in _READERS:
        raise DataError(f"{path}: inputs are read from {FORMS}, got {path.suffix or 'no suffix'!r}")
    known = {feature.name: feature for feature in (*features, *states)}
    return [_row(path, where, given, known) for where, given in _objects(path, suffix)]


def _optional(features: Sequence[Feature]) -> list[Feature]:
    return [feature for feature in features if feature.optional]


def _split(path: Path, arrays: Row, states: set[str]) -> list[Row]:
    """One row for each entry of the first axis; states go into the first one."""
    stepped = {name: array for name, array in arrays.items() if name not in states}
    lengths = {array.shape[0] if array.ndim else 0 for array in stepped.values()}
    if len(lengths) != 1 or not (count := lengths.pop()):
        raise DataError(f"{path}: with --steps, arrays must have as many rows, one or more, they have not")
    rows: list[Row] = [{name: array[at] for name, array in stepped.items()} for at in range(count)]
    rows[0] |= {name: array for name, array in arrays.items() if name in states}
    return rows


def _objects(path: Path, suffix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row, and what messages call it."""
    content = read_bounded(path, MAX_JSON_BYTES, "a file of rows")
    where, count = str(path), 0
    try:
        found = _READERS[suffix](content.decode("utf-8-sig"))
        if isinstance(found, dict):
            yield where, found
            return
        for count, row in enumerate(found, 1):
            where = f"{path}, row {count}"
            if count > MAX_ROWS:
                raise DataError(f"{path}: may have {MAX_ROWS:,} rows, has more; run it in parts")
            if not isinstance(row, dict) or None in row or (suffix == ".csv" and None in row.values()):
                raise DataError(f"{where}: must be an object, or have a cell for each column")
            yield where, row
            where = f"{path}, after row {count}"
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{where}: not readable as {suffix}: {' '.join(str(error).split())[:200]}") from None
    if not count:
        raise DataError(f"{path}: must hold an object, or rows of them, holds none")


def _csv(text: str) -> Iterator[Any]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = reader.fieldnames or ()
    if twice := next((name for at, name in enumerate(names) if name in names[:at]), None):
        raise ValueError(f"two columns are called {twice[:80]!r}")
    return reader


def _json(text: str) -> dict[str, Any] | list[Any]:
    content = json.loads(text)
    return content if isinstance(content, dict | list) else []


def _jsonl(text: str) -> Iterator[Any]:
    # Not `splitlines`: it takes characters for ends of lines that JSON allows inside of texts.
    return (json.loads(line) for line in io.StringIO(text) if line.strip())


_READERS: Final[dict[str, Callable[[str], Any]]] = {".csv": _csv, ".json": _json, ".jsonl": _jsonl}


def _row(path: Path, where: str, given: Mapping[str, Any], known: Mapping[str, Feature]) -> Row:
    row = {}
    cells = path.suffix.lower() == ".csv"
    for name, feature in known.items():
        value = given.get(name)
        if value is None or (cells and value == "" and feature.type != "string"):
            if feature.type == "state" or feature.optional:
                continue
            if name in given:
                what = "empty; write nan" if cells else "null; write NaN"
                raise DataError(f"{where}: {name[:80]!r} is {what} for a missing number")
            held = ", ".join(str(key)[:80] for key in list(given)[:8]) or "nothing"
            raise DataError(f"{where}: must hold {name[:80]!r}; it holds {held}")
        at = f"{where}: {name[:80]!r}"
        row[name] = _value(path, at, feature, _cell(at, feature, value) if cells else value)
    return row


def _cell(where: str, feature: Feature, text: str) -> Any:
    """What a cell says, as JSON would hold it."""
    if feature.type in ("string", "image"):
        return text
    number = {"int64": int, "double": float}.get(feature.type, json.loads)
    try:
        if "_" in text and number is not json.loads:  # Python's own: 1_000
            raise ValueError
        return number(text)
    except (ValueError, RecursionError):
        wanted = {"int64": "a whole number", "double": "a number"}.get(
            feature.type, "JSON: lists, or an object"
        )
        raise DataError(f"{where} must be {wanted}, got {text[:60]!r}") from None


def _value(path: Path, where: str, feature: Feature, value: Any) -> Any:
    """A value of JSON as the feature's; scalars are checked when the model gets them."""
    if feature.type in ("multiArray", "state"):
        return from_lists(where, feature, value if isinstance(value, list) else [value])
    if feature.type == "image":
        if not isinstance(value, str):
            raise DataError(
                f"{where} must be the name of an image beside the rows, got {type(value).__name__}"
            )
        return read_picture(inside(path.parent, value), feature)
    if feature.type == "dictionary" and feature.dtype == "int64" and isinstance(value, dict):
        try:  # JSON has no other keys than texts
            return {int(key): number for key, number in value.items()}
        except ValueError:
            raise DataError(f"{where} must have whole numbers as keys, got {str(list(value))[:60]}") from None
    return value
