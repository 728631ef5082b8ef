"""Files of named arrays that users give and get: `.npz`, and `.json` for small inputs written by hand."""

from __future__ import annotations

import io
import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from device_sim.mil.features import ARRAYS
from device_sim.mil.types import Array, prod
from personality_common.coreml.features import Feature
from personality_common.errors import DataError, ToolkitError
from personality_common.files.atomic import atomic_writer, read_json_object
from personality_common.files.bounded import open_regular

MAX_BYTES: Final = 1 << 30
"""Of the arrays read from one file together, decompressed."""
MAX_JSON_BYTES: Final = 64 << 20

# What `zipfile` raises on damaged archives, as its source shows; RuntimeError for encrypted ones, OSError for
# offsets before the beginning.
_ZIP_ERRORS: Final = (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError, struct.error)


def read_arrays(
    path: Path,
    features: Iterable[Feature],
    optional: Iterable[Feature] = (),
    max_bytes: int = MAX_BYTES,
) -> dict[str, Array]:
    """Read the array of each feature from a file of the user's.

    Args:
        path: `.npz`, or `.json` with an object of nested lists of numbers by name.
        features: what to read; arrays of other names are left alone, so that one file can serve
            several packages.
        optional: read as well, if they are there.

    Returns:
        By feature name: from `.npz` in the types of the file, from `.json` in the features'
        types. Shapes are for `predict` to check.

    Raises:
        DataError: missing, malformed, too large, without one of the features, or not numbers.
    """
    if path.suffix == ".json":
        read = read_json_object(path, MAX_JSON_BYTES)
        wanted = _choose(path, read, features, optional)
        return {
            feature.name: from_lists(f"{path}: {feature.name!r}", feature, read[feature.name])
            for feature in wanted
        }
    if path.suffix != ".npz":
        raise DataError(f"{path}: arrays are read from .npz or .json, got {path.suffix or 'no suffix'!r}")
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return _read_npz(path, file, features, optional, max_bytes)
    except (*_ZIP_ERRORS, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: not a readable .npz file: {_line(error)}") from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays as `.npz`: uncompressed, whole or not at all; equal arrays give equal bytes.

    Raises:
        ToolkitError: another suffix than `.npz`.
        OSError: no space, no permission.
    """
    if path.suffix != ".npz":
        raise ToolkitError(f"{path}: arrays are written as .npz; give a name that ends in .npz")
    # Not `np.savez`: it cannot take an array called `file`, and puts the time into the archive.
    with atomic_writer(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _read_npz(
    path: Path, file: IO[bytes], features: Iterable[Feature], optional: Iterable[Feature], max_bytes: int
) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = _choose(path, members, features, optional)
        wanted = {feature.name: members[feature.name] for feature in chosen}
        # A member is never read beyond the size that the archive states.
        if (total := sum(info.file_size for info in wanted.values())) > max_bytes:
            raise DataError(f"{path}: its arrays must have at most {max_bytes:,} bytes, have {total:,}")
        return {name: _parse_npy(f"{path}: {name!r}", archive.read(info)) for name, info in wanted.items()}


def _parse_npy(where: str, content: bytes) -> Array:
    """An array from the bytes of a `.npy` file; `np.load` would allocate whatever the header says."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"format version {version} holds no plain numbers")
    except Exception as error:  # NumPy's parser lets tokenizer errors and others through
        raise DataError(f"{where}: not an array: {_line(error)}") from None
    if dtype.kind not in "fiub":
        raise DataError(f"{where}: must hold numbers, holds {dtype}")
    size = prod(shape)
    start = stream.tell()
    if any(d < 0 for d in shape) or len(content) - start != size * dtype.itemsize:
        raise DataError(
            f"{where}: {dtype.name}{list(shape)} does not take the {len(content) - start:,} bytes that follow"
        )
    flat = np.frombuffer(content, dtype, size, start).astype(dtype.newbyteorder("="))
    return flat.reshape(shape, order="F" if fortran else "C")


def from_lists(where: str, feature: Feature, value: Any) -> Array:
    """Nested lists as an array of the feature's type.

    Raises:
        DataError: of different lengths, not numbers, or a type that no array has.
    """
    if feature.dtype not in ARRAYS:
        raise DataError(f"{where} has elements of {feature.dtype}, not supported")
    dtype = np.dtype(feature.dtype)
    try:
        array = np.asarray(value)
    except ValueError:
        raise DataError(f"{where}: lists on one level must be equally long") from None
    if array.size and array.dtype.kind not in ("fiu" if dtype.kind == "f" else "iu"):
        wanted = "numbers" if dtype.kind == "f" else "integers"
        raise DataError(f"{where}: must be lists of {wanted}, got {_preview(value)}")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    return array.astype(np.int64)


def _preview(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _choose(
    path: Path, names: Mapping[str, Any], features: Iterable[Feature], optional: Iterable[Feature]
) -> tuple[Feature, ...]:
    features = tuple(features)
    if missing := [feature.name for feature in features if feature.name not in names]:
        held = ", ".join(name[:80] for name in list(names)[:8]) or "nothing"
        raise DataError(f"{path}: must hold {', '.join(map(repr, missing))}; it holds {held}")
    return (*features, *(feature for feature in optional if feature.name in names))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
