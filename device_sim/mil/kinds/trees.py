"""Tree ensembles. Source: TreeEnsemble.proto (coremltools, mlmodel/format)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from device_sim.mil.kinds.binding import Bound, Run, chosen, clocked, logistic, row, softmax
from device_sim.mil.limits import Usage
from device_sim.mil.types import Array
from personality_common.errors import DataError

_LEAF: Final = 6
_COMPARE: Final[dict[int, Callable[[float, float], bool]]] = {
    0: operator.le,
    1: operator.lt,
    2: operator.ge,
    3: operator.gt,
    4: operator.eq,
    5: operator.ne,
}
"""`TreeNodeBehavior`: whether the true child is next."""
_TRANSFORMS: Final[dict[int, Callable[[Array], Array]]] = {
    0: lambda x: x,
    1: softmax,
    2: logistic,
    3: lambda x: softmax(np.concatenate([np.zeros(1), x])),
}
"""`TreeEnsemblePostEvaluationTransform`; the last one adds a class in front whose score is 0."""


@dataclass(frozen=True, slots=True)
class _Branch:
    compare: Callable[[float, float], bool]
    feature: int
    value: float
    yes: int
    no: int
    missing: int


@dataclass(frozen=True, slots=True)
class _Leaf:
    indices: Array
    values: Array


@dataclass(frozen=True)
class _Ensemble:
    nodes: list[_Branch | _Leaf]
    roots: list[int]
    base: Array
    """(dimensions,)."""

    def predict(self, x: Array, usage: Usage) -> Array:
        """The base value and that of the leaf that each tree reaches."""
        total, numbers = self.base.copy(), x.tolist()
        for _, at in clocked(self.roots, usage):
            node, steps = self.nodes[at], 0
            while isinstance(node, _Branch):
                if node.feature >= len(numbers):
                    raise DataError(
                        f"branchFeatureIndex {node.feature} is beyond the {len(numbers)} numbers given"
                    )
                number = numbers[node.feature]
                known = number == number
                to = (node.yes if node.compare(number, node.value) else node.no) if known else node.missing
                node, steps = self.nodes[to], steps + 1
                if steps % 4096 == 0:
                    usage.spend(4096)
            # One index may come twice: what it adds is added twice.
            np.add.at(total, node.indices, node.values)
        return total


def _load(bound: Bound, transform: int) -> _Ensemble:
    proto = bound.proto.treeEnsemble
    dimensions = int(proto.numPredictionDimensions)
    bound.usage.check_value(dimensions, 8, "numPredictionDimensions")
    if len(proto.basePredictionValue) != dimensions or dimensions < 1:
        raise DataError(
            f"basePredictionValue must have numPredictionDimensions ({dimensions:,}) values, one or more, "
            f"has {len(proto.basePredictionValue):,}"
        )
    if transform not in _TRANSFORMS:
        raise DataError(f"postEvaluationTransform {transform} is not one that the format has")
    bound.usage.check_value(len(proto.nodes), 200, "nodes of the trees")
    bound.usage.budget.held += 200 * len(proto.nodes)
    places: dict[tuple[int, int], int] = {}
    for at, node in bound.clocked(proto.nodes):
        if places.setdefault((node.treeId, node.nodeId), at) != at:
            raise DataError(f"nodeId {node.nodeId} of tree {node.treeId} is given twice")
    children: set[int] = set()
    nodes = [_node(node, places, children, dimensions) for _, node in bound.clocked(proto.nodes)]
    roots: dict[int, int] = {}
    for at, node in enumerate(proto.nodes):
        if at not in children and roots.setdefault(node.treeId, at) != at:
            raise DataError(f"tree {node.treeId} has two roots, nodes that are no node's child")
    # Where each node has one parent at most, a walk that begins at one without any comes to no node twice.
    if len(roots) != len({node.treeId for node in proto.nodes}):
        raise DataError("a tree has no root: each of its nodes is another one's child")
    return _Ensemble(nodes, list(roots.values()), np.array(proto.basePredictionValue))


def _node(
    node: Any, places: Mapping[tuple[int, int], int], children: set[int], dimensions: int
) -> _Branch | _Leaf:
    where = f"node {node.nodeId} of tree {node.treeId}"
    if node.nodeBehavior == _LEAF:
        indices = [e.evaluationIndex for e in node.evaluationInfo]
        if any(index >= dimensions for index in indices):
            raise DataError(
                f"{where}: evaluationIndex must be below {dimensions} (numPredictionDimensions), "
                f"got {max(indices)}"
            )
        return _Leaf(np.array(indices, np.intp), np.array([e.evaluationValue for e in node.evaluationInfo]))
    if node.nodeBehavior not in _COMPARE:
        raise DataError(f"{where}: nodeBehavior {node.nodeBehavior} is not one that the format has")
    to = []
    for field in ("trueChildNodeId", "falseChildNodeId"):
        child = places.get((node.treeId, getattr(node, field)))
        if child is None:
            raise DataError(f"{where}: {field} {getattr(node, field)} is no node of its tree")
        if child in children:
            raise DataError(f"{where}: {field} {getattr(node, field)} has a parent already")
        children.add(child)
        to.append(child)
    missing = to[0] if node.missingValueTracksTrueChild else to[1]
    return _Branch(
        _COMPARE[node.nodeBehavior], node.branchFeatureIndex, node.branchFeatureValue, to[0], to[1], missing
    )


def tree_ensemble_regressor(bound: Bound) -> Run:
    """One number, or an array of them: the transformed sum of the leaves."""
    transform = bound.proto.postEvaluationTransform
    ensemble = _load(bound, transform)
    output = bound.one(bound.outputs, "output")

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        found = ensemble.predict(row(bound.inputs, values), usage)
        return {output.name: _TRANSFORMS[transform](found)}

    return run


def tree_ensemble_classifier(bound: Bound) -> Run:
    """A class, and scores by class.

    Of two classes one number is enough: the transformed sum is the second one's probability.
    """
    transform = bound.proto.postEvaluationTransform
    ensemble, labels = _load(bound, transform), bound.labels()
    bound.require_outputs()
    dimensions = len(ensemble.base) + (transform == 3)
    binary = dimensions == 1 and len(labels) == 2 and transform != 1
    if not binary and dimensions != len(labels):
        raise DataError(f"{len(labels)} class labels need as many scores, the trees give {dimensions}")

    def run(values: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
        scores = _TRANSFORMS[transform](ensemble.predict(row(bound.inputs, values), usage))
        if binary:
            scores = np.concatenate([1 - scores, scores])
        return bound.classified(*chosen(labels, scores))

    return run
