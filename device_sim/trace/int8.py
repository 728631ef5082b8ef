"""A model's weights as int8 would hold them: what `pt trace --against int8` computes with.

Constants that multiply, of `linear`, `matmul` and the networks' innerProduct, are rounded to
`scale * q` with q an integer in -127 … 127 and one scale per output channel, the largest
magnitude of the channel over 127 (linear, symmetric). Biases stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from device_sim.mil.step import Step
from device_sim.mil.types import Array

STEPS: Final = 127


def fake_quantize(weight: Array, axis: int) -> Array:
    """Round a weight to int8 and back.

    Args:
        weight: any rank from 1 on, float.
        axis: the axis that is summed over; each vector along it has its own scale.

    Returns:
        The same shape and type; values that are not finite give NaN in their channel.
    """
    with np.errstate(all="ignore"):
        scale = np.abs(weight).max(axis=axis, keepdims=True, initial=0) / STEPS
        scale = np.where(scale == 0, 1, scale)
        return np.asarray(np.rint(weight / scale) * scale, weight.dtype)


def quantized_step(step: Step) -> Step:
    """The step with its constant factors quantized; others as they are."""
    known = step.constants
    if step.op.name in ("linear", "innerProduct") and "weight" in known:  # (out, in)
        return _replaced(step, {"weight": -1})
    if step.op.name == "matmul":
        inner = {
            "x": -2 if known.get("transpose_x", False) else -1,
            "y": -1 if known.get("transpose_y", False) else -2,
        }
        return _replaced(step, {name: axis for name, axis in inner.items() if name in known})
    return step


def _replaced(step: Step, axes: dict[str, int]) -> Step:
    changed = {}
    for name, axis in axes.items():
        weight = step.constants[name]
        if weight.dtype.kind == "f" and weight.ndim:
            changed[name] = fake_quantize(weight, max(axis, -weight.ndim))
            changed[name].flags.writeable = False
    return replace(step, constants=step.constants | changed)
