"""A head in a file of its own, as `pt grpo` writes it: of one run and one vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from torch import Tensor

from personality_common.contract import HEAD_BIAS, HEAD_WEIGHT, LATENT_DIM, VOCAB_SIZE
from personality_common.errors import DataError, MismatchError
from personality_common.files.tensors import load_tensors

MAX_BYTES: Final = 16 << 20
_SHAPES: Final = {HEAD_WEIGHT: (VOCAB_SIZE, LATENT_DIM), HEAD_BIAS: (VOCAB_SIZE,)}


class HeadFile(NamedTuple):
    """Weight (325, 512) and bias (325,), finite float32, and what the file says of them."""

    weight: Tensor
    bias: Tensor
    metadata: dict[str, str]


def head_metadata(run_fingerprint: str, vocabulary_fingerprint: str) -> dict[str, str]:
    """What a head belongs to."""
    return {"run_fingerprint": run_fingerprint, "vocabulary_fingerprint": vocabulary_fingerprint}


def read_head_file(path: Path, belongs: dict[str, str]) -> HeadFile:
    """Read a head.

    Args:
        belongs: what the head must belong to, see `head_metadata`.

    Raises:
        DataError: no such file, damaged, or no head.
        MismatchError: of another run or vocabulary.
    """
    tensors, metadata = load_tensors(path, MAX_BYTES)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    plain = all(str(t.dtype) == "torch.float32" and bool(t.isfinite().all()) for t in tensors.values())
    if found != _SHAPES or not plain:
        raise DataError(f"{path}: must be a head that pt grpo wrote, finite float32 {_SHAPES}; has {found}")
    for name, fingerprint in belongs.items():
        if metadata.get(name) != fingerprint:
            raise MismatchError(
                f"{path}: {name} must be {fingerprint[:12]}…, is {metadata.get(name, 'not there')[:12]}…: the"
                " head is of something else"
            )
    return HeadFile(tensors[HEAD_WEIGHT], tensors[HEAD_BIAS], metadata)
