"""Nearest neighbors. Source: NearestNeighbors.proto (coremltools, mlmodel/format)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from device_sim.mil.kinds.binding import Bound, Label, Run, require_width, row
from device_sim.mil.limits import Usage
from personality_common.errors import DataError


def k_nearest_neighbors_classifier(bound: Bound) -> Run:
    """The label with the most votes among the nearest samples, and the shares of the votes.

    Distances are squared Euclidean, the one distance that the format has. A vote counts 1, or 1 / distance,
    so 1 / (Euclidean distance)²: not scikit-learn's `weights="distance"`, which coremltools' converter
    refuses. Where a distance is 0, those samples alone count. Of equal distances the earlier sample is
    nearer; of equal votes, the label that comes first.
    A model without samples gives its default label.
    """
    proto, index = bound.proto, bound.proto.nearestNeighborsIndex
    bound.require_outputs()
    samples = bound.matrix(index.floatSamples, "vector", "floatSamples")
    kind = proto.WhichOneof("ClassLabels")
    labels: tuple[Label, ...] = tuple(getattr(proto, kind).vector) if kind else ()
    k = proto.numberOfNeighbors.defaultValue
    if len(labels) != len(samples):
        raise DataError(f"ClassLabels has {len(labels)} labels for {len(samples)} samples; one for each")
    if len(samples) and samples.shape[1] != index.numberOfDimensions:
        raise DataError(
            f"floatSamples must have {index.numberOfDimensions} dimensions, has {samples.shape[1]}"
        )
    if k < 1:
        raise DataError(f"numberOfNeighbors must be 1 or more, got {k}")
    default_kind = proto.WhichOneof("DefaultClassLabel")
    default = getattr(proto, default_kind) if default_kind else None
    inverse = proto.WhichOneof("WeightingScheme") == "inverseDistanceWeighting"

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        if not len(samples):
            if default is None:
                raise DataError("the model has no samples and no default class label")
            return bound.classified(default, {default: 1.0})
        x = row(bound.inputs, values)
        require_width(x, samples.shape[1], "floatSamples")
        usage.spend(samples.size)
        distances = ((samples - x) ** 2).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[:k]
        weights = np.ones(len(nearest))
        if inverse:
            near = distances[nearest]
            weights = (near == 0).astype(float) if (near == 0).any() else 1 / near
        votes = dict.fromkeys(labels, 0.0)
        for at, weight in zip(nearest, weights, strict=True):
            votes[labels[at]] += float(weight)
        total = sum(votes.values())
        return bound.classified(
            max(votes, key=lambda label: votes[label]), {k: v / total for k, v in votes.items()}
        )

    return run
