"""How kinds of models that are one function of their features are read and called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from device_sim.mil.limits import Usage
from device_sim.mil.types import Array
from personality_common.coreml.features import Feature
from personality_common.errors import DataError

Label: TypeAlias = str | int
Run: TypeAlias = Callable[[Mapping[str, Any], Usage], dict[str, Any]]
"""Values by feature name (`device_sim.mil.features` says what stands for which) to the outputs by name. An
optional input that was left out is absent."""
_CLOCK: Final = 4096
"""Items between two looks at the clock."""


@dataclass(frozen=True)
class Bound:
    """A model's parameters and its description, while it is loaded."""

    proto: Any
    """The message of its kind."""
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    predicted: str
    """`predictedFeatureName`."""
    usage: Usage

    def held(self, values: Sequence[Any], what: str, dtype: Any = np.float64) -> Array:
        """A repeated field as an array that stays as long as the model.

        Raises:
            DataError: beyond the limits, or a number that does not fit.
        """
        dtype = np.dtype(dtype)
        self.usage.check_value(len(values), dtype.itemsize, what)
        array = np.fromiter(values, dtype, len(values))
        array.flags.writeable = False
        self.usage.budget.held += array.nbytes
        return array

    def matrix(self, rows: Sequence[Any], field: str, what: str) -> Array:
        """Messages that each hold a row in `field`, equally long.

        Raises:
            DataError: of different lengths, or beyond the limits.
        """
        width = len(getattr(rows[0], field)) if rows else 0
        if any(len(getattr(row, field)) != width for row in rows):
            raise DataError(f"{what}: its rows must be equally long, they are not")
        self.usage.check_value(width * len(rows), 8, what)
        table = np.empty((len(rows), width))
        for at, row in self.clocked(rows):
            table[at] = getattr(row, field)
        self.usage.budget.held += table.nbytes
        return table

    def clocked(self, items: Iterable[Any]) -> Iterable[tuple[int, Any]]:
        """Items with their number, as long as there is time."""
        return clocked(items, self.usage)

    def one(self, side: tuple[Feature, ...], what: str) -> Feature:
        """The only input, or the only output.

        Raises:
            DataError: there are more, or none.
        """
        if len(side) != 1:
            raise DataError(f"one {what} is expected, {len(side)} are described")
        return side[0]

    def labels(self, where: Any = None) -> tuple[Label, ...]:
        """The class labels, of which none is given twice.

        Raises:
            DataError: there are none, or one comes twice.
        """
        proto = self.proto if where is None else where
        kind = proto.WhichOneof("ClassLabels")
        found: tuple[Label, ...] = tuple(getattr(proto, kind).vector) if kind else ()
        if not found:
            raise DataError("ClassLabels: a classifier needs class labels, this has none")
        if len(set(found)) != len(found):
            raise DataError("ClassLabels: a class label is given twice")
        return found

    def classified(self, label: Label, scores: Mapping[Label, float]) -> dict[str, Any]:
        """The outputs of a classifier: the predicted class, and the scores by label."""
        return {
            output.name: dict(scores) if output.type == "dictionary" else label for output in self.outputs
        }

    def require_outputs(self, dictionary: bool = True) -> None:
        """Hold the description of a classifier's outputs against what it gives.

        Args:
            dictionary: it has scores by label.
        """
        allowed = ("string", "int64", "dictionary") if dictionary else ("string", "int64")
        for output in self.outputs:
            if output.type not in allowed:
                raise DataError(
                    f"output {output.name[:80]!r} of a classifier is described as {output.type}; "
                    f"it can be {', '.join(allowed)}"
                )


def clocked(items: Iterable[Any], usage: Usage) -> Iterable[tuple[int, Any]]:
    """Items with their number, as long as there is time.

    Raises:
        DataError: there is none left.
    """
    for at, item in enumerate(items):
        if at % _CLOCK == 0:
            usage.spend(_CLOCK)
        yield at, item


def row(inputs: tuple[Feature, ...], values: Mapping[str, Any]) -> Array:
    """The numbers of all inputs in the order of the description, as one row; NaN for one that is left out.

    Returns:
        (features,) float64.

    Raises:
        DataError: an input is neither a number nor an array, or is left out without a known length.
    """
    parts = []
    for feature in inputs:
        value = values.get(feature.name)
        if value is None:
            size = int(np.prod(feature.shape)) if feature.shape else 1
            parts.append(np.full(size if size <= 1 << 20 else 1, np.nan))
        elif feature.type in ("multiArray", "double", "int64"):
            parts.append(np.asarray(value, np.float64).reshape(-1))
        else:
            raise DataError(f"input {feature.name[:80]!r} must be numbers, it is described as {feature.type}")
    return np.concatenate(parts) if parts else np.zeros(0)


def require_width(found: Array, width: int, what: str) -> None:
    """A row must have as many numbers as the model has weights for.

    Raises:
        DataError: it has not.
    """
    if found.size != width:
        raise DataError(f"{what} is for {width} numbers, the inputs have {found.size}")


def chosen(labels: Sequence[Label], scores: Array) -> tuple[Label, dict[Label, float]]:
    """The label with the highest score (of equal ones, the first), and all scores by label."""
    if scores.size != len(labels):
        raise DataError(f"{len(labels)} class labels need as many scores, got {scores.size}")
    return labels[int(scores.argmax())], {k: float(v) for k, v in zip(labels, scores, strict=True)}


def softmax(x: Array) -> Array:
    """(n,) to probabilities."""
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))
