"""Find out what is in a Core ML model.

A model that is not ours may lack parts or contradict itself: what can be said is said, and
the rest is listed under `problems`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from personality_common.coreml import network, program
from personality_common.coreml.description import (
    MINIMUM_OS,
    FunctionInfo,
    ModelDescription,
    ParameterCount,
    ParameterRange,
    Preprocessing,
    TensorInfo,
    UpdateInfo,
)
from personality_common.coreml.features import features
from personality_common.coreml.limits import require_at_most
from personality_common.coreml.package import PIPELINES, Package
from personality_common.coreml.values import BlobLocation, TensorType
from personality_common.errors import DataError
from personality_common.files.fingerprint import fingerprint_bytes

MOST: Final = 10_000
"""Functions, types of operations, entries of the metadata, parts of an update."""
MOST_TENSORS: Final = 200_000


@dataclass
class _Findings:
    """Gathers tensors; notes each problem once, and no more than a screenful."""

    tensors: list[TensorInfo] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    elements: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    files: dict[str, int] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)

    def add(self, tensor: TensorInfo, shared: bool) -> None:
        self.tensors.append(tensor)
        if not shared:
            self.counted[tensor.dtype] += 1
            self.elements[tensor.dtype] += tensor.elements
            self.bytes[tensor.dtype] += tensor.bytes

    def problem(self, error: Exception) -> None:
        if len(self.problems) < 20:
            self.problems[str(error)] = None


def describe(package: Package, *, fingerprints: bool = False) -> ModelDescription:
    """Describe a model and its submodels.

    Args:
        fingerprints: compute those of all tensors, which reads all weights.

    Raises:
        DataError: the model breaks the limits or the format beyond what can be described.
    """
    spec, kind = package.spec, package.kind
    found = _Findings()
    message = network.network(package)
    functions: tuple[FunctionInfo, ...] = ()
    if kind == "mlProgram":
        functions = _functions(package)
        _program_tensors(package, found, fingerprints)
    elif message is not None:
        functions = (FunctionInfo("layers", "", _counts(_layer_types(message))),)
        _network_tensors(message, found, fingerprints)
    labels = _labels(package)
    has_section = bool(functions) or kind in (*PIPELINES, "mlProgram", "unknown")
    description = spec.description
    # A program of several functions describes the features of each apart.
    chosen = description.defaultFunctionName
    default = next((f for f in description.functions if f.name == chosen), description)
    return ModelDescription(
        name=package.name,
        kind=kind,
        specification_version=spec.specificationVersion,
        minimum_os=MINIMUM_OS.get(spec.specificationVersion),
        updatable=spec.isUpdatable,
        inputs=features(default.input),
        outputs=features(default.output),
        states=features(default.state),
        training_inputs=features(description.trainingInput),
        predicted_feature=default.predictedFeatureName or None,
        predicted_probabilities=default.predictedProbabilitiesName or None,
        class_labels=None if labels is None else len(labels),
        labels=labels or (),
        metadata=_metadata(description.metadata),
        functions=functions,
        default_function=(chosen or "main") if len(functions) > 1 else None,
        custom_layers={} if message is None else _counts(network.custom_classes(message)),
        preprocessing=() if message is None else tuple(map(_preprocessing, message.preprocessing)),
        details={} if has_section else _details(getattr(spec, kind)),
        parameters=tuple(
            ParameterCount(dtype, count, found.elements[dtype], found.bytes[dtype])
            for dtype, count in found.counted.most_common()
        ),
        tensors=tuple(found.tensors),
        weight_files=found.files,
        update=_update(message) if message is not None and message.HasField("updateParams") else None,
        submodels=tuple(describe(s, fingerprints=fingerprints) for s in package.submodels),
        problems=tuple(found.problems),
    )


def _program_tensors(package: Package, found: _Findings, fingerprints: bool) -> None:
    seen: dict[BlobLocation, TensorInfo] = {}
    broken: set[str] = set()
    for constant, meant in program.parameters(package):
        location = constant.location
        require_at_most(len(found.tensors), MOST_TENSORS, "tensors or more")
        try:
            if location is None:
                found.add(_unpacked(_inline_tensor(constant, fingerprints), meant), shared=False)
            elif location.file not in broken:
                try:
                    found.files[location.file] = package.weights(location.file).size
                except DataError:
                    broken.add(location.file)
                    raise
                tensor = _stored_tensor(constant, location, seen.get(location), fingerprints)
                found.add(_unpacked(tensor, meant), shared=location in seen)
                seen[location] = tensor
        except DataError as error:
            found.problem(error)


def _unpacked(tensor: TensorInfo, meant: TensorType | None) -> TensorInfo:
    """A tensor of bytes as the elements that are packed in them, if they take as many bytes."""
    shape = None if meant is None else meant.static_shape
    if meant is None or shape is None or meant.dtype == tensor.dtype or tensor.dtype != "uint8":
        return tensor
    bits = math.prod(shape) * int(meant.dtype.removeprefix("uint"))
    return replace(tensor, dtype=meant.dtype, shape=shape) if -(-bits // 8) == tensor.bytes else tensor


def _inline_tensor(constant: program.Constant, fingerprints: bool) -> TensorInfo:
    array, dtype = constant.read(), constant.type.dtype
    # Types that NumPy lacks are inline as bytes, which are what the fingerprint is of.
    raw = constant.value.immediateValue.tensor.bytes.values or array.reshape(-1).view(np.uint8).data
    digest = fingerprint_bytes(dtype, array.shape, raw) if fingerprints else None
    return TensorInfo(constant.name, dtype, array.shape, len(raw), None, None, None, False, digest)


def _stored_tensor(
    constant: program.Constant, location: BlobLocation, twin: TensorInfo | None, fingerprints: bool
) -> TensorInfo:
    """Args: twin: a tensor found before at the same place; its bytes are not read again."""
    dtype, shape = constant.type.dtype, constant.type.static_shape
    where = f"{constant.package.path}: constant {constant.name!r}"
    file = constant.package.weights(location.file)
    entry = file.entry(location.offset)
    if shape is None or entry.dtype.mil_name != dtype or (twin is not None and twin.shape != shape):
        raise DataError(
            f"{where} is {dtype} of shape {constant.type.shape}; its bytes at offset {location.offset} "
            f"are {entry.dtype.mil_name}" + (f" of shape {twin.shape}" if twin else "")
        )
    stored = file.array(location.offset, shape).reshape(-1).view(np.uint8)
    if twin is not None:
        return replace(twin, name=constant.name)
    digest = fingerprint_bytes(dtype, shape, stored.data) if fingerprints else None
    return TensorInfo(
        constant.name,
        dtype,
        shape,
        entry.size,
        location.file,
        location.offset,
        entry.data_offset,
        False,
        digest,
    )


def _network_tensors(message: Any, found: _Findings, fingerprints: bool) -> None:
    for weight in network.weights(message):
        require_at_most(len(found.tensors), MOST_TENSORS, "tensors or more")
        digest = fingerprint_bytes(weight.dtype, weight.shape, weight.data()) if fingerprints else None
        tensor = TensorInfo(
            weight.name, weight.dtype, weight.shape, weight.size, None, None, None, weight.updatable, digest
        )
        found.add(tensor, shared=False)


def _functions(package: Package) -> tuple[FunctionInfo, ...]:
    functions = package.spec.mlProgram.functions
    require_at_most(len(functions), MOST, "functions")
    require_at_most(len(package.spec.description.functions), MOST, "functions")
    described = {described.name: described for described in package.spec.description.functions}
    return tuple(_function(package, name, described.get(name)) for name in sorted(functions))


def _function(package: Package, name: str, described: Any | None) -> FunctionInfo:
    opset = package.spec.mlProgram.functions[name].opset
    operations = _counts(operation.type for operation in program.operations(package, name))
    if described is None:
        return FunctionInfo(name, opset, operations)
    sides = (features(side) for side in (described.input, described.output, described.state))
    return FunctionInfo(name, opset, operations, *sides)


def _preprocessing(message: Any) -> Preprocessing:
    kind = message.WhichOneof("preprocessor")
    if kind == "meanImage":
        values: dict[str, float | str] = {"meanImage": f"{len(message.meanImage.meanImage):,} numbers"}
    else:
        fields = ("channelScale", "redBias", "greenBias", "blueBias", "grayBias")
        values = {name: getattr(message.scaler, name) for name in fields} if kind else {}
    return Preprocessing(message.featureName, kind or "unknown", values)


def _layer_types(message: Any) -> Iterator[str]:
    return (layer.WhichOneof("layer") or "unknown" for layer in network.layers(message))


def _counts(types: Iterable[str]) -> dict[str, int]:
    counter: Counter[str] = Counter()
    for type_ in types:
        counter[type_] += 1
        require_at_most(len(counter), MOST, "types of operations")
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _metadata(metadata: Any) -> dict[str, str]:
    known = {
        "description": metadata.shortDescription,
        "author": metadata.author,
        "version": metadata.versionString,
        "license": metadata.license,
    }
    require_at_most(len(metadata.userDefined), MOST, "entries of the metadata")
    return {k: v for k, v in known.items() if v} | dict(sorted(metadata.userDefined.items()))


def _labels(package: Package) -> tuple[str | int, ...] | None:
    """Of a classifier, in the order of its probabilities; None for another model."""
    if package.kind == "unknown":
        return None
    if package.kind == "mlProgram":
        return program.class_labels(package)
    message = getattr(package.spec, package.kind)
    if "ClassLabels" not in message.DESCRIPTOR.oneofs_by_name:
        return None
    chosen = message.WhichOneof("ClassLabels")
    return tuple(getattr(message, chosen).vector) if chosen else None


def _details(message: Any, depth: int = 2) -> dict[str, Any]:
    """Set fields of a message: scalars as they are, lists by length, messages two levels down.

    Of a choice between messages that has no fields, such as a way of weighting: which was chosen.
    """
    details: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if hasattr(value, "ListFields"):
            inner = _details(value, depth - 1) if depth else {}
            details.update({f"{descriptor.name}.{k}": v for k, v in inner.items()})
            if not inner and descriptor.containing_oneof is not None:
                details[descriptor.containing_oneof.name] = descriptor.name
        elif isinstance(value, bytes):
            details[descriptor.name] = f"{len(value):,} bytes"
        elif isinstance(value, (str, int, float)):
            details[descriptor.name] = value
        else:
            details[descriptor.name] = f"{len(value):,} entries"
    return details


def _update(message: Any) -> UpdateInfo:
    params = message.updateParams
    require_at_most(len(params.lossLayers), MOST, "losses")
    losses = []
    for loss in params.lossLayers:
        kind = loss.WhichOneof("LossLayerType")
        inner = getattr(loss, kind) if kind else None
        losses.append(
            {
                "name": loss.name,
                "type": (kind or "unknown").removesuffix("LossLayer"),
                "input": inner.input if inner else "",
                "target": inner.target if inner else "",
            }
        )
    kind = params.optimizer.WhichOneof("OptimizerType")
    optimizer = getattr(params.optimizer, kind) if kind else None
    fields = list(optimizer.ListFields()) if optimizer is not None else []
    fields += [f for f in params.ListFields() if f[0].name in ("epochs", "shuffle", "seed")]
    return UpdateInfo(
        layers=tuple(layer.name for layer in network.layers(message) if layer.isUpdatable),
        losses=tuple(losses),
        optimizer=kind.removesuffix("Optimizer") if kind else None,
        parameters={descriptor.name: _parameter(value) for descriptor, value in fields},
    )


def _parameter(value: Any) -> ParameterRange:
    oneof = value.DESCRIPTOR.oneofs_by_name.get("AllowedValues")
    which = value.WhichOneof("AllowedValues") if oneof else None
    if which == "range":
        return ParameterRange(value.defaultValue, value.range.minValue, value.range.maxValue)
    if which == "set":
        require_at_most(len(value.set.values), MOST, "values allowed for a training parameter")
        return ParameterRange(value.defaultValue, allowed=tuple(value.set.values))
    return ParameterRange(value.defaultValue)
