"""Tensors on disk: safetensors, written atomically, with a checksum that loading verifies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import safetensors
from safetensors.torch import save
from torch import Tensor, nn

from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import atomic_writer
from personality_common.files.fingerprint import fingerprint

METADATA_KEY: Final = "personality-toolkit"
"""One entry that holds the checksum and all else as JSON: safetensors writes several in random order,
and the same tensors must give the same file."""
MAX_FILE_BYTES: Final = 4 << 30


def tensor_fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Fingerprint of each tensor, in the order given; see `personality_common.files.fingerprint`."""
    return {name: fingerprint(_numpy(tensor)) for name, tensor in tensors.items()}


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and string metadata, with the checksum that `load_tensors` verifies.

    The checksum covers names, dtypes, shapes, values and metadata.

    Raises:
        OSError: cannot be written; what was there before is still there.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checksum = _checksum(plain, metadata or {})
    entry = json.dumps({"sha256": checksum, "metadata": metadata or {}}, sort_keys=True)
    with atomic_writer(path) as file:
        file.write(save(plain, {METADATA_KEY: entry}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote: tensors on the CPU, and metadata.

    Raises:
        DataError: missing, too large, not safetensors, truncated, or its checksum does not hold.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: must be at most {MAX_FILE_BYTES} bytes, has {path.stat().st_size}")
        with safetensors.safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(METADATA_KEY)
            # Copies: a mapped tensor would change under us when the file does.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: damaged or not a safetensors file: {error}") from None
    try:
        content = json.loads(entry or "")
        metadata = {str(key): str(value) for key, value in content["metadata"].items()}
        whole = content["sha256"] == _checksum(tensors, metadata)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: must be a file of this toolkit, with a checksum in its metadata") from None
    if not whole:
        raise DataError(f"{path}: damaged: its content does not match its checksum; restore it or remove it")
    return tensors, metadata


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy tensors into a module that must have just these names, shapes and dtypes.

    Raises:
        MismatchError: a name is missing or foreign, or a shape or dtype differs.
    """
    own = module.state_dict()
    if own.keys() != tensors.keys():
        names = sorted(own.keys() ^ tensors.keys())
        raise MismatchError(f"{source}: must hold the tensors of {type(module).__name__}; differs in {names}")
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (own[name].shape, own[name].dtype):
            raise MismatchError(
                f"{source}: {name} must be {tuple(own[name].shape)} {own[name].dtype}, "
                f"is {tuple(tensor.shape)} {tensor.dtype}"
            )
    module.load_state_dict(dict(tensors))


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    content = [sorted(tensor_fingerprints(tensors).items()), sorted(metadata.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()
