"""The network as a Core ML package, from iOS 17 on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.bundle.stored import StoredTensor
from personality_common.contract import MAX_BATCH
from personality_common.coreml.proto import Model_pb2
from personality_common.coreml.writing import serialize
from pretrain.character.config import ModelName
from pretrain.character.model import build_model
from pretrain.character.schema import FEATURES, HEADS, Schema
from pretrain.coreml.converter import CONVERSION_DATE, ProgramSignature, convert, set_parameters, stand_ins
from pretrain.coreml.targets import Precision
from pretrain.coreml.templates import fill

DESCRIPTION: Final = "Features of a character, a scene and an event -> action, speech, thought, emotion."
BATCH: Final = (1, MAX_BATCH)


@dataclass(frozen=True)
class BuiltPackage:
    """A package in memory: the serialized protobuf, its weight file, and where its parameters are."""

    model: bytes
    weights: bytes
    tensors: tuple[StoredTensor, ...]


def build_package(
    values: Mapping[str, NDArray[np.float32]],
    name: ModelName,
    schema: Schema,
    precision: Precision,
    metadata: Mapping[str, str],
    scratch: Path,
) -> BuiltPackage:
    """`features` (1..64, 453) float32 -> the four heads, (batch, size) float32 each.

    Args:
        values: of the network, by PyTorch's name.
        name: which network it is.
        precision: of weights and arithmetic.
        metadata: written under `userDefined`.
        scratch: folder in which the converter may write.

    Raises:
        ToolkitError: the converter failed, or a value is not finite in the precision asked for.
    """
    model = build_model(name, schema, dropout=0.0).eval()
    stand_in = stand_ins({key: value.shape for key, value in values.items()})
    set_parameters(model, stand_in)
    signature = ProgramSignature({"features": (BATCH, FEATURES)}, HEADS, {})
    data, weights = convert(model, torch.zeros(2, FEATURES), signature, "iOS17", precision, scratch)
    spec = Model_pb2.Model()
    spec.ParseFromString(data)
    spec.description.metadata.userDefined.pop(CONVERSION_DATE, None)
    spec.description.metadata.userDefined.update(metadata)
    spec.description.metadata.shortDescription = DESCRIPTION
    _write_shapes(spec, schema)
    filled, weight_file, tensors = fill(serialize(spec), weights, stand_in, values, frozenset())
    assert weight_file is not None
    return BuiltPackage(filled, weight_file, tensors)


def _write_shapes(spec: Any, schema: Schema) -> None:
    """Say how large each output is: for a flexible batch, the converter does not."""
    for feature in spec.description.output:
        place = schema.heads[feature.name]
        size = place.stop - place.start
        array = feature.type.multiArrayType
        del array.shape[:]
        array.shape.extend([1, size])
        array.ClearField("ShapeFlexibility")
        for low, high in (BATCH, (size, size)):
            array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
