"""The sample of training texts on which devices measure how far a head has moved: numbers, and no text."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from personality_common.errors import DataError
from personality_common.files.tensors import load_tensors, save_tensors
from pretrain.data.spread import shuffled

SAMPLE_FILE: Final = "reference_texts.safetensors"
SAMPLE_TEXTS: Final = 1024
"""Enough for a standard error of 0.005 of the share of the top 8 that a head keeps, in 1 MB of latents."""
_TENSOR: Final = "base_embeddings"


def sampled(texts: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Which of so many training texts are the sample: at most SAMPLE_TEXTS, ascending."""
    drawn = shuffled(np.random.default_rng(seed), texts)[:SAMPLE_TEXTS]
    return np.sort(drawn).astype(np.int64)


def save_sample(folder: Path, base_embeddings: Tensor) -> str:
    """Write the sample of a run, (N, d); returns its fingerprint."""
    return save_tensors(folder / SAMPLE_FILE, {_TENSOR: base_embeddings.half()})[_TENSOR]


def load_sample(run: Path, dim: int) -> Tensor | None:
    """(N, d) float32; None for a run from before there were samples.

    Raises:
        DataError: damaged, or not embeddings of the run's encoder.
    """
    path = run / SAMPLE_FILE
    if not path.exists():
        return None
    tensors, _ = load_tensors(path)
    found = tensors.get(_TENSOR)
    if found is None or found.ndim != 2 or found.shape[1] != dim or found.dtype != torch.float16:
        shape = None if found is None else (tuple(found.shape), str(found.dtype))
        raise DataError(f"{path}: {_TENSOR} must be (texts, {dim}) float16, got {shape}")
    if not 1 < len(found) <= SAMPLE_TEXTS or not bool(found.isfinite().all()):
        raise DataError(f"{path}: must hold 2 to {SAMPLE_TEXTS} finite embeddings, holds {len(found)}")
    return found.float()
