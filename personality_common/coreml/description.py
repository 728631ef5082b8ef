"""What can be said of a Core ML model, as plain data; `describe` finds it, renderers show it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from personality_common.coreml.features import Feature

MINIMUM_OS: Final = {
    1: "iOS 11, macOS 10.13",
    2: "iOS 11.2, macOS 10.13.2",
    3: "iOS 12, macOS 10.14",
    4: "iOS 13, macOS 10.15",
    5: "iOS 14, macOS 11",
    6: "iOS 15, macOS 12",
    7: "iOS 16, macOS 13",
    8: "iOS 17, macOS 14",
    9: "iOS 18, macOS 15",
    10: "iOS 26, macOS 26",
}
"""By specification version."""


def shape_text(shape: tuple[int, ...]) -> str:
    """`325x512`; `scalar`."""
    return "x".join(map(str, shape)) or "scalar"


@dataclass(frozen=True)
class TensorInfo:
    """A parameter: a constant in a weight file, an inline floating-point one, or a layer's weights."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    file: str | None
    """The program's name of the weight file; None: in the protobuf."""
    offset: int | None
    """Of the metadata in the weight file."""
    data_offset: int | None
    updatable: bool
    fingerprint: str | None
    """None unless asked for, or where the bytes cannot be read."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of one dtype; bytes that several constants share count once."""

    dtype: str
    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class FunctionInfo:
    """A function of an ML Program, or the layers of a neural network (`opset` empty)."""

    name: str
    opset: str
    operations: dict[str, int]
    """Type -> count, most frequent first."""
    inputs: tuple[Feature, ...] = ()
    outputs: tuple[Feature, ...] = ()
    states: tuple[Feature, ...] = ()
    """Its own, where the description lists them by function."""


@dataclass(frozen=True)
class Preprocessing:
    """What a network does to an image before its layers see it."""

    feature: str
    """Empty: the only image."""
    type: str
    """`scaler`: channel times scale, plus bias; `meanImage`: an image is subtracted."""
    values: dict[str, float | str]


@dataclass(frozen=True)
class ParameterRange:
    """A training parameter: its default and the values that an app may set."""

    default: float | int | bool
    minimum: float | int | None = None
    maximum: float | int | None = None
    allowed: tuple[float | int, ...] = ()

    @property
    def text(self) -> str:
        """`0.01 (0 to 10)`; `10 (one of 5, 10)`."""
        if self.allowed:
            allowed = ", ".join(f"{v:g}" for v in self.allowed[:10])
            return f"{self.default} (one of {allowed}{', …' * (len(self.allowed) > 10)})"
        if self.minimum is not None:
            return f"{self.default} ({self.minimum:g} to {self.maximum:g})"
        return str(self.default)


@dataclass(frozen=True)
class UpdateInfo:
    """How a neural network is updated on the device."""

    layers: tuple[str, ...]
    losses: tuple[dict[str, str], ...]
    """name, type, input, target."""
    optimizer: str | None
    parameters: dict[str, ParameterRange]


@dataclass(frozen=True)
class ModelDescription:
    """A model; see `describe`."""

    name: str
    kind: str
    specification_version: int
    minimum_os: str | None
    updatable: bool
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...]
    training_inputs: tuple[Feature, ...]
    predicted_feature: str | None
    predicted_probabilities: str | None
    class_labels: int | None
    """How many, for a classifier."""
    labels: tuple[str | int, ...]
    """In the order of the probabilities."""
    metadata: dict[str, str]
    functions: tuple[FunctionInfo, ...]
    default_function: str | None
    """Of several, the one that runs unless another is asked for."""
    custom_layers: dict[str, int]
    """Class that the app must bring -> how many layers are of it."""
    preprocessing: tuple[Preprocessing, ...]
    details: dict[str, Any]
    """Fields of a kind that has no section of its own (trees, scalers, …)."""
    parameters: tuple[ParameterCount, ...]
    tensors: tuple[TensorInfo, ...]
    weight_files: dict[str, int]
    """Name -> size in bytes."""
    update: UpdateInfo | None
    submodels: tuple[ModelDescription, ...]
    problems: tuple[str, ...]
