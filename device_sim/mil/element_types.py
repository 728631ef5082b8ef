"""Which ops take elements of some kinds only: what NumPy would meet with a TypeError is refused at load.

MIL declares a type domain for each parameter. An op that is not here computes with whatever MIL
allows and with more; for those that are, the kinds are MIL's (coremltools, mil/ops/defs), and a
test holds the table against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from device_sim.mil.registry import Op
from personality_common.errors import DataError

_FLOATS: Final = "f"
_INTEGERS: Final = "iu"
_NUMBERS: Final = "fiu"
_WORDS: Final = {_FLOATS: "floats", _INTEGERS: "integers", _NUMBERS: "numbers"}

TAKES: Final[Mapping[str, Mapping[str, str]]] = {
    "batch_norm": dict.fromkeys(("x", "mean", "variance", "gamma", "beta"), _FLOATS),
    "constexpr_affine_dequantize": {
        "quantized_data": _INTEGERS,
        "zero_point": _NUMBERS,
        "scale": _FLOATS,
    },
    "constexpr_blockwise_shift_scale": {"data": _NUMBERS, "scale": _FLOATS, "offset": _NUMBERS},
    "constexpr_sparse_blockwise_shift_scale": {
        "nonzero_data": _NUMBERS,
        "scale": _FLOATS,
        "offset": _NUMBERS,
    },
    "dequantize": {"input": _INTEGERS, "scale": _FLOATS, "zero_point": _INTEGERS},
    "gather": {"indices": _INTEGERS},
    "reduce_log_sum_exp": {"x": _NUMBERS},
    "scaled_dot_product_attention": dict.fromkeys(("query", "key", "value"), _FLOATS),
    "scatter": {"data": _NUMBERS, "updates": _NUMBERS},
    "scatter_along_axis": {"data": _NUMBERS, "updates": _NUMBERS},
    "scatter_nd": {"data": _NUMBERS, "updates": _NUMBERS},
    "sigmoid": {"x": _FLOATS},
    "sign": {"x": _NUMBERS},
    "silu": {"x": _FLOATS},
    "softmax": {"x": _FLOATS},
    "softplus": {"x": _FLOATS},
    "softplus_parametric": dict.fromkeys(("x", "alpha", "beta"), _FLOATS),
    "sub": {"x": _NUMBERS, "y": _NUMBERS},
}
"""Op -> parameter -> kinds of NumPy's dtypes."""


def check_elements(op: Op, param: str, dtypes: Sequence[np.dtype[Any] | None], where: str) -> None:
    """Refuse elements that the kernel cannot compute with.

    Args:
        dtypes: of the values given for the parameter; None for a text, which is no array.

    Raises:
        DataError: named like the op, with what it takes.
    """
    kinds = TAKES.get(op.name, {}).get(param)
    for dtype in dtypes:
        if kinds is not None and dtype is not None and dtype.kind not in kinds:
            raise DataError(f"{where}: {param} must be {_WORDS[kinds]}, got {dtype.name}")
