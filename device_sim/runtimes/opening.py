"""What computes latents and logits from embeddings: the package in a runtime, or its mirror in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_sim.runtimes.config import RuntimeChoice
from device_sim.runtimes.coreml import CoreMLRuntime
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import LoadedModel, predict_rows
from device_sim.runtimes.torch_mirror import MirrorModel
from grpo.head import Head
from personality_common.bundle.stored import StoredTensor
from personality_common.contract import EMBEDDING, HEAD_PARAMETERS, LATENT, LOGITS

Array = NDArray[np.float32]


def open_runtime(name: RuntimeChoice, package: Path, places: Sequence[StoredTensor]) -> LoadedModel:
    """Open `PersonalityModel.mlpackage`, or a copy of it with another head.

    Args:
        name: "mil" interprets the package; "coreml" is Core ML itself, on macOS; "torch" computes with
            PyTorch from the parameters in the package.
        places: where the package has its parameters.

    Raises:
        ToolkitError: the runtime is not available here.
        DataError: the package is malformed.
    """
    if name == "torch":
        return open_mirror(package, places)
    return (MilRuntime() if name == "mil" else CoreMLRuntime()).load(package)


def open_mirror(package: Path, places: Sequence[StoredTensor], head: Head | None = None) -> MirrorModel:
    """PyTorch with the parameters that a package holds, or with another head."""
    values = {place.name: place.read(package) for place in places}
    if head is not None:
        values |= {name: tensor.numpy() for name, tensor in zip(HEAD_PARAMETERS, head, strict=True)}
    return MirrorModel(package, values)


def evaluate(model: LoadedModel, embeddings: Array) -> tuple[Array, Array]:
    """(N, 1536) to latents (N, 512) and logits (N, 325), in batches that the package takes."""
    found = predict_rows(model, {EMBEDDING: embeddings})
    return found[LATENT], found[LOGITS]
