"""What `pt run` writes: arrays, or rows of anything as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sim.runtimes.arrays import write_arrays
from personality_common.errors import DataError
from personality_common.files.atomic import atomic_writer

SUFFIXES: Final = (".npz", ".json", ".jsonl")


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write outputs: one object or a list of them as `.json`, a line each as `.jsonl`, and what has arrays
    and numbers alone as `.npz`.

    Several rows in an `.npz` lie along a new first axis. Numbers that JSON lacks (NaN, infinity) are texts.

    Raises:
        DataError: an output that `.npz` cannot hold.
        OSError: no space, no permission.
    """
    if path.suffix == ".npz":
        names = dict.fromkeys(name for row in rows for name in row)
        write_arrays(path, {name: _stacked(path, name, rows) for name in names})
        return
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    lines = plain if path.suffix == ".jsonl" else [plain[0] if len(plain) == 1 else plain]
    with atomic_writer(path) as file:
        for line in lines:
            text = json.dumps(line, ensure_ascii=False, allow_nan=False)
            file.write(text.encode(errors="backslashreplace") + b"\n")


def require_arrays(path: Path, row: dict[str, Any]) -> None:
    """Refuse an `.npz` for outputs that it cannot hold.

    Raises:
        DataError: there is one.
    """
    for name, value in row.items():
        if isinstance(value, str | dict | list):
            kind = {str: "text", dict: "a dictionary", list: "a sequence"}[type(value)]
            raise DataError(f"{path}: output {name!r} is {kind}, which .npz cannot hold: give a .json file")


def _stacked(path: Path, name: str, rows: Sequence[dict[str, Any]]) -> Any:
    if any(name not in row for row in rows):
        raise DataError(f"{path}: output {name!r} is not in all rows: give a .json or .jsonl file")
    arrays = [np.asarray(row[name]) for row in rows]
    if len({array.shape for array in arrays}) != 1:
        raise DataError(f"{path}: output {name!r} has not one shape in all rows: give a .json or .jsonl file")
    return np.stack(arrays) if len(rows) > 1 else arrays[0]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
