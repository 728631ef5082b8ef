"""Print what `inspect_path` found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from personality_common.coreml.description import ModelDescription, ParameterCount, UpdateInfo, shape_text
from personality_common.coreml.features import Feature
from personality_common.inspection.cost_rendering import cost_table, render_cost
from personality_common.inspection.layout import (
    LONG,
    ROWS,
    cells,
    how_many,
    human_bytes,
    print_pairs,
    print_section,
    print_title,
    texts,
)
from personality_common.inspection.reading import (
    FolderInspection,
    Inspection,
    OnnxInspection,
    PackageInspection,
)
from personality_common.printable import excerpt
from personality_common.terminal.tables import Column, Grid, figures

_FINGERPRINT: Final = Column("fingerprint", "text", drop=1)
_KEYS: Final = 12
"""An object of more keys is a table, such as the files of a bundle: how many it has is said."""


def render(inspection: Inspection, console: Console, *, weights: bool) -> None:
    """Print an inspection; with `weights`, the tensor tables too."""
    if isinstance(inspection, FolderInspection):
        _folder(inspection, console, weights)
    elif isinstance(inspection, OnnxInspection):
        _onnx(inspection, console, weights)
    else:
        _package(inspection, console, weights)


def _folder(folder: FolderInspection, console: Console, weights: bool) -> None:
    print_title(console, folder.path, f"{folder.type}, {human_bytes(folder.bytes)}")
    print_pairs(console, "Summary", _flatten(folder.summary))
    if folder.packages and not weights:
        columns = (
            *texts("package"), Column("kind", "text", drop=3), Column("iOS", "text", drop=1),
            *figures("size", "parameters"), Column("inputs -> outputs", "text", drop=2),
        )  # fmt: skip
        rows = []
        for package in folder.packages:
            model = package.model
            flow = " -> ".join(", ".join(f.name for f in side) for side in (model.inputs, model.outputs))
            rows.append(
                cells(
                    Path(package.path).name,
                    model.kind + (" (updatable)" if model.updatable else ""),
                    (model.minimum_os or "?").split(",")[0].removeprefix("iOS "),
                    human_bytes(package.bytes),
                    f"{_elements(model):,}",
                    flow,
                )
            )
        print_section(console, "Packages", Grid(columns, rows))
    costs = [(Path(package.path).name, package.cost) for package in folder.packages if package.cost]
    if costs and not weights:
        print_section(console, "Cost of one prediction", cost_table(costs))
    _problems(console, folder.problems)
    for package in folder.packages:
        if weights:
            console.print()
            _package(package, console, weights)
        else:
            _problems(console, package.model.problems)
    for file in folder.onnx:
        console.print()
        _onnx(file, console, weights)


def _package(package: PackageInspection, console: Console, weights: bool) -> None:
    print_title(console, package.path, human_bytes(package.bytes))
    _model(package.model, console, weights)
    if package.cost is not None:
        render_cost(package.cost, console)


def _model(model: ModelDescription, console: Console, weights: bool) -> None:
    version = f"specification version {model.specification_version}"
    needs = f"needs {model.minimum_os}" if model.minimum_os else "of an unknown system"
    facts = [model.kind, version, needs, *(["updatable"] if model.updatable else [])]
    console.print(Text(", ".join(facts)))
    if model.default_function is None or not any(f.inputs or f.outputs for f in model.functions):
        groups = (("input", model.inputs), ("output", model.outputs), ("state", model.states))
        _features(console, "Features", *groups, ("training", model.training_inputs))
    if model.predicted_feature:
        labels = f", {model.class_labels:,} classes" if model.class_labels is not None else ""
        console.print(Text(f"Predicts {excerpt(model.predicted_feature, 60)}{labels}", style="bold"))
        if model.labels:
            shown = ", ".join(excerpt(label, 40) for label in model.labels[:ROWS])
            more = f" … and {len(model.labels) - ROWS:,} more" if len(model.labels) > ROWS else ""
            console.print(Padding(Text(shown + more), (0, 0, 0, 2)))
    print_pairs(console, "Metadata", list(model.metadata.items()))
    print_pairs(console, "Fields", list(model.details.items()))
    for function in model.functions:
        total = sum(function.operations.values())
        label = f"function {excerpt(function.name, 60)}, opset {excerpt(function.opset, 40)}"
        heading = f"Operations ({total:,}; {label})" if function.opset else f"Layers ({total:,})"
        _operations(console, heading, function.operations)
        if len(model.functions) > 1 and (function.inputs or function.outputs):
            default = " (default)" if function.name == model.default_function else ""
            title = f"Features of {excerpt(function.name, 60)}{default}"
            _features(
                console,
                title,
                ("input", function.inputs),
                ("output", function.outputs),
                ("state", function.states),
            )
    if model.custom_layers:
        _operations(console, "Custom layers, whose classes an app must bring", model.custom_layers)
    for step in model.preprocessing:
        title = f"Preprocessing of {excerpt(step.feature, 60) or 'the image'}"
        print_pairs(console, title, [("type", step.type), *step.values.items()])
    _parameters(console, model)
    if model.update:
        _update(console, model.update)
    if weights:
        _tensors(console, model)
    _problems(console, model.problems)
    for i, submodel in enumerate(model.submodels):
        console.print()
        label = f"submodel {i + 1} of {len(model.submodels)}: {excerpt(submodel.name, 60)}"
        console.print(Text(label, style="bold reverse"))
        _model(submodel, console, weights)


def _onnx(file: OnnxInspection, console: Console, weights: bool) -> None:
    model = file.model
    print_title(console, file.path, human_bytes(file.bytes))
    opsets = ", ".join(f"{excerpt(domain, 60)} opset {opset}" for domain, opset in model.opsets.items())
    by = f"by {excerpt(model.producer, 60)}" if model.producer else "by nobody who says so"
    console.print(Text(f"ONNX, IR version {model.ir_version}, {opsets or 'no opset'}, {by}"))
    ports = [("input", port) for port in model.inputs] + [("output", port) for port in model.outputs]
    shown = [cells(role, p.name, p.type, p.dtype or "", p.shape_text) for role, p in ports[:ROWS]]
    interface = Grid(texts("", "name", "type", "dtype", "shape"), shown)
    print_section(console, "Interface" + how_many(ports), interface)
    print_pairs(console, "Metadata", list(model.metadata.items()))
    _operations(console, f"Operations ({sum(model.operations.values()):,})", model.operations)
    _counts(console, model.parameters)
    if weights and model.tensors:
        rows = []
        for t in model.tensors:
            where = f" in {t.external}" if t.external is not None else ""
            rows.append(
                cells(t.name, t.dtype, shape_text(t.shape), f"{t.bytes:,}{where}", t.fingerprint or "")
            )
        columns = (*texts("tensor", "dtype", "shape", "bytes"), _FINGERPRINT)
        print_section(console, f"Tensors ({len(model.tensors):,})", Grid(columns, rows))
    _problems(console, model.problems)


def _features(console: Console, title: str, *groups: tuple[str, Iterable[Feature]]) -> None:
    found = [(role, feature) for role, group in groups for feature in group]
    rows = [
        cells(role, f.name, f.type, f.dtype or "", f.shape_text, "optional " * f.optional + f.description)
        for role, f in found[:ROWS]
    ]
    columns = (
        Column(""), Column("feature", "text"), Column("type", "text", drop=2),
        Column("dtype", "text", drop=3), Column("shape", "text"),
        Column("about it" if any(row[-1] for row in rows) else "", "text", drop=1),
    )  # fmt: skip
    if rows:
        print_section(console, title + how_many(found), Grid(columns, rows))


def _operations(console: Console, heading: str, operations: dict[str, int]) -> None:
    kinds = list(operations.items())
    counts = ", ".join(f"{excerpt(name, 60)} {count:,}" for name, count in kinds[:ROWS])
    more = f" … and {len(kinds) - ROWS} more types" if len(kinds) > ROWS else ""
    print_section(console, heading, Text(counts + more))


def _parameters(console: Console, model: ModelDescription) -> None:
    if not model.parameters and not model.weight_files:
        return
    _counts(console, model.parameters)
    for name, size in list(model.weight_files.items())[:ROWS]:
        console.print(Text(f"  {excerpt(name, 100)}: {human_bytes(size)}", style="dim"))


def _counts(console: Console, parameters: tuple[ParameterCount, ...]) -> None:
    rows = [
        cells(count.dtype, f"{count.tensors:,}", f"{count.elements:,}", human_bytes(count.bytes))
        for count in parameters
    ]
    if len(parameters) > 1:
        tensors, elements = sum(c.tensors for c in parameters), sum(c.elements for c in parameters)
        size = sum(c.bytes for c in parameters)
        rows.append(cells("all", f"{tensors:,}", f"{elements:,}", human_bytes(size)))
    columns = (*texts("dtype"), *figures("tensors", "parameters", "size"))
    print_section(console, "Parameters", Grid(columns, rows))


def _update(console: Console, update: UpdateInfo) -> None:
    pairs = [("layers", ", ".join(update.layers) or "none")]
    pairs += [
        (f"loss {loss['name']}", f"{loss['type']}: {loss['input']} against {loss['target']}")
        for loss in update.losses
    ]
    pairs.append(("optimizer", update.optimizer or "none"))
    pairs += [(name, p.text) for name, p in update.parameters.items()]
    print_pairs(console, "Update on the device", pairs)


def _tensors(console: Console, model: ModelDescription) -> None:
    if not model.tensors:
        return
    rows = [
        cells(
            t.name,
            t.dtype + " *" * t.updatable,
            shape_text(t.shape),
            f"{t.bytes:,}",
            "inline" if t.offset is None else str(t.offset),
            t.fingerprint or "",
        )
        for t in model.tensors
    ]
    columns = (*texts("tensor", "dtype", "shape"), *figures("bytes", "offset"), _FINGERPRINT)
    legend = "; * updatable" if any(t.updatable for t in model.tensors) else ""
    print_section(console, f"Tensors ({len(model.tensors):,}{legend})", Grid(columns, rows))


def _elements(model: ModelDescription) -> int:
    return sum(c.elements for c in model.parameters) + sum(map(_elements, model.submodels))


def _flatten(value: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested objects as dotted keys, two levels down; below that, long ones and lists: how many."""
    rows: list[tuple[str, object]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and 0 < len(item) <= _KEYS and prefix.count(".") < 1:
            rows += _flatten(item, f"{name}.")
        elif isinstance(item, dict | list) and len(str(item)) > LONG:
            rows.append((name, f"{len(item):,} entries"))
        else:
            rows.append((name, item))
    return rows


def _problems(console: Console, problems: Iterable[str]) -> None:
    for problem in problems:
        console.print(Text(f"problem: {excerpt(problem, 1000)}", style="red"))
