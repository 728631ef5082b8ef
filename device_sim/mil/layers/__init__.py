"""Layers of neural networks by family; most are kernels of MIL under another name.

Source: Core ML's NeuralNetwork.proto (coremltools, mlmodel/format).
"""

from __future__ import annotations

from typing import Final

from device_sim.mil.layers import (
    activation,
    convolution,
    elementwise,
    image,
    indexing,
    linear,
    normalization,
    recurrent,
    reduction,
    shape,
    tensor,
)
from device_sim.mil.layers.layer import Build, Layer
from device_sim.mil.layers.weights import Weights

FAMILIES: Final[dict[str, dict[str, Build]]] = {
    module.__name__.rpartition(".")[2]: module.LAYERS
    for module in (
        activation,
        convolution,
        elementwise,
        image,
        indexing,
        linear,
        normalization,
        recurrent,
        reduction,
        shape,
        tensor,
    )
}


def _all() -> dict[str, Build]:
    layers: dict[str, Build] = {}
    for family in FAMILIES.values():
        if twice := layers.keys() & family.keys():
            raise ValueError(f"layers are registered twice: {sorted(twice)}")
        layers |= family
    return layers


LAYERS: Final = _all()
"""By the field of `NeuralNetworkLayer` that holds its parameters."""

__all__ = ["FAMILIES", "LAYERS", "Layer", "Weights"]
