"""torch's version of the ops in our own packages: a second opinion for `pt trace --against torch`.

The interpreter itself never computes with torch. A function here has the parameters of MIL's op,
as the NumPy kernels do, computes in float32, and returns None for arguments that torch has no
equal for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from device_sim.mil.registry import Op
from device_sim.mil.types import Ints


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y and y.ndim > 1 else y)


def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor | None:
    over = sorted(axis % x.ndim for axis in axes or range(x.ndim))
    if over != list(range(x.ndim - len(over), x.ndim)):
        return None  # torch normalizes the last axes only
    return functional.layer_norm(x, x.shape[over[0] :], gamma, beta, epsilon)


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor | None:
    kinds = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    return functional.gelu(x, approximate=kinds[mode]) if mode in kinds else None


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return functional.softmax(x, dim=axis)


def real_div(x: Tensor, y: Tensor) -> Tensor | None:
    return torch.true_divide(x, y) if x.is_floating_point() else None


def reduce_sum(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    return torch.sum(x, dim=axes or tuple(range(x.ndim)), keepdim=keep_dims)


def reduce_l2_norm(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    result: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keep_dims)
    return result


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(x, alpha, beta)


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


def cast(x: Tensor, dtype: str) -> Tensor | None:
    types = {"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
    return x.to(types[dtype]) if dtype in types else None


def gather(
    x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor | None:
    if batch_dims or axis or (indices.numel() and int(indices.min()) < 0):
        return None
    return functional.embedding(indices.long(), x) if x.ndim == 2 else x[indices.long()]


def reshape(x: Tensor, shape: Ints) -> Tensor | None:
    return None if 0 in shape else x.reshape(shape)


def transpose(x: Tensor, perm: Ints) -> Tensor:
    return x.permute(perm)


def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes)


def tile(x: Tensor, reps: Ints) -> Tensor:
    return torch.tile(x, reps)


_FUNCTIONS: Final[dict[str, Callable[..., Tensor | None]]] = {
    "add": lambda x, y: torch.add(x, y),
    "cast": cast,
    "clip": clip,
    "expand_dims": expand_dims,
    "gather": gather,
    "gelu": gelu,
    "greater_equal": lambda x, y: torch.ge(x, y),
    "layer_norm": layer_norm,
    "linear": linear,
    "matmul": matmul,
    "maximum": lambda x, y: torch.maximum(x, y),
    "mul": lambda x, y: torch.mul(x, y),
    "real_div": real_div,
    "reduce_l2_norm": reduce_l2_norm,
    "reduce_sum": reduce_sum,
    "reshape": reshape,
    "select": select,
    "softmax": softmax,
    "squeeze": squeeze,
    "sub": lambda x, y: torch.sub(x, y),
    "tile": tile,
    "transpose": transpose,
}


class TorchKernel:
    """Stands in for an op's kernel and computes with torch, or with the kernel where torch has no equal."""

    def __init__(self, op: Op) -> None:
        self._op = op
        self.compared = False
        """Whether the last call was torch's."""

    def __call__(self, **arguments: Any) -> Any:
        function = _FUNCTIONS.get(self._op.name)
        result = None
        if function is not None:
            given = {key: _tensor(value) for key, value in arguments.items() if key != "acc"}
            result = function(**given)
        self.compared = result is not None
        return self._op.kernel(**arguments) if result is None else np.asarray(result.numpy())


def _tensor(value: Any) -> Any:
    # A copy: the interpreter's arrays are read-only, which torch warns of.
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
