"""Compare two models, or two bundles of models, section by section."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from personality_common.contract import MANIFEST_FILE, RUN_FILE
from personality_common.coreml import network
from personality_common.coreml.describe import describe
from personality_common.coreml.description import ModelDescription
from personality_common.coreml.limits import DEFAULT_LIMITS, Limits
from personality_common.coreml.package import Package
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object
from personality_common.files.inside import inside, refuse_links
from personality_common.inspection.damage import damaged_files
from personality_common.inspection.difference import (
    Change,
    Comparison,
    GraphDifference,
    ModelDifference,
)
from personality_common.inspection.fields import differing_fields
from personality_common.inspection.graphs import Graph, NetworkGraph, ProgramGraph, compare_graphs
from personality_common.inspection.reading import JSON_BYTES, model_problems
from personality_common.inspection.sections import (
    FreeNames,
    feature_changes,
    label_changes,
    model_changes,
    operation_counts,
    text_changes,
    update_changes,
)
from personality_common.inspection.weight_changes import compare_weights

SCHEMA: Final = 1
MOST_OTHER: Final = 1_000
"""Fields without a section of their own; a file of other weights of a tree ensemble may have millions."""
_LONG: Final = 100
"""Characters of a list in a manifest that is shown."""
_SPEC: Final = "CoreML.Specification"
_ELSEWHERE: Final = {
    f"{_SPEC}.{name}"
    for name in (
        "Model.specificationVersion", "Model.isUpdatable", "ModelDescription.defaultFunctionName",
        "Pipeline.models", "Pipeline.names", "MILSpec.Value.BlobFileValue.offset",
        "MILSpec.Value.BlobFileValue.fileName",
    )
}  # fmt: skip
"""Fields that a section says all of; where a tensor lies in the weight file makes no difference."""


@dataclass(frozen=True)
class _Model:
    """A model that is to be compared: its file, and what was found in it."""

    package: Package
    description: ModelDescription

    @property
    def submodels(self) -> dict[str, _Model]:
        """By path; a second of a path is `path (2)`."""
        names = FreeNames()
        pairs = zip(self.package.submodels, self.description.submodels, strict=True)
        return {names.take(found.name): _Model(package, found) for package, found in pairs}


def compare_paths(
    a: str | os.PathLike[str], b: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS
) -> Comparison:
    """Compare two `.mlpackage` or `.mlmodel`, or two bundles.

    Raises:
        DataError: one is neither, is damaged, or lacks a part; one is a model, the other a bundle.
    """
    packages, manifests = [], []
    for path in (Path(a), Path(b)):
        manifest = _manifest(path)
        manifests.append(manifest)
        packages.append({"": path} if manifest is None else _packages(path, manifest))
    if (manifests[0] is None) != (manifests[1] is None):
        bundle, model = (b, a) if manifests[0] is None else (a, b)
        raise DataError(f"two models or two bundles are compared; {bundle} is a bundle, {model} is a model")
    bundle_changes: list[Change] = []
    if manifests[0] is not None and manifests[1] is not None:
        bundle_changes += text_changes(*({f"package {name}": "there" for name in side} for side in packages))
        bundle_changes += text_changes(_leaves(manifests[0]), _leaves(manifests[1]))
    models: list[ModelDifference] = []
    for name in packages[0]:
        if name in packages[1]:
            pair = (_open(side[name], limits) for side in packages)
            models += _compare(name, *pair)
    same = not bundle_changes and all(model.same for model in models)
    kind = "model" if manifests[0] is None else "bundle"
    return Comparison(SCHEMA, kind, str(a), str(b), same, tuple(bundle_changes), tuple(models))


def _manifest(path: Path) -> dict[str, Any] | None:
    """Of a bundle; None for what may be a model."""
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if RUN_FILE in names or path.suffix == ".onnx":
        what = "a run" if RUN_FILE in names else "an ONNX file"
        raise DataError(f"{path}: two Core ML models or two bundles are compared; this is {what}")
    return read_json_object(inside(path, MANIFEST_FILE), JSON_BYTES) if MANIFEST_FILE in names else None


def _packages(bundle: Path, manifest: dict[str, Any]) -> dict[str, Path]:
    refuse_links(bundle)
    for problem in damaged_files(bundle, manifest):
        raise DataError(problem)
    entries = (entry for entry in sorted(bundle.iterdir()) if entry.suffix in (".mlpackage", ".mlmodel"))
    return {entry.name: entry for entry in entries}


def _open(path: Path, limits: Limits) -> _Model:
    package = Package.open(path, limits)
    description = describe(package, fingerprints=True)
    if problems := list(model_problems(description)):
        more = f" (and {len(problems) - 1} more; pt inspect lists them)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")
    return _Model(package, description)


def _compare(name: str, a: _Model, b: _Model) -> Iterator[ModelDifference]:
    """A model, then those submodels that both pipelines have.

    Args:
        name: the file in a bundle.
    """
    first, second = a.description, b.description
    features = feature_changes(first, second)
    metadata = text_changes(first.metadata, second.metadata)
    update = update_changes(first.update, second.update)
    graphs = tuple(_graphs(a, b))
    weights = compare_weights(a.package, b.package, first, second)
    labels = label_changes(first, second)
    submodels = [model.submodels for model in (a, b)]
    model = [*model_changes(first, second), *labels]
    model += text_changes(*({f"submodel {path}": "there" for path in side} for side in submodels))
    found = {
        "features": bool(features),
        "metadata": bool(metadata),
        "update": bool(update),
        "labels": bool(labels),
        "graph": bool(graphs) or weights.count > 0,
    }
    without = _ELSEWHERE | _said(a.package, b.package, found)
    other = list(islice(differing_fields(a.package.spec, b.package.spec, without), MOST_OTHER + 1))
    inner = f"{name}/{first.name}" if name and first.name else name or first.name
    yield ModelDifference(
        name=inner,
        model=tuple(model),
        features=tuple(features),
        metadata=tuple(metadata),
        update=tuple(update),
        operations=tuple(operation_counts(first, second)),
        graphs=graphs,
        weights=weights,
        other=tuple(other[:MOST_OTHER]),
        other_is_all=len(other) <= MOST_OTHER,
    )
    for path, submodel in submodels[0].items():
        if path in submodels[1]:
            yield from _compare(name, submodel, submodels[1][path])


def _said(a: Package, b: Package, sections: Mapping[str, bool]) -> set[str]:
    """Fields that need not be walked: of sections that have found something, and of kinds that differ.

    What a section has not found, the walk will.
    """
    description = f"{_SPEC}.ModelDescription"
    fields = {
        "features": [f"{description}.{field}" for field in (
            "input", "output", "state", "trainingInput", "functions",
        )],
        "metadata": [f"{description}.metadata"],
        "update": [], "labels": [], "graph": [f"{_SPEC}.MILSpec.Program.functions"],
    }  # fmt: skip
    for kind in {a.kind, b.kind} - {"unknown"}:
        name = a.spec.DESCRIPTOR.fields_by_name[kind].message_type.full_name
        fields["graph"].append(f"{name}.layers")
        fields["update"].append(f"{name}.updateParams")
        fields["labels"] += [f"{name}.stringClassLabels", f"{name}.int64ClassLabels"]
    said = {field for section, found in sections.items() if found for field in fields[section]}
    return said if a.kind == b.kind else said | {f"{_SPEC}.Model.{kind}" for kind in (a.kind, b.kind)}


def _graphs(a: _Model, b: _Model) -> Iterator[GraphDifference]:
    """Of functions that both have."""
    graphs = [_functions(model.package, model.description) for model in (a, b)]
    for function, graph in graphs[0].items():
        if function in graphs[1]:
            found = compare_graphs(function, graph(), graphs[1][function]())
            if found.count or found.renamed:
                yield found


def _functions(package: Package, described: ModelDescription) -> dict[str, Callable[[], Graph]]:
    message = network.network(package)
    if message is not None:
        results = [feature.name for feature in described.outputs]
        return {"layers": lambda: NetworkGraph(message, results)}
    fingerprints = {tensor.name: tensor.fingerprint for tensor in described.tensors}
    return {f.name: partial(ProgramGraph, package, f.name, fingerprints) for f in described.functions}


def _leaves(manifest: dict[str, Any]) -> dict[str, str]:
    """Dotted path and text of each value; a long list is one, such as the tensors of a package."""
    found: dict[str, str] = {}
    # Not by recursion, whose depth the file would choose.
    left: list[tuple[str, Any]] = [("", manifest)]
    while left:
        path, value = left.pop()
        if isinstance(value, dict) and value:
            left += [(f"{path}.{key}".removeprefix("."), item) for key, item in value.items()][::-1]
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            long = isinstance(value, list) and len(text) > _LONG
            hashed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
            found[path] = f"{len(value):,} entries, SHA-256 {hashed}" if long else text
    return found
