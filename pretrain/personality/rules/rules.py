"""Rules that Core ML's compiler has for a model, on any machine.

Core ML's own validator runs on macOS only. These are its rules for the kinds of models that a
bundle has, after coremltools' `mlmodel/src/Validation` (PipelineValidator, InterfaceValidators,
UpdatableNeuralNetworkValidator, ParameterValidator), and those that an app relies on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from personality_common.bundle.manifest import Port
from personality_common.contract import LATENT, LOGITS, TARGET
from personality_common.coreml.features import Feature, features
from personality_common.coreml.package import Package
from personality_common.errors import MismatchError
from pretrain.personality.rules.interface import Interface
from pretrain.personality.rules.updating import EPOCH_COUNTS, LEARNING_RATES, MINI_BATCHES

_UPDATABLE_KINDS = ("neuralNetwork", "pipeline")


def require_rules(package: Package, interface: Interface, metadata: Mapping[str, str]) -> None:
    """Raise MismatchError unless a package has its interface, its metadata, and follows the rules."""
    broken = [*_interface(package, interface), *_metadata(package, metadata), *model_rules(package.spec)]
    if broken:
        raise MismatchError(f"{package.path}: {'; '.join(broken)}")


def model_rules(spec: Any) -> list[str]:
    """What is wrong with a model by Core ML's rules; empty if nothing is."""
    kind = spec.WhichOneof("Type")
    broken = []
    if spec.isUpdatable and kind not in _UPDATABLE_KINDS:
        broken.append(f"a model of kind {kind} cannot be updatable")
    if kind == "pipeline":
        broken += _pipeline(spec)
    if kind == "neuralNetwork" and spec.isUpdatable:
        broken += [*_updatable_network(spec), *_training_inputs(spec)]
    return broken


def _interface(package: Package, interface: Interface) -> Iterator[str]:
    spec = package.spec
    for what, wanted, got in (
        ("kind", interface.kind, package.kind),
        ("specification version", interface.specification_version, spec.specificationVersion),
        ("isUpdatable", interface.updatable, spec.isUpdatable),
    ):
        if wanted != got:
            yield f"{what} must be {wanted}, is {got}"
    description = spec.description
    yield from _ports("inputs", interface.inputs, features(description.input))
    yield from _ports("outputs", interface.outputs, features(description.output), shapeless=True)
    yield from _ports("states", interface.states, features(description.state))
    yield from _ports("training inputs", interface.training_inputs, features(description.trainingInput))


def _ports(
    what: str, wanted: Sequence[Port], got: Sequence[Feature], shapeless: bool = False
) -> Iterator[str]:
    """Args: shapeless: a flexible output may go without shape, as the converter leaves it."""
    ours = [(p.name, p.dtype, p.shape, p.ranges or ()) for p in wanted]
    theirs = [
        (
            g.name,
            g.dtype,
            w.shape if shapeless and w.ranges and not g.shape else g.shape,
            (w.ranges or ()) if shapeless and not g.ranges else g.ranges,
        )
        for w, g in zip(wanted, got, strict=False)
    ] + [(g.name, g.dtype, g.shape, g.ranges) for g in got[len(wanted) :]]
    if ours != theirs:
        yield f"{what} must be {ours}, are {theirs}"


def _metadata(package: Package, metadata: Mapping[str, str]) -> Iterator[str]:
    own = package.spec.description.metadata.userDefined
    for key, value in metadata.items():
        if key not in own or own[key] != value:
            yield f"metadata {key} must be {value[:60]!r}"


def _pipeline(spec: Any) -> Iterator[str]:
    models = spec.pipeline.models
    if not models:
        yield "a pipeline must have a model"
        return
    known = {f.name: f.type for f in spec.description.input}
    for i, model in enumerate(models):
        for feature in model.description.input:
            if feature.name not in known:
                yield f"input {feature.name!r} of model {i} is made by no model before it"
            elif known[feature.name] != feature.type:
                yield f"input {feature.name!r} of model {i} differs in type from what comes in"
        if model.specificationVersion > spec.specificationVersion:
            yield (
                f"specification version {spec.specificationVersion} is below that of model {i}, "
                f"{model.specificationVersion}"
            )
        yield from (f"model {i}: {broken}" for broken in model_rules(model))
        known |= {f.name: f.type for f in model.description.output}
        last = i == len(models) - 1
        if model.isUpdatable and not (last and spec.isUpdatable):
            yield f"model {i} is updatable; only the last one of an updatable pipeline may be"
        if last and spec.isUpdatable and not model.isUpdatable:
            yield "the last model of an updatable pipeline must be updatable"
    for feature in spec.description.output:
        if known.get(feature.name) != feature.type:
            yield f"output {feature.name!r} is not what a model gives"
    names = list(spec.pipeline.names)
    if names and (len(names) != len(models) or len(set(names)) != len(names)):
        yield f"names of models must be distinct, one for each of {len(models)}: {names}"
    if spec.isUpdatable:
        yield from _pipeline_training(spec)


