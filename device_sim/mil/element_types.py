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

_IMAGE: Final = ("avg_pool", "l2_pool", "max_pool", "crop", "local_response_norm", "random_categorical")
_RESIZED: Final = ("resize_bilinear", "resize_nearest_neighbor", "upsample_bilinear")

TAKES: Final[Mapping[str, Mapping[str, str]]] = {
    **{name: {"x": _FLOATS} for name in (*_IMAGE, *_RESIZED, "upsample_nearest_neighbor")},
    "affine": dict.fromkeys(("x", "transform_matrix"), _FLOATS),
    "conv": dict.fromkeys(("x", "weight", "bias"), _FLOATS),
    "conv_quantized": {"x": _FLOATS, "weight": _INTEGERS, "quant_scale": _FLOATS, "quant_bias": _FLOATS},
    "conv_transpose": dict.fromkeys(("x", "weight", "bias"), _FLOATS),
    "crop_resize": {"x": _FLOATS, "roi": _FLOATS, "boxes": _NUMBERS, "box_indices": _INTEGERS},
    "gru": dict.fromkeys(("x", "initial_h", "weight_ih", "weight_hh", "bias", "input_bias"), _FLOATS),
    "lstm": dict.fromkeys(
        (
            *("x", "initial_h", "initial_c", "weight_ih", "weight_hh", "bias", "peephole"),
            *("weight_ih_back", "weight_hh_back", "bias_back", "peephole_back"),
        ),
        _FLOATS,
    ),
    "non_maximum_suppression": dict.fromkeys(("boxes", "scores"), _FLOATS),
    "resample": {"x": _FLOATS, "coordinates": _NUMBERS},
    "resize": {"x": _NUMBERS},
    "rnn": dict.fromkeys(("x", "initial_h", "weight_ih", "weight_hh", "bias"), _FLOATS),
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
