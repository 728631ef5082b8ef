"""Images as arrays of pixels: preprocessed for the layers of a network, and what a model gives as one.

Source: `NeuralNetworkPreprocessing` and `NeuralNetworkImageShapeMapping` of NeuralNetwork.proto.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from device_sim.mil.types import Array
from personality_common.coreml.features import Feature
from personality_common.errors import DataError

RANK5_MAPPING: Final = 0
"""`imageInputShapeMapping`: layers see (1, 1, channels, height, width); else (1, channels, height, width)."""
_BIASES: Final = {
    "rgb": ("redBias", "greenBias", "blueBias"),
    "bgr": ("blueBias", "greenBias", "redBias"),
    "grayscale": ("grayBias",),
    "grayscale_float16": ("grayBias",),
}
"""By color space, in the order of its channels."""


def channels(feature: Feature) -> int:
    """Of an image feature.

    Raises:
        DataError: a color space that the format does not have.
    """
    if feature.dtype not in _BIASES:
        raise DataError(f"image {feature.name[:80]!r} has the color space {feature.dtype}, not supported")
    return len(_BIASES[feature.dtype])


def preprocess(network: Any, feature: Feature, pixels: Array) -> Array:
    """What the layers see of an image.

    Args:
        network: the protobuf, whose preprocessing may name this feature.
        pixels: (channels, height, width), 0 to 255 in the feature's color space.

    Raises:
        DataError: preprocessing that does not fit the image.
    """
    x = pixels.astype(np.float32)
    for p in network.preprocessing:
        if p.featureName not in ("", feature.name):
            continue
        kind = p.WhichOneof("preprocessor")
        if kind == "scaler":
            biases = [getattr(p.scaler, name) for name in _BIASES[feature.dtype or ""]]
            x = x * np.float32(p.scaler.channelScale) + np.array(biases, np.float32)[:, None, None]
        elif kind == "meanImage":
            mean = p.meanImage.meanImage
            if len(mean) != x.size:
                raise DataError(
                    f"the mean image of {feature.name!r} has {len(mean)} values for {list(x.shape)}"
                )
            x = x - np.array(mean, np.float32).reshape(x.shape)
        else:
            raise DataError(f"preprocessing of {feature.name!r} by {kind} is not supported")
    return x[None, None] if network.imageInputShapeMapping == RANK5_MAPPING else x[None]


def pixels(feature: Feature, value: Array) -> Array:
    """What a model gives as an image.

    Args:
        value: (…, channels, height, width), with ones before the channels.

    Returns:
        (channels, height, width), cut to what a pixel can be, 0 to 255, but of the same type: how a device
        rounds is not documented. Pixels of `grayscale_float16` are any numbers.

    Raises:
        DataError: of another shape than described.
    """
    shape = value.shape[-3:]
    fits = len(shape) == 3 and shape[0] == channels(feature) and feature.accepts(shape[1:])
    if not fits or value.size != np.prod(shape):
        raise DataError(
            f"output {feature.name!r} is described as an image of {channels(feature)} channels, "
            f"{feature.shape_text}, got {value.shape}"
        )
    image = value.reshape(shape)
    return image if feature.dtype == "grayscale_float16" else np.clip(image, 0, 255)