def _pipeline_training(spec: Any) -> Iterator[str]:
    given = {f.name: f.type for f in spec.description.trainingInput}
    made = {f.name for model in spec.pipeline.models[:-1] for f in model.description.output}
    for feature in spec.description.input:
        if given.get(feature.name) != feature.type:
            yield f"training inputs must have the input {feature.name!r}"
    for feature in spec.pipeline.models[-1].description.trainingInput:
        if feature.name not in made and given.get(feature.name) != feature.type:
            yield f"training inputs must have {feature.name!r}, as those of the last model"


def _updatable_network(spec: Any) -> Iterator[str]:
    network = spec.neuralNetwork
    if network.arrayInputShapeMapping != 1 and any(
        len(f.type.multiArrayType.shape) not in (1, 3) for f in spec.description.input
    ):
        yield "inputs of rank 2 need EXACT_ARRAY_MAPPING"
    names = [layer.name for layer in network.layers] + [loss.name for loss in network.updateParams.lossLayers]
    if len(set(names)) != len(names):
        yield f"names of layers and losses must be distinct: {names}"
    updatable = [layer for layer in network.layers if layer.isUpdatable]
    if not updatable:
        yield "an updatable network must have an updatable layer"
    for layer in updatable:
        kind = layer.WhichOneof("layer")
        if kind not in ("innerProduct", "convolution"):
            yield f"layer {layer.name!r} of kind {kind} cannot be updatable"
            continue
        params = getattr(layer, kind)
        for name in ("weights", *(["bias"] if params.hasBias else [])):
            weight = getattr(params, name)
            if not weight.isUpdatable:
                yield f"{name} of layer {layer.name!r} must be updatable, as the layer is"
            if not weight.floatValue or weight.HasField("quantization"):
                yield f"{name} of layer {layer.name!r} must be float32, not quantized"
    yield from _update(network)


def _update(network: Any) -> Iterator[str]:
    update = network.updateParams
    made = {output for layer in network.layers for output in layer.output}
    if len(update.lossLayers) != 1:
        yield f"there must be one loss, there are {len(update.lossLayers)}"
    for loss in update.lossLayers:
        if loss.WhichOneof("LossLayerType") != "meanSquaredErrorLossLayer":
            yield "the loss must be the mean squared error"
            continue
        error = loss.meanSquaredErrorLossLayer
        if (error.input, error.target) != (LOGITS, TARGET) or LOGITS not in made or TARGET in made:
            yield (
                f"the loss must compare {LOGITS!r}, which a layer makes, with {TARGET!r}, which none makes; "
                f"it has {error.input!r} and {error.target!r}"
            )
    if update.optimizer.WhichOneof("OptimizerType") != "sgdOptimizer":
        yield "the optimizer must be SGD"
        return
    sgd = update.optimizer.sgdOptimizer
    yield from _parameter("learningRate", sgd, LEARNING_RATES)
    yield from _parameter("miniBatchSize", sgd, MINI_BATCHES)
    yield from _parameter("epochs", update, EPOCH_COUNTS)


def _parameter(name: str, holder: Any, wanted: tuple[float, float, float]) -> Iterator[str]:
    if not holder.HasField(name):
        yield f"the update must state {name}"
        return
    parameter = getattr(holder, name)
    got = (parameter.defaultValue, parameter.range.minValue, parameter.range.maxValue)
    if got != wanted or parameter.WhichOneof("AllowedValues") != "range":
        yield f"{name} (default, least, greatest) must be {wanted}, is {got}"
    if not parameter.range.minValue <= parameter.defaultValue <= parameter.range.maxValue:
        yield f"the default of {name} must be within its range, is {got}"


def _training_inputs(spec: Any) -> Iterator[str]:
    given = {f.name: f.type for f in spec.description.trainingInput}
    inputs = {f.name: f.type for f in spec.description.input}
    if not any(given.get(name) == kind for name, kind in inputs.items()):
        yield f"training inputs must have an input of the model such as {LATENT!r}"
    if TARGET not in given or TARGET in inputs:
        yield f"training inputs must have the loss's target {TARGET!r}, which is no input of the model"
