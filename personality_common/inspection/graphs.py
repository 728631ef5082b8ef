"""Where the graphs of two models part: operations of an ML Program, layers of a network.

Names that a converter invents say little: one more operation at the beginning renumbers all that follow.
So operations are aligned by their types (the shortest list of removals and additions), and what an aligned
one reads is compared through what is aligned with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from personality_common.coreml import network, program
from personality_common.coreml.limits import require_at_most
from personality_common.coreml.package import Package
from personality_common.coreml.values import blob_location, read_value, tensor_type
from personality_common.errors import DataError
from personality_common.inspection.difference import Change, GraphDifference, Place
from personality_common.inspection.fields import digest, field_texts, number_text

MOST_PLACES: Final = 1_000
MOST_OPERATIONS: Final = 200_000
MOST_EDITS: Final = 300
"""Removals and additions up to which graphs are aligned; the time it takes is this times the operations."""
_LISTED: Final = 8
_CONTENT: Final = {
    f"CoreML.Specification.{name}"
    for name in (
        "WeightParams.floatValue", "WeightParams.float16Value", "WeightParams.rawValue",
        "WeightParams.int8RawValue", "BranchLayerParams.ifBranch", "BranchLayerParams.elseBranch",
        "LoopLayerParams.conditionNetwork", "LoopLayerParams.bodyNetwork",
    )
}  # fmt: skip
"""What is compared elsewhere: elements of weights by their fingerprints, layers within layers as layers."""


class Weight(NamedTuple):
    """A constant in the place of an argument."""

    name: str
    fingerprint: str | None


@dataclass(frozen=True)
class Step:
    """An operation or a layer, as far as it can be compared."""

    reads: Mapping[str, tuple[str, ...]]
    """Parameter -> names of values that are computed."""
    values: Mapping[str, str]
    """All else that it computes with, as text; of a weight its dtype and shape."""
    weights: Mapping[str, Weight] = field(default_factory=dict)
    """Parameter -> the weight that it names; one that lies in the operation itself has no name to mistake."""


class Graph(Protocol):
    """Operations in order; what one does is found when it is asked for."""

    @property
    def types(self) -> Sequence[str]: ...

    @property
    def results(self) -> Sequence[str]:
        """Names of the values that it gives, and those of nested blocks."""

    def name(self, i: int) -> str: ...

    def outputs(self, i: int) -> tuple[str, ...]: ...

    def step(self, i: int) -> Step: ...


class ProgramGraph:
    """A function of an ML Program; its `const` operations are arguments of those that read them.

    Args:
        fingerprints: of its weights, by name.
    """

    def __init__(self, package: Package, function: str, fingerprints: Mapping[str, str | None]) -> None:
        self._package = package
        self._fingerprints = fingerprints
        self._operations = []
        self._constants: dict[str, Any] = {}
        for operation in program.operations(package, function):
            if operation.type == "const" and "val" in operation.attributes:
                value = operation.attributes["val"]
                self._constants.update((output.name, value) for output in operation.outputs)
            else:
                self._operations.append(operation)
        require_at_most(len(self._operations), MOST_OPERATIONS, "operations")
        self.types: Sequence[str] = [operation.type for operation in self._operations]
        blocks = (block for name, block in program.blocks(package) if name == function)
        self.results: Sequence[str] = [name for block in blocks for name in block.outputs]

    def name(self, i: int) -> str:
        outputs = self._operations[i].outputs
        return outputs[0].name if outputs else ""

    def outputs(self, i: int) -> tuple[str, ...]:
        return tuple(output.name for output in self._operations[i].outputs)

    def step(self, i: int) -> Step:
        operation = self._operations[i]
        reads: dict[str, tuple[str, ...]] = {}
        weights: dict[str, Weight] = {}
        values = {
            key: self._text(value) for key, value in sorted(operation.attributes.items()) if key != "name"
        }
        for key, argument in sorted(operation.inputs.items()):
            computed = []
            for n, binding in enumerate(argument.arguments):
                in_place = binding.WhichOneof("binding") == "value"
                value = binding.value if in_place else self._constants.get(binding.name)
                if value is None:
                    computed.append(binding.name)
                    continue
                where = key if len(argument.arguments) == 1 else f"{key}[{n}]"
                values[where] = self._text(value)
                if not in_place and binding.name in self._fingerprints:
                    weights[where] = Weight(binding.name, self._fingerprints[binding.name])
            reads[key] = tuple(computed)
        for n, output in enumerate(operation.outputs):
            values["gives" if n == 0 else f"gives[{n}]"] = _type_text(output.type)
        return Step(reads, values, weights)

    def _text(self, value: Any) -> str:
        """Of a weight, which has a fingerprint, its type; of a small tensor its elements, too."""
        kind = tensor_type(value.type)
        if kind is None:
            return f"{_type_text(value.type)}, SHA-256 {digest(value)}"
        floats = kind.dtype.startswith(("float", "bfloat"))
        if blob_location(value) is not None or (kind.shape and floats):
            return _type_text(value.type)
        shape = kind.static_shape
        if shape is not None and math.prod(shape) <= _LISTED:
            try:
                array = read_value(self._package, value)
            except DataError:
                return f"{_type_text(value.type)}, SHA-256 {digest(value)}"
            items = [number_text(item) for item in array.reshape(-1)]
            return f"[{', '.join(items)}] {kind.dtype}" if shape else f"{''.join(items)} {kind.dtype}"
        return f"{_type_text(value.type)}, SHA-256 {digest(value)}"


class NetworkGraph:
    """The layers of a neural network, those of branches and loops after the layer that has them.

    Args:
        message: `NeuralNetwork`, or that of a classifier or regressor.
        results: names of the model's outputs.
    """

    def __init__(self, message: Any, results: Sequence[str] = ()) -> None:
        self.results = results
        self._layers = list(network.layers(message))
        require_at_most(len(self._layers), MOST_OPERATIONS, "layers")
        self.types: Sequence[str] = [layer.WhichOneof("layer") or "unknown" for layer in self._layers]

    def name(self, i: int) -> str:
        return str(self._layers[i].name)

    def outputs(self, i: int) -> tuple[str, ...]:
        return tuple(self._layers[i].output)

    def step(self, i: int) -> Step:
        layer, kind = self._layers[i], self.types[i]
        values = dict(field_texts(getattr(layer, kind), _CONTENT)) if kind != "unknown" else {}
        if layer.isUpdatable:
            values["isUpdatable"] = "true"
        for side in ("inputTensor", "outputTensor"):
            for n, tensor in enumerate(getattr(layer, side)):
                values[f"{side}[{n}]"] = ", ".join(text for _, text in field_texts(tensor))
        return Step({"input": tuple(layer.input)}, values)


def compare_graphs(function: str, a: Graph, b: Graph) -> GraphDifference:
    """Align two graphs and list what differs.

    Raises:
        DataError: an operation is malformed beyond what can be described.
    """
    pairs, aligned = align(a.types, b.types)
    renaming: dict[str, str] = {}
    for i, j in pairs:
        renaming.update(zip(a.outputs(i), b.outputs(j), strict=False))
    count = renamed = i = j = 0
    places: list[Place] = []
    for at_a, at_b in [*pairs, (len(a.types), len(b.types))]:
        count += at_a - i + at_b - j
        room = MOST_PLACES - len(places)
        places += [Place(a.types[n], a.name(n), None) for n in range(i, min(at_a, i + room))]
        room = MOST_PLACES - len(places)
        places += [Place(b.types[n], None, b.name(n)) for n in range(j, min(at_b, j + room))]
        i, j = at_a + 1, at_b + 1
        if at_a == len(a.types):
            break
        changes = tuple(_changes(a.step(at_a), b.step(at_b), renaming))
        count += bool(changes)
        renamed += not changes and a.name(at_a) != b.name(at_b)
        if changes and len(places) < MOST_PLACES:
            places.append(Place(a.types[at_a], a.name(at_a), b.name(at_b), changes))
    given = [renaming.get(name, name) for name in a.results]
    if given != list(b.results):
        count += 1
        change = Change("in the names of B", ", ".join(given), ", ".join(b.results))
        places = [Place("outputs", ", ".join(a.results), change.b, (change,)), *places][:MOST_PLACES]
    return GraphDifference(function, len(a.types), len(b.types), aligned, count, tuple(places), renamed)


def align(a: Sequence[str], b: Sequence[str]) -> tuple[list[tuple[int, int]], bool]:
    """Pairs of indices of equal items, increasing in both: all but the fewest removals and additions.

    Returns:
        The pairs, and whether that was done; of sequences that MOST_EDITS cannot turn into one another only
        what they begin and end with is paired.

    Source: E. Myers, An O(ND) Difference Algorithm and Its Variations, Algorithmica 1 (1986), the greedy one.
    """
    most = min(len(a), len(b))
    head = next((i for i in range(most) if a[i] != b[i]), most)
    tail = next((i for i in range(most - head) if a[-1 - i] != b[-1 - i]), most - head)
    middle = _shortest_edit(a[head : len(a) - tail], b[head : len(b) - tail])
    pairs = [(i, i) for i in range(head)]
    pairs += [(head + i, head + j) for i, j in middle or ()]
    pairs += [(len(a) - tail + i, len(b) - tail + i) for i in range(tail)]
    return pairs, middle is not None


def _shortest_edit(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]] | None:
    """Pairs; None: more than MOST_EDITS."""
    furthest = {1: 0}
    history = []
    for edits in range(MOST_EDITS + 1):
        history.append(furthest.copy())
        for diagonal in range(-edits, edits + 1, 2):
            _, i = _edit(furthest, diagonal, edits)
            while i < len(a) and i - diagonal < len(b) and a[i] == b[i - diagonal]:
                i += 1
            furthest[diagonal] = i
            if i >= len(a) and i - diagonal >= len(b):
                return list(_walk_back(history, len(a), len(b)))[::-1]
    return None


def _edit(furthest: Mapping[int, int], diagonal: int, edits: int) -> tuple[bool, int]:
    """The last edit that leads to a diagonal (index in A less that in B).

    Returns:
        Whether it adds an item of B, and the index in A after it.
    """
    added = diagonal == -edits or (diagonal != edits and furthest[diagonal - 1] < furthest[diagonal + 1])
    return added, furthest[diagonal + 1] if added else furthest[diagonal - 1] + 1


def _walk_back(history: list[dict[int, int]], i: int, j: int) -> Iterator[tuple[int, int]]:
    for edits in reversed(range(len(history))):
        added, start = _edit(history[edits], i - j, edits)
        while i > start:
            i, j = i - 1, j - 1
            yield i, j
        i, j = (i, j - 1) if added else (i - 1, j)


def _changes(a: Step, b: Step, renaming: Mapping[str, str]) -> Iterator[Change]:
    for key in dict.fromkeys((*a.reads, *b.reads)):
        first, second = a.reads.get(key, ()), b.reads.get(key, ())
        if tuple(renaming.get(name, name) for name in first) != second:
            yield Change(key, ", ".join(first) or None, ", ".join(second) or None)
    for key in dict.fromkeys((*a.values, *b.values)):
        weight_a, weight_b = a.weights.get(key), b.weights.get(key)
        if a.values.get(key) != b.values.get(key):
            yield Change(key, a.values.get(key), b.values.get(key))
        # Of one name with other bytes, the weights tell; of other names with the same bytes, too.
        elif weight_a and weight_b and all(x != y for x, y in zip(weight_a, weight_b, strict=True)):
            yield Change(key, weight_a.name, weight_b.name)


def _type_text(type_: Any) -> str:
    """`float32 1x64`; a dimension that is known only at run time is `?`."""
    kind = tensor_type(type_)
    if kind is None:
        return f"{(type_.WhichOneof('type') or 'no type').removesuffix('Type')} {digest(type_)}"
    state = "state of " if type_.WhichOneof("type") == "stateType" else ""
    shape = "x".join("?" if size is None else str(size) for size in kind.shape)
    return f"{state}{kind.dtype} {shape or 'scalar'}"
