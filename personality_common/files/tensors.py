"""Tensors on disk: safetensors, written atomically, with a checksum that loading verifies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import atomic_writer
from personality_common.files.fingerprint import fingerprint_bytes

METADATA_KEY: Final = "personality-toolkit"
"""One entry that holds the checksum and all else as JSON: safetensors writes several in random order,
and the same tensors must give the same file."""
MAX_FILE_BYTES: Final = 4 << 30
"""Of a file whose tensors nobody knows beforehand; what goes into a module is bounded by the module."""


def tensor_fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Fingerprint of each tensor, in the order given; see `personality_common.files.fingerprint`."""
    return {name: _fingerprint(tensor) for name, tensor in tensors.items()}


def dtype_name(tensor: Tensor) -> str:
    """As NumPy calls it: `float32`."""
    return str(tensor.dtype).removeprefix("torch.")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write tensors and string metadata, with the checksum that loading verifies.

    The checksum covers names, dtypes, shapes, values and metadata.

    Returns:
        The fingerprint of each tensor.

    Raises:
        OSError: cannot be written; what was there before is still there.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    fingerprints = tensor_fingerprints(plain)
    checksum = _checksum(fingerprints, metadata or {})
    entry = json.dumps({"sha256": checksum, "metadata": metadata or {}}, sort_keys=True)
    with atomic_writer(path) as file:
        file.write(save(plain, {METADATA_KEY: entry}))
    return fingerprints


def load_tensors(path: Path, max_bytes: int = MAX_FILE_BYTES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote: tensors on the CPU, and metadata.

    Raises:
        DataError: missing, too large, not safetensors, truncated, or its checksum does not hold.
    """
    with _opened(path) as file:
        if path.stat().st_size > max_bytes:
            raise DataError(f"{path}: must be at most {max_bytes} bytes, has {path.stat().st_size}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _, metadata = _verified(path, file, tensors)
    return tensors, metadata


def load_into(module: nn.Module, path: Path) -> dict[str, str]:
    """Read what `save_tensors` wrote into a module that must have just these names, shapes and dtypes.

    Returns:
        The fingerprint of each tensor.

    Raises:
        DataError: as `load_tensors`; the module is as it was.
        MismatchError: a name is missing or foreign, or a shape or dtype differs; no more was read.
    """
    own = module.state_dict()
    tensors: dict[str, Tensor] = {}
    with _opened(path) as file:
        if own.keys() != set(file.keys()):
            names = sorted(own.keys() ^ set(file.keys()))[:5]
            raise MismatchError(
                f"{path}: must hold the tensors of {type(module).__name__}; differs in {names}"
            )
        for name, wanted in own.items():
            stored = file.get_slice(name)
            if tuple(stored.get_shape()) == wanted.shape:
                tensors[name] = file.get_tensor(name)
            if name not in tensors or tensors[name].dtype != wanted.dtype:
                raise MismatchError(
                    f"{path}: {name} must be {tuple(wanted.shape)} {dtype_name(wanted)}, "
                    f"is {tuple(stored.get_shape())} {stored.get_dtype()}"
                )
        fingerprints, _ = _verified(path, file, tensors)
    module.load_state_dict(tensors)
    return fingerprints


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DataError(f"{path}: must be a file, and not a link or a device")
        # Read, not mapped: a mapped tensor would change under us when the file does.
        with safetensors.safe_open(path, framework="pt", backend="pread") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: damaged or not a safetensors file: {error}") from None


def _verified(path: Path, file: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, str], dict[str, str]]:
    """Fingerprints and metadata, once the checksum holds."""
    fingerprints = tensor_fingerprints(tensors)
    try:
        content = json.loads((file.metadata() or {}).get(METADATA_KEY, ""))
        metadata = {str(key): str(value) for key, value in content["metadata"].items()}
        whole = content["sha256"] == _checksum(fingerprints, metadata)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: must be a file of this toolkit, with a checksum in its metadata") from None
    if not whole:
        raise DataError(f"{path}: damaged: its content does not match its checksum; restore it or remove it")
    return fingerprints, metadata


def _checksum(fingerprints: Mapping[str, str], metadata: Mapping[str, str]) -> str:
    content = [sorted(fingerprints.items()), sorted(metadata.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _fingerprint(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    # As bytes: NumPy has no bfloat16.
    return fingerprint_bytes(dtype_name(plain), plain.shape, plain.reshape(-1).view(torch.uint8).numpy().data)
