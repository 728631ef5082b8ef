"""Inputs from files: `.npz` and JSON, bounded, converted to what a package takes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sim.runtimes.base import Array
from personality_common.coreml.features import Feature
from personality_common.coreml.limits import read_bounded
from personality_common.errors import DataError
from personality_common.files import atomic_writer

MAX_BYTES: Final = 1 << 30
MAX_ARRAYS: Final = 256


def read_arrays_file(path: Path, features: dict[str, Feature]) -> dict[str, Array]:
    """Read arrays by name.

    Numbers in JSON become the type of the feature of that name. Arrays in `.npz` must have it, or
    one that fits into it without loss (float16 into float32).

    Args:
        path: `.npz`, or `.json` that holds {"name": nested lists}.
        features: what is known by name; an array of another name is refused.

    Raises:
        DataError: another kind of file, malformed, too large, an unknown name, or a type that does
            not fit.
    """
    if path.suffix == ".npz":
        arrays = dict(_read_npz(path))
    elif path.suffix == ".json":
        arrays = dict(_read_json(path, features))
    else:
        raise DataError(f"{path}: inputs are read from .npz or .json, got {path.suffix or 'no suffix'!r}")
    if unknown := sorted(set(arrays) - set(features)):
        raise DataError(f"{path}: arrays must be named {sorted(features)}, got {unknown[0][:80]!r}")
    for name, array in arrays.items():
        wanted = np.dtype(str(features[name].dtype))
        if not np.can_cast(array.dtype, wanted, "safe"):
            raise DataError(
                f"{path}: {name!r} must be {wanted.name}, or fit into it without loss; it is "
                f"{array.dtype.name} (array.astype(np.{wanted.name}) converts it)"
            )
        arrays[name] = array.astype(wanted, copy=False)
    return arrays


def write_npz(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays by name, atomically."""
    with atomic_writer(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read_npz(path: Path) -> Iterator[tuple[str, Array]]:
    """Sizes are checked from the headers before anything is allocated; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > MAX_BYTES or len(members) > MAX_ARRAYS:
                raise DataError(
                    f"{path}: may have {MAX_ARRAYS} arrays and {MAX_BYTES:,} bytes, has {len(members)} and "
                    f"{total:,}"
                )
            for member in members:
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    yield name, _read_npy(file, member.file_size, f"{path}: {name[:80]!r}")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a .npz file: {' '.join(str(error).split())[:200]}") from error


def _read_npy(file: Any, size: int, what: str) -> Array:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = read[version](file)
        if dtype.hasobject or dtype.kind not in "biuf":
            raise ValueError(f"an array of numbers is expected, got {dtype}")
        count = 1
        for length in shape:
            count *= length
        if count * dtype.itemsize > size:
            raise ValueError(f"its header announces {count:,} elements, more than the file has")
        data = file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise ValueError("it is cut off")
        array = np.frombuffer(data, dtype)
        return array.reshape(shape, order="F" if fortran else "C")
    except (ValueError, SyntaxError, TypeError) as error:
        raise DataError(f"{what}: not an array: {' '.join(str(error).split())[:200]}") from error


def _read_json(path: Path, features: dict[str, Feature]) -> Iterator[tuple[str, Array]]:
    try:
        record = json.loads(read_bounded(path, MAX_BYTES, "a file of inputs"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(record, dict):
        raise DataError(f'{path}: must be {{"name": nested lists}}, is a {type(record).__name__}')
    for name, value in record.items():
        if name not in features:
            yield name, np.empty(0)
            continue
        wanted = np.dtype(str(features[name].dtype))
        try:
            array = np.array(value)
        except ValueError:
            raise DataError(f"{path}: {name!r} must be nested lists of equal lengths") from None
        if array.dtype.kind not in ("iuf" if wanted.kind == "f" else "iu"):
            what = "numbers" if wanted.kind == "f" else "integers"
            raise DataError(f"{path}: {name!r} must be nested lists of {what}")
        if wanted.kind == "i" and array.size:
            bounds = np.iinfo(wanted)
            if array.min() < bounds.min or array.max() > bounds.max:
                raise DataError(f"{path}: {name!r} must fit {wanted.name}, goes to {array.max()}")
        with np.errstate(over="ignore"):
            yield name, array.astype(wanted)
