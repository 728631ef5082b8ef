"""What every runtime can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from personality_common.contract import MAX_BATCH
from personality_common.coreml.features import Feature

Array = NDArray[Any]


class LoadedModel(Protocol):
    """A package that is ready to predict, on one runtime."""

    @property
    def inputs(self) -> tuple[Feature, ...]: ...

    @property
    def outputs(self) -> tuple[Feature, ...]: ...

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by feature name, for any batch that the package allows: arrays, and what
        `device_sim.mil.features` says of the other types.

        Raises:
            DataError: inputs that are not as the package describes them (names, shapes within the
                ranges, types), or a package that cannot be evaluated.
        """
        ...


class Runtime(Protocol):
    """Loads packages."""

    @property
    def name(self) -> str: ...

    def unavailable(self) -> str | None:
        """Why this runtime cannot be used here; None if it can."""
        ...

    def load(self, package: Path, states: Mapping[str, Array] | None = None) -> LoadedModel:
        """Open a package.

        Args:
            package: `.mlpackage` or `.mlmodel`.
            states: content of its state buffers; those left out are zero, as `MLModel.newState()`
                makes them.

        Raises:
            ToolkitError: the package cannot be loaded, or has no such state.
        """
        ...


def most_rows(feature: Feature) -> int:
    """The largest first dimension that a feature allows; MAX_BATCH where there is no end."""
    if feature.ranges:
        high = feature.ranges[0][1]
        return MAX_BATCH if high is None else high
    shapes = feature.enumerated or (feature.shape,)
    return max((shape[0] for shape in shapes if shape), default=1)


def predict_rows(model: LoadedModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Predict any number of rows, in batches as large as the package allows.

    Args:
        inputs: each (N, …), N >= 1.

    Returns:
        Outputs, each (N, …).
    """
    batch = min(most_rows(feature) for feature in model.inputs)
    rows = len(next(iter(inputs.values())))
    parts = [
        model.predict({name: value[start : start + batch] for name, value in inputs.items()})
        for start in range(0, rows, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
