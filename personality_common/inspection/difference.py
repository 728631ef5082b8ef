"""What differs between two models, A and B, as plain data; `comparing` finds it, renderers show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from personality_common.coreml.description import shape_text


@dataclass(frozen=True)
class Change:
    """One thing that differs."""

    what: str
    a: str | None
    """As text; None: only B has it."""
    b: str | None


@dataclass(frozen=True)
class Place:
    """Where two graphs differ: an operation that one has alone, or that does something else."""

    type: str
    """Of the operation or layer; `outputs`: it is about what the graph gives."""
    a: str | None
    """Its name: of its first output, or of the layer; None: only B has it."""
    b: str | None
    changes: tuple[Change, ...] = ()
    """Of what it reads, computes with and gives, where both have it."""


@dataclass(frozen=True)
class GraphDifference:
    """Of a function of an ML Program, or of the layers of a network; constants are no operations here."""

    function: str
    operations_a: int
    operations_b: int
    aligned: bool
    """False: so much differs that only the beginning and the end were held against one another."""
    count: int
    """Places that differ."""
    places: tuple[Place, ...]
    """In the order of the graph; the first of them, where there are many."""
    renamed: int
    """Operations that are the same under another name."""


@dataclass(frozen=True)
class Weight:
    """A tensor of one of the models."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fingerprint: str
    norm: float | None
    """Euclidean; None for numbers that are no floating-point ones: their scale is stored elsewhere."""

    @property
    def text(self) -> str:
        """`float32 325x512`."""
        return f"{self.dtype} {shape_text(self.shape)}"


@dataclass(frozen=True)
class WeightChange:
    """A tensor that both have, with other bytes, shape or dtype."""

    a: Weight
    b: Weight
    changed: int | None
    """Elements that differ; None where the shapes do, or the numbers cannot be told."""
    max_difference: float | None
    """Largest |B - A| of an element; None like `changed`, and for no floating-point numbers."""
    relative: float | None
    """Norm of B - A over the norm of A; None like `max_difference`, and if the norm of A is 0."""


@dataclass(frozen=True)
class WeightsDifference:
    """By name."""

    same: int
    """Tensors that are the same, bit for bit."""
    changed: tuple[WeightChange, ...]
    only_a: tuple[Weight, ...]
    only_b: tuple[Weight, ...]
    renamed: tuple[tuple[str, str], ...]
    """Names in A and in B of the same bytes."""

    @property
    def count(self) -> int:
        return len(self.changed) + len(self.only_a) + len(self.only_b) + len(self.renamed)


@dataclass(frozen=True)
class OperationCount:
    """How many operations or layers of a type a function has."""

    function: str
    type: str
    a: int
    b: int


@dataclass(frozen=True)
class ModelDifference:
    """Of a model, or of a submodel of a pipeline."""

    name: str
    """File in a bundle, path in a pipeline; empty for the only one."""
    model: tuple[Change, ...]
    """Kind, versions, functions, class labels, submodels."""
    features: tuple[Change, ...]
    """Inputs, outputs, states and training inputs: what an app sees."""
    metadata: tuple[Change, ...]
    update: tuple[Change, ...]
    """What can be trained on the device, and how."""
    operations: tuple[OperationCount, ...]
    graphs: tuple[GraphDifference, ...]
    weights: WeightsDifference
    other: tuple[Change, ...]
    """Fields of the format that the sections above do not speak of."""
    other_is_all: bool
    """False: `other` has the first of many."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How much differs, by section."""
        return {
            "model": len(self.model),
            "features": len(self.features),
            "metadata": len(self.metadata),
            "update": len(self.update),
            "operations": len(self.operations),
            "graph": sum(graph.count + graph.renamed for graph in self.graphs),
            "weights": self.weights.count,
            "other fields": len(self.other),
        }

    @property
    def same(self) -> bool:
        return not any(self.counts.values())


@dataclass(frozen=True)
class Comparison:
    """Of two models or of two bundles; see `compare_paths`."""

    schema: int
    """Version of `diff.schema.json`."""
    type: str
    """`model` or `bundle`."""
    a: str
    b: str
    same: bool
    bundle: tuple[Change, ...]
    """Of the manifests, and packages that one bundle has alone."""
    models: tuple[ModelDifference, ...]
    """The model and its submodels, or those of the packages that both bundles have."""
