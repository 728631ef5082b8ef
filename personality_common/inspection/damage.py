"""Whether the files of a folder are those that its summary names; without torch, which loads for seconds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from personality_common.errors import DataError
from personality_common.files.atomic import file_sha256
from personality_common.files.bounded import open_regular
from personality_common.files.fingerprint import fingerprint_bytes
from personality_common.files.inside import inside

_HEADER_BYTES: Final = 100 << 20
_DTYPES: Final = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I64": "int64"}
"""Those that a trained model has, by safetensors' name."""


def damaged_files(bundle: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the files of a bundle; of a manifest that is none of ours, nothing is said.

    Raises:
        DataError: a name leads out of the folder.
    """
    files = manifest.get("files")
    for name, stated in files.items() if isinstance(files, dict) else ():
        if isinstance(stated, dict) and isinstance(stated.get("sha256"), str):
            path = inside(bundle, name)
            if not path.is_file():
                yield f"{path}: the manifest names it, and there is no such file"
            elif file_sha256(path) != stated["sha256"]:
                yield f"{path}: damaged: its SHA-256 is not the one that the manifest names"


def damaged_tensors(run: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the weight files of a run; of a record that is none of ours, nothing is said.

    Raises:
        DataError: a name leads out of the folder.
    """
    files = record.get("tensors")
    for name, stated in files.items() if isinstance(files, dict) else ():
        path = inside(run, name)
        try:
            wanted = {tensor: entry["fingerprint"] for tensor, entry in stated.items()}
            found = _fingerprints(path)
        except (AttributeError, TypeError, KeyError):
            yield f"{run}: its record must name the tensors of {name[:80]!r}, does not"
        except DataError as error:
            yield str(error)
        else:
            if changed := sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n)):
                yield f"{path}: damaged: {len(changed)} tensors are not those of the record: {changed[:3]}"


def _fingerprints(path: Path) -> dict[str, str]:
    """Of a safetensors file: length of the header in 8 bytes, the header in JSON, the tensors' bytes.

    Raises:
        DataError: it is none, or truncated.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER_BYTES, size):
            raise DataError(f"{path}: damaged or not a safetensors file: a header of {length:,} bytes")
        found = {}
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = 0
            for name, tensor in sorted(header.items(), key=lambda entry: entry[1]["data_offsets"]):
                start, end = end, tensor["data_offsets"][1]
                # They lie one after the other, so no byte is read twice.
                if tensor["data_offsets"][0] != start or not start <= end <= size - 8 - length:
                    raise DataError(f"{path}: damaged: {name[:80]!r} does not lie in it where it should")
                found[name] = fingerprint_bytes(
                    _DTYPES[tensor["dtype"]], tensor["shape"], file.read(end - start)
                )
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise DataError(f"{path}: damaged or not a safetensors file: {type(error).__name__}") from None
    return found
