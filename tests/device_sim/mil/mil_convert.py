"""Converts modules with coremltools, whose warnings are its own."""

import warnings
from typing import Any

import coremltools as ct
import numpy as np
import torch


def convert(
    module: torch.nn.Module,
    example: dict[str, np.ndarray],
    *,
    precision: str = "FLOAT32",
    target: str = "iOS17",
    most: int | None = 8,
    states: dict[str, tuple[int, ...]] | None = None,
    dtype: Any = np.float32,
) -> Any:
    """An ML Program with output `y`; the first axis of its inputs is 1 to `most`, or fixed for None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), tuple(torch.from_numpy(v) for v in example.values()))
        inputs = [
            ct.TensorType(
                name,
                shape=v.shape if most is None else (ct.RangeDim(1, most, 1), *v.shape[1:]),
                dtype=v.dtype.type,
            )
            for name, v in example.items()
        ]
        held = [
            ct.StateType(wrapped_type=ct.TensorType(shape=shape, dtype=np.float16), name=name)
            for name, shape in (states or {}).items()
        ]
        return ct.convert(
            traced,
            inputs=inputs,
            outputs=[ct.TensorType("y", dtype=dtype)],
            states=held or None,
            compute_precision=getattr(ct.precision, precision),
            minimum_deployment_target=getattr(ct.target, target),
            skip_model_load=True,
        )
