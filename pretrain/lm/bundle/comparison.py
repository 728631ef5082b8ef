"""What stands in a GGUF file against the checkpoint, tensor by tensor."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.errors import MismatchError
from pretrain.lm.bundle.gguf_file import GgufFile
from pretrain.lm.bundle.gguf_types import GgufType
from pretrain.lm.bundle.names import tensor_names
from pretrain.lm.model import Decoder

_HALF: Final = 2.0**-11
"""A block's scale is rounded to float16 after the codes were chosen: by that share of itself, at most."""
STEPS: Final = {"Q8_0": 0.5 + 127 * _HALF, "Q5_0": 1 + 16 * _HALF, "Q4_0": 1 + 8 * _HALF}
"""How far a value may be from the checkpoint's, in steps of its block: half a step is rounding. Codes of Q5_0
and Q4_0 go from -16 to 15 and from -8 to 7, so that the greatest value may lose a whole one."""
SMALLEST: Final = 128 * 2.0**-24
"""What is lost where the scale is too small for float16."""
SHARES: Final = {"Q4_K": 0.15, "Q6_K": 0.05}
"""Of these, the root mean square of the difference to that of the values: scales are searched for, so that no
single value has a bound. Normal values lose 0.08 and 0.02."""


def compare(file: GgufFile, model: Decoder) -> float:
    """Hold every tensor to the checkpoint's: its bits, or the nearest value that its type has.

    Returns:
        The largest difference of a value.

    Raises:
        MismatchError: names the first tensor that is another.
    """
    names = list(tensor_names(model.config))
    if file.tensors.keys() != {n.gguf for n in names}:
        differing = sorted(file.tensors.keys() ^ {n.gguf for n in names})[:5]
        raise MismatchError(f"{file.path}: must hold the tensors of the checkpoint, differs in {differing}")
    weights = model.state_dict()
    largest = 0.0
    for n in names:
        expected = weights[n.ours].detach().float().cpu()
        tensor = file.tensors[n.gguf]
        if tensor.shape != tuple(expected.shape):
            raise MismatchError(
                f"{file.path}: {n.gguf} must have the shape {tuple(expected.shape)}, has {tensor.shape}"
            )
        found = file.values(n.gguf)
        problem = _problem(tensor.type, file.raw(n.gguf), found, expected)
        if problem:
            raise MismatchError(
                f"{file.path}: {n.gguf} in {tensor.type.name} must be {problem}; export again"
            )
        largest = max(largest, float(np.abs(found - expected.numpy()).max()))
    return largest


def _problem(
    kind: GgufType, raw: NDArray[np.uint8], found: NDArray[np.float32], expected: torch.Tensor
) -> str | None:
    """What a tensor should be and is not, in words."""
    values = expected.numpy()
    if not np.isfinite(found).all():
        return "finite"
    if kind.block == 1:
        exact = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind.name]
        rounded = expected.to(exact).float().numpy()
        same = np.array_equal(rounded.view(np.uint32), found.view(np.uint32))
        return None if same else "the checkpoint's, rounded to that type"
    distance = np.abs(found - values)
    if kind.name in SHARES:
        lost, size = (float(np.sqrt(np.square(x, dtype=np.float64).mean())) for x in (distance, values))
        most = SHARES[kind.name]
        return None if lost <= most * size + SMALLEST else f"within {most} of the checkpoint's in the mean"
    scales = raw.reshape(-1, kind.bytes)[:, :2].copy().view(np.float16).astype(np.float32)
    allowed = np.abs(scales) * STEPS[kind.name] + SMALLEST
    near = (distance.reshape(-1, kind.block) <= allowed).all()
    return None if near else "within a step of the checkpoint's"
