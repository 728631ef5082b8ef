"""The part that Core ML itself can update: the head as a neural network, alone or in a pipeline."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import EMBEDDING, LATENT, LOGITS, TARGET
from personality_common.coreml.proto import Model_pb2
from pretrain.personality.rules.updating import EPOCH_COUNTS, LAYER, LEARNING_RATES, LOSS, MINI_BATCHES, SEEDS

SPEC_VERSION: Final = 4
"""iOS 13, which brought updatable models and arrays of any rank."""
_FLOAT32: Final = Model_pb2.FeatureTypes__pb2.ArrayFeatureType.FLOAT32


def head_model(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Any:
    """`latent` (1, in) -> `logits` (1, out), updatable by MSE against `target` (1, out) and SGD.

    Args:
        weight: (out, in).
        bias: (out,).

    Returns:
        A `Model_pb2.Model`. `NeuralNetworkBuilder` would write the same but for float64 features,
        a target of another name, and training parameters that no app can change.
    """
    outputs, inputs = weight.shape
    spec = Model_pb2.Model(specificationVersion=SPEC_VERSION, isUpdatable=True)
    description = spec.description
    _feature(description.input.add(), LATENT, inputs)
    _feature(description.output.add(), LOGITS, outputs)
    _feature(description.trainingInput.add(), LATENT, inputs)
    _feature(description.trainingInput.add(), TARGET, outputs)
    network = spec.neuralNetwork
    mappings = Model_pb2.NeuralNetwork__pb2
    network.arrayInputShapeMapping = mappings.EXACT_ARRAY_MAPPING
    network.imageInputShapeMapping = mappings.RANK4_IMAGE_MAPPING
    layer = network.layers.add(name=LAYER, input=[LATENT], output=[LOGITS], isUpdatable=True)
    product = layer.innerProduct
    product.inputChannels, product.outputChannels, product.hasBias = inputs, outputs, True
    for params, values in ((product.weights, weight), (product.bias, bias)):
        params.floatValue.extend(values.ravel().tolist())
        params.isUpdatable = True
    _set_update(network.updateParams)
    return spec


def updatable_pipeline(backbone: Any, head: Any) -> Any:
    """`embedding` -> backbone -> `latent` -> head -> `logits`; training inputs `embedding`, `target`.

    Args:
        backbone: `Model_pb2.Model` of an ML Program, whose output is what the head's input is.
        head: see `head_model`.
    """
    spec = Model_pb2.Model(isUpdatable=True)
    # Core ML takes the pipeline's own version for what the whole needs.
    spec.specificationVersion = max(backbone.specificationVersion, head.specificationVersion)
    spec.pipeline.names.extend(["backbone", "head"])
    spec.pipeline.models.extend([backbone, head])
    description = spec.description
    description.metadata.CopyFrom(backbone.description.metadata)
    for submodel in spec.pipeline.models:
        submodel.description.ClearField("metadata")
    description.input.extend(f for f in backbone.description.input if f.name == EMBEDDING)
    description.output.extend(f for f in head.description.output if f.name == LOGITS)
    description.trainingInput.extend(description.input)
    description.trainingInput.extend(f for f in head.description.trainingInput if f.name == TARGET)
    return spec


def _feature(feature: Any, name: str, size: int) -> None:
    feature.name = name
    array = feature.type.multiArrayType
    array.shape.extend([1, size])
    array.dataType = _FLOAT32


def _set_update(update: Any) -> None:
    loss = update.lossLayers.add(name=LOSS)
    loss.meanSquaredErrorLossLayer.input = LOGITS
    loss.meanSquaredErrorLossLayer.target = TARGET
    sgd = update.optimizer.sgdOptimizer
    _set_range(sgd.learningRate, LEARNING_RATES)
    _set_range(sgd.miniBatchSize, MINI_BATCHES)
    _set_range(sgd.momentum, (0.0, 0.0, 1.0))
    _set_range(update.epochs, EPOCH_COUNTS)
    update.shuffle.defaultValue = True
    _set_range(update.seed, SEEDS)


def _set_range(parameter: Any, values: tuple[float, float, float]) -> None:
    parameter.defaultValue, parameter.range.minValue, parameter.range.maxValue = values
