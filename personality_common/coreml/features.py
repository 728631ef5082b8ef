"""Features (inputs, outputs, states) of a Core ML model as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from personality_common.coreml.limits import require_at_most
from personality_common.coreml.package import Package
from personality_common.coreml.proto import Model_pb2
from personality_common.errors import DataError

MAX_FEATURES: Final = 10_000
MAX_SHAPES: Final = 1_000
MAX_RANK: Final = 32
"""NumPy's, until its second version."""

Range = tuple[int, int | None]
"""Least and greatest size; None for no upper bound."""


@dataclass(frozen=True)
class Feature:
    """One input or output of a model."""

    name: str
    type: str
    """`multiArray`, `image`, `int64`, `double`, `string`, `dictionary`, `sequence`, `state`, `unknown`."""
    dtype: str | None
    """Elements of an array: `float32`, `int32`, …; color space of an image; keys of a dictionary."""
    shape: tuple[int, ...]
    """Default shape; empty if the description has none, or for scalars."""
    ranges: tuple[Range, ...] = ()
    """Per dimension, if the shape is flexible within ranges."""
    enumerated: tuple[tuple[int, ...], ...] = ()
    """The shapes allowed, if they are listed."""
    optional: bool = False
    default: float | int | None = None
    """What fills the array of an optional input that is left out."""
    description: str = ""

    @property
    def shape_text(self) -> str:
        """`(1..64, 1536)`; `(1, 8) or (2, 8)` for listed shapes."""
        if self.ranges:
            return _tuple("1" if r == (1, 1) else _range(r) for r in self.ranges)
        if self.enumerated:
            return " or ".join(_tuple(map(str, shape)) for shape in self.enumerated)
        return _tuple(map(str, self.shape)) if self.shape else ""

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape may be this feature; any may, if the description states none."""
        if self.enumerated:
            return shape in self.enumerated
        if not self.ranges:
            return not self.shape or shape == self.shape
        return len(shape) == len(self.ranges) and all(
            low <= size and (high is None or size <= high)
            for size, (low, high) in zip(shape, self.ranges, strict=True)
        )


def interface(package: Package, function: str | None = None) -> Any:
    """The message whose `input`, `output` and `state` describe a model.

    Args:
        function: of a package of several functions; None: the default one.

    Raises:
        DataError: it has no such function.
    """
    description = package.spec.description
    described = {each.name: each for each in description.functions}
    name = function or description.defaultFunctionName or "main"
    if name in described:
        return described[name]
    names = sorted(described.keys() or package.spec.mlProgram.functions.keys())
    if described or (function is not None and name not in names):
        raise DataError(
            f"{package.path}: it has no function {name[:80]!r}; "
            f"its functions: {', '.join(names[:8]) or 'none'}"
        )
    return description


def features(descriptions: Sequence[Any]) -> tuple[Feature, ...]:
    """From `FeatureDescription` messages, such as `spec.description.input`.

    Raises:
        DataError: more features, sizes or shapes than any model has.
    """
    require_at_most(len(descriptions), MAX_FEATURES, "features")
    return tuple(_feature(d) for d in descriptions)


def _feature(description: Any) -> Feature:
    kind = description.type.WhichOneof("Type")
    value: Any = getattr(description.type, kind) if kind else None
    fields: dict[str, Any] = {"dtype": None, "shape": ()}
    if kind == "multiArrayType":
        fields = _array(value)
    elif kind == "stateType" and value.WhichOneof("Type") == "arrayType":
        fields = _array(value.arrayType)
    elif kind == "imageType":
        fields = _image(value)
    elif kind in ("dictionaryType", "sequenceType"):
        if kind == "sequenceType" and value.HasField("sizeRange"):
            fields["ranges"] = (_bounds(value.sizeRange),)
        inner = value.WhichOneof("KeyType" if kind == "dictionaryType" else "Type")
        fields["dtype"] = inner.removesuffix("Type").removesuffix("Key") if inner else None
    return Feature(
        name=description.name,
        type=kind.removesuffix("Type") if kind else "unknown",
        optional=description.type.isOptional,
        description=description.shortDescription,
        **fields,
    )


def _array(array: Any) -> dict[str, Any]:
    shapes = array.enumeratedShapes.shapes
    require_at_most(len(shapes), MAX_SHAPES, "shapes listed for a feature")
    for sizes in (array.shape, array.shapeRange.sizeRanges, *(shape.shape for shape in shapes)):
        require_at_most(len(sizes), MAX_RANK, "sizes in the shape of a feature")
    names = Model_pb2.FeatureTypes__pb2.ArrayFeatureType.ArrayDataType
    code = array.dataType
    name = names.Name(code).lower() if code in names.values() else f"type{code}"
    default = array.WhichOneof("defaultOptionalValue")
    return {
        "default": getattr(array, default) if default else None,
        "dtype": "float64" if name == "double" else name,
        "shape": tuple(array.shape),
        "ranges": tuple(_bounds(r) for r in array.shapeRange.sizeRanges),
        "enumerated": tuple(tuple(s.shape) for s in shapes),
    }


def _image(image: Any) -> dict[str, Any]:
    spaces = type(image).ColorSpace
    sizes = image.imageSizeRange
    require_at_most(len(image.enumeratedSizes.sizes), MAX_SHAPES, "sizes listed for an image")
    ranged = image.WhichOneof("SizeFlexibility") == "imageSizeRange"
    return {
        "dtype": spaces.Name(image.colorSpace).lower() if image.colorSpace in spaces.values() else None,
        "shape": (image.height, image.width),
        "ranges": (_bounds(sizes.heightRange), _bounds(sizes.widthRange)) if ranged else (),
        "enumerated": tuple((s.height, s.width) for s in image.enumeratedSizes.sizes),
    }


def _bounds(sizes: Any) -> Range:
    return sizes.lowerBound, None if sizes.upperBound < 0 else sizes.upperBound


def _range(bounds: Range) -> str:
    low, high = bounds
    return f"{low}.." if high is None else str(low) if low == high else f"{low}..{high}"


def _tuple(parts: Iterable[str]) -> str:
    return f"({', '.join(parts)})"
