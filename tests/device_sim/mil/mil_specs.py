"""Small models of the kinds that are no network, as protobufs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personality_common.coreml.proto import Model_pb2

DOUBLE = 65600


def describe(feature: Any, type_: str) -> None:
    """Types: `double`, `int64`, `string`, `array:4`, `array`, `dict:string`, `dict:int64`, `seq:string`, …; a
    `?` at the end for an optional one."""
    feature.type.isOptional = type_.endswith("?")
    kind, _, of = type_.removesuffix("?").partition(":")
    if kind == "array":
        feature.type.multiArrayType.dataType = DOUBLE
        feature.type.multiArrayType.shape.extend([int(size) for size in of.split(",") if size])
    elif kind == "dict":
        getattr(feature.type.dictionaryType, f"{of}KeyType").SetInParent()
    elif kind == "seq":
        getattr(feature.type.sequenceType, f"{of}Type").SetInParent()
    else:
        getattr(feature.type, f"{kind}Type").SetInParent()


def spec(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Any:
    """A model whose kind is still to be set."""
    model = Model_pb2.Model(specificationVersion=4)
    for described, given in ((model.description.input, inputs), (model.description.output, outputs)):
        for name, type_ in given.items():
            feature = described.add(name=name)
            describe(feature, type_)
    return model


def save(path: Path, model: Any) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def classifier(inputs: Mapping[str, str], labels: list[Any], kind: str) -> Any:
    """One that gives `label` and `scores`."""
    word = "string" if isinstance(labels[0], str) else "int64"
    model = spec(inputs, {"label": word, "scores": f"dict:{word}"})
    model.description.predictedFeatureName = "label"
    model.description.predictedProbabilitiesName = "scores"
    getattr(getattr(model, kind), f"{word}ClassLabels").vector.extend(labels)
    return model


def pipeline(
    inputs: Mapping[str, str], outputs: Mapping[str, str], *models: Any, kind: str = "pipeline"
) -> Any:
    model = spec(inputs, outputs)
    inner = getattr(model, kind)
    (inner if kind == "pipeline" else inner.pipeline).models.extend(models)
    return model
