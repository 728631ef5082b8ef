"""Print what `inspect_path` found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from personality_common.coreml.description import ModelDescription, ParameterCount, ParameterRange, UpdateInfo
from personality_common.coreml.features import Feature
from personality_common.inspection.reading import (
    FolderInspection,
    Inspection,
    OnnxInspection,
    PackageInspection,
)
from personality_common.printable import excerpt

_LONG: Final = 100
_SHORT_FINGERPRINT: Final = 12
_KEYS: Final = 12
"""An object of more keys is a table, such as the files of a bundle: how many it has is said."""
_ROWS: Final = 60
"""Of lists that a stranger's file can make as long as he likes; `--json` has all."""


def render(inspection: Inspection, console: Console, *, weights: bool) -> None:
    """Print an inspection; with `weights`, the tensor tables too."""
    if isinstance(inspection, FolderInspection):
        _folder(inspection, console, weights)
    elif isinstance(inspection, OnnxInspection):
        _onnx(inspection, console, weights)
    else:
        _package(inspection, console, weights)


def human_bytes(size: int) -> str:
    """`29.0 MB`: decimal, as disks and app stores count."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            break
    return f"{value:.1f} {unit}"


def _folder(folder: FolderInspection, console: Console, weights: bool) -> None:
    _title(console, folder.path, f"{folder.type}, {human_bytes(folder.bytes)}")
    _pairs(console, "Summary", _flatten(folder.summary))
    if folder.packages and not weights:
        table = _table("package", "kind", "iOS", "size", "parameters", "inputs -> outputs", right=(3, 4))
        for package in folder.packages:
            model = package.model
            flow = " -> ".join(", ".join(f.name for f in side) for side in (model.inputs, model.outputs))
            _row(
                table,
                Path(package.path).name,
                model.kind + (" (updatable)" if model.updatable else ""),
                (model.minimum_os or "?").split(",")[0].removeprefix("iOS "),
                human_bytes(package.bytes),
                f"{_elements(model):,}",
                flow,
            )
        _section(console, "Packages", table)
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
    _title(console, package.path, human_bytes(package.bytes))
    _model(package.model, console, weights)


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
            shown = ", ".join(excerpt(label, 40) for label in model.labels[:_ROWS])
            more = f" … and {len(model.labels) - _ROWS:,} more" if len(model.labels) > _ROWS else ""
            console.print(Padding(Text(shown + more), (0, 0, 0, 2)))
    _pairs(console, "Metadata", list(model.metadata.items()))
    _pairs(console, "Fields", list(model.details.items()))
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
        _pairs(console, title, [("type", step.type), *step.values.items()])
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
    _title(console, file.path, human_bytes(file.bytes))
    opsets = ", ".join(f"{excerpt(domain, 60)} opset {opset}" for domain, opset in model.opsets.items())
    by = f"by {excerpt(model.producer, 60)}" if model.producer else "by nobody who says so"
    console.print(Text(f"ONNX, IR version {model.ir_version}, {opsets or 'no opset'}, {by}"))
    table = _table("", "name", "type", "dtype", "shape")
    ports = [("input", port) for port in model.inputs] + [("output", port) for port in model.outputs]
    for role, port in ports[:_ROWS]:
        _row(table, role, port.name, port.type, port.dtype or "", port.shape_text)
    _section(console, "Interface" + _more(ports), table)
    _pairs(console, "Metadata", list(model.metadata.items()))
    _operations(console, f"Operations ({sum(model.operations.values()):,})", model.operations)
    _counts(console, model.parameters)
    if weights and model.tensors:
        table = _table("tensor", "dtype", "shape", "bytes", "fingerprint", right=(3,))
        for t in model.tensors:
            where = f" in {t.external}" if t.external is not None else ""
            shape = "x".join(map(str, t.shape)) or "scalar"
            _row(table, t.name, t.dtype, shape, f"{t.bytes:,}{where}", _fingerprint(console, t.fingerprint))
        _section(console, f"Tensors ({len(model.tensors):,})", table)
    _problems(console, model.problems)


def _features(console: Console, title: str, *groups: tuple[str, Iterable[Feature]]) -> None:
    table = _table("", "feature", "type", "dtype", "shape", "")
    rows = [(role, feature) for role, group in groups for feature in group]
    for role, f in rows[:_ROWS]:
        note = "optional " * f.optional + f.description
        _row(table, role, f.name, f.type, f.dtype or "", f.shape_text, note)
    if rows:
        _section(console, title + _more(rows), table)


def _operations(console: Console, heading: str, operations: dict[str, int]) -> None:
    kinds = list(operations.items())
    counts = ", ".join(f"{excerpt(name, 60)} {count:,}" for name, count in kinds[:_ROWS])
    more = f" … and {len(kinds) - _ROWS} more types" if len(kinds) > _ROWS else ""
    _section(console, heading, Text(counts + more))


def _parameters(console: Console, model: ModelDescription) -> None:
    if not model.parameters and not model.weight_files:
        return
    _counts(console, model.parameters)
    for name, size in list(model.weight_files.items())[:_ROWS]:
        console.print(Text(f"  {excerpt(name, 100)}: {human_bytes(size)}", style="dim"))


def _counts(console: Console, parameters: tuple[ParameterCount, ...]) -> None:
    table = _table("dtype", "tensors", "parameters", "size", right=(1, 2, 3))
    for count in parameters:
        _row(table, count.dtype, f"{count.tensors:,}", f"{count.elements:,}", human_bytes(count.bytes))
    if len(parameters) > 1:
        tensors, elements = sum(c.tensors for c in parameters), sum(c.elements for c in parameters)
        size = sum(c.bytes for c in parameters)
        _row(table, "all", f"{tensors:,}", f"{elements:,}", human_bytes(size))
    _section(console, "Parameters", table)


def _update(console: Console, update: UpdateInfo) -> None:
    pairs = [("layers", ", ".join(update.layers) or "none")]
    pairs += [
        (f"loss {loss['name']}", f"{loss['type']}: {loss['input']} against {loss['target']}")
        for loss in update.losses
    ]
    pairs.append(("optimizer", update.optimizer or "none"))
    pairs += [(name, _range(p)) for name, p in update.parameters.items()]
    _pairs(console, "Update on the device", pairs)


def _range(parameter: ParameterRange) -> str:
    if parameter.allowed:
        allowed = ", ".join(f"{v:g}" for v in parameter.allowed[:10])
        return f"{parameter.default} (one of {allowed}{', …' * (len(parameter.allowed) > 10)})"
    if parameter.minimum is not None:
        return f"{parameter.default} ({parameter.minimum:g} to {parameter.maximum:g})"
    return str(parameter.default)


def _tensors(console: Console, model: ModelDescription) -> None:
    if not model.tensors:
        return
    table = _table("tensor", "dtype", "shape", "bytes", "offset", "fingerprint", right=(3, 4))
    for t in model.tensors:
        _row(
            table,
            t.name,
            t.dtype + " *" * t.updatable,
            "x".join(map(str, t.shape)) or "scalar",
            f"{t.bytes:,}",
            "inline" if t.offset is None else str(t.offset),
            _fingerprint(console, t.fingerprint),
        )
    legend = "; * updatable" if any(t.updatable for t in model.tensors) else ""
    _section(console, f"Tensors ({len(model.tensors):,}{legend})", table)


def _fingerprint(console: Console, digest: str | None) -> str:
    """Whole where there is room."""
    return (digest or "") if console.width >= 160 else (digest or "")[:_SHORT_FINGERPRINT]


def _elements(model: ModelDescription) -> int:
    return sum(c.elements for c in model.parameters) + sum(map(_elements, model.submodels))


def _flatten(value: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested objects as dotted keys, two levels down; below that, long ones and lists: how many."""
    rows: list[tuple[str, object]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and 0 < len(item) <= _KEYS and prefix.count(".") < 1:
            rows += _flatten(item, f"{name}.")
        elif isinstance(item, dict | list) and len(str(item)) > _LONG:
            rows.append((name, f"{len(item):,} entries"))
        else:
            rows.append((name, item))
    return rows


def _title(console: Console, path: str, facts: str) -> None:
    console.print(Text.assemble((excerpt(path, 1000), "bold"), f"  {facts}"), soft_wrap=True)


def _section(console: Console, title: str, body: Table | Text) -> None:
    console.print(Text(title, style="bold"))
    console.print(Padding(body, (0, 0, 0, 2), expand=False))


def _pairs(console: Console, title: str, pairs: Iterable[tuple[str, object]]) -> None:
    rows = list(pairs)
    if not rows:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", style="cyan", max_width=max(20, console.width * 3 // 5))
    table.add_column(overflow="fold")
    for key, value in rows[:_ROWS]:
        _row(table, key, excerpt(value, _LONG))
    _section(console, title + _more(rows), table)


def _problems(console: Console, problems: Iterable[str]) -> None:
    for problem in problems:
        console.print(Text(f"problem: {excerpt(problem, 1000)}", style="red"))


def _more(rows: list[Any]) -> str:
    return f" ({_ROWS} of {len(rows):,}; --json has all)" if len(rows) > _ROWS else ""


def _table(*columns: str, right: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in right else "left", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    # Text, not str: a name that looks like rich's markup stays what it is.
    table.add_row(*(Text(excerpt(cell, 2 * _LONG)) for cell in cells))
