"""Where on its way through a package a value goes astray: error by op."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from device_sim.mil import Record, load_mil
from device_sim.parity.report import DepthPoint, pair
from device_sim.runtimes.mil import MilModel
from device_sim.runtimes.runtime import LoadedModel
from device_sim.runtimes.torch_mirror import MirrorModel
from personality_common.bundle.bundle import Part
from personality_common.bundle.stored import Array
from personality_common.contract import LOGITS
from personality_common.coreml.package import Package
from personality_common.coreml.program import main_block
from personality_common.evidence.claims import Check, within
from personality_common.evidence.tolerances import Tolerance

ROWS = 8
"""Of the golden vectors."""

Key = tuple[str, int, str]


def depth(
    part: Part, calls: tuple[dict[str, Array], ...], mirror: LoadedModel | None, states: Mapping[str, Array]
) -> tuple[DepthPoint, ...]:
    """Interpret a package in float32 and in float64, and PyTorch beside it.

    Args:
        calls: inputs; `ROWS` rows of them are used.
        mirror: PyTorch's; None where there is none.
        states: content of state buffers.

    Returns:
        One point per op that computes floats, in order.
    """
    inputs = [_row(call, i) for call in calls for i in range(len(next(iter(call.values()))))][:ROWS]
    models = [MilModel(load_mil(part.path, policy), states) for policy in ("exact", "float64")]
    exact, yardstick = (_observe(model, inputs) for model in models)
    layers: dict[str, Array] = {}
    if isinstance(mirror, MirrorModel):
        rows = [mirror.layers(row) for row in inputs]
        layers = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    names = _layer_names(part)
    points = []
    for number, (key, (op, value)) in enumerate(exact.items()):
        model, _, name = key
        layer = "projection" if name == LOGITS else names.get((model, name))
        against = layers.get(layer) if layer else None
        points.append(
            DepthPoint(
                number,
                op,
                f"{model}/{name}" if model else name,
                layer,
                value.shape,
                relative(value, yardstick[key][1]),
                relative(value, against) if against is not None and against.shape == value.shape else None,
            )
        )
    return tuple(points)


def layer_check(part: Part, points: tuple[DepthPoint, ...], tolerance: Tolerance) -> Check | None:
    """Every layer must compute what PyTorch's does; None where PyTorch was not looked at."""
    known = [p for p in points if p.torch is not None]
    if not known:
        return None
    worst = max(known, key=lambda point: point.torch or 0.0)
    astray = first_astray(points, tolerance)
    detail = astray or f"{worst.layer} ({worst.op} %{worst.name})"
    return within(
        "layers", "layers: relative difference on the way", worst.torch,
        tolerance.bound, tolerance.value, detail, package=part.file, runtimes=pair("mil", "torch"),
    )  # fmt: skip


def first_astray(points: tuple[DepthPoint, ...], tolerance: Tolerance) -> str:
    """Which layer first differs from PyTorch's, and which one before it does not; "" if none does."""
    good: DepthPoint | None = None
    for point in points:
        if point.torch is None:
            continue
        if not tolerance.holds(point.torch):
            between = [p for p in points if (good.position if good else -1) < p.position <= point.position]
            ops = " -> ".join(f"{p.op} %{p.name}" for p in between)
            after = f"agrees up to {good.layer}, then differs" if good else "differs"
            return f"{after} by {point.torch:.1e} at {point.layer} ({ops})"
        good = point
    return ""


def relative(value: Array, reference: Array) -> float:
    """||value - reference|| / ||reference||; 0 where they are equal, infinite where only one is finite."""
    value, reference = value.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error, norm = float(np.linalg.norm(value - reference)), float(np.linalg.norm(reference))
    if not np.isfinite(error):
        return float("inf")
    return 0.0 if error == 0 else error / norm if norm else float("inf")


def _row(call: dict[str, Array], index: int) -> dict[str, Array]:
    return {name: value[index : index + 1] for name, value in call.items()}


def _observe(model: MilModel, inputs: list[dict[str, Array]]) -> dict[Key, tuple[str, Array]]:
    seen: dict[Key, list[Array]] = defaultdict(list)
    ops: dict[Key, str] = {}

    def keep(record: Record) -> None:
        if record.value.dtype.kind == "f" and record.value.ndim:
            key = (record.model, record.position, record.name)
            ops[key] = record.op
            seen[key].append(record.value)

    for row in inputs:
        model.predict(row, keep)
    return {key: (ops[key], _joined(values)) for key, values in seen.items()}


def _joined(values: list[Array]) -> Array:
    """Rows of one shape side by side; of texts of several lengths, all values in a row."""
    if len({value.shape for value in values}) == 1:
        return np.concatenate(values)
    return np.concatenate([value.ravel() for value in values])


def _layer_names(part: Part) -> dict[tuple[str, str], str]:
    """(submodel, output of an op) -> the PyTorch layer whose weight the op reads."""
    layers = {t.constant: t.name.rpartition(".")[0] for t in part.tensors if "." in t.name}
    package = Package.open(part.path)
    return {
        (program.name, output): layer
        for program in (package, *package.submodels)
        if program.kind == "mlProgram"
        for output, layer in _layers_of(program, layers)
    }


def _layers_of(program: Package, layers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for operation in main_block(program).operations:
        for parameter in ("weight", "gamma"):
            if parameter in operation.inputs:
                name = operation.inputs[parameter].arguments[0].name
                if name in layers:
                    yield operation.outputs[0].name, layers[name]
