"""Kernels by family. Importing this package registers all of them."""

from device_sim.mil.kernels import (
    activation,
    attention,
    binary,
    compression,
    gather_scatter,
    linear,
    normalization,
    reduction,
    shape,
    slicing,
    sorting,
    state,
    tensor,
    unary,
)

__all__ = [
    "activation",
    "attention",
    "binary",
    "compression",
    "gather_scatter",
    "linear",
    "normalization",
    "reduction",
    "shape",
    "slicing",
    "sorting",
    "state",
    "tensor",
    "unary",
]
