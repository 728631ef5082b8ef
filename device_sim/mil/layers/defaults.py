"""What a field of a layer means where it is unset or 0.

Protocol Buffers do not tell an unset number from 0, so the format documents what stands for it. Source:
the comments of Apple's NeuralNetwork.proto (coremltools, mlmodel/format), and for `spatialScale`, of which
it says nothing, coremltools' `NeuralNetworkBuilder.add_crop_resize`. A field that is not here means
what it says: 0, empty, the first of its enumeration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "BatchnormLayerParams": {"epsilon": 1e-5},
    "CategoricalDistributionLayerParams": {"eps": 1e-10, "temperature": 1.0},
    "ConvolutionLayerParams": {
        "nGroups": 1,
        "kernelSize": (3, 3),
        "stride": (1, 1),
        "dilationFactor": (1, 1),
    },
    "CropResizeLayerParams": {"targetSize": (1, 1), "spatialScale": 1.0},
    "L2NormalizeLayerParams": {"epsilon": 1e-6},
    "LRNLayerParams": {"k": 1.0},
    "LSTMParams": {"cellClipThreshold": 50.0},
    "MeanVarianceNormalizeLayerParams": {"epsilon": 1e-6},
    "PermuteLayerParams": {"axis": (0, 1, 2, 3)},
    "PoolingLayerParams": {"kernelSize": (3, 3), "stride": (1, 1)},
    "ReduceLayerParams": {"epsilon": 1e-6},
    "ResizeBilinearLayerParams": {"targetSize": (1, 1)},
    "SequenceRepeatLayerParams": {"nRepetitions": 1},
    "UnaryFunctionLayerParams": {"epsilon": 1e-6, "scale": 1.0},
    "UpsampleLayerParams": {"scalingFactor": (1, 1), "fractionalScalingFactor": (1.0, 1.0)},
    "ValidCompletePadding": {"paddingAmounts": (0, 0)},
    "ValidPadding": {"paddingAmounts": ((0, 0), (0, 0))},
}
"""Message -> field -> value; a list of sizes counts as unset where it is empty."""


def value(p: Any, field: str) -> Any:
    """A field's number, or its sizes as a tuple; the documented default where it is unset or 0."""
    default = DEFAULTS[p.DESCRIPTOR.name][field]
    if isinstance(default, tuple):
        given = tuple(getattr(p, field)[: len(default) + 1])
        return given or default
    return getattr(p, field) or default
