"""The table of ops that the interpreter knows, with the references that tests hold each against."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

import device_sim.mil.kernels  # noqa: F401  (registers them)
from device_sim.mil.kinds import REFUSED
from device_sim.mil.layers import FAMILIES
from device_sim.mil.layers.control_flow import CONTROL
from device_sim.mil.loading import MODELS
from device_sim.mil.registry import all_ops, find
from device_sim.mil.resolving import SPECIAL
from personality_common.coreml.proto import Model_pb2

LEFT: Final = {
    "_const_symbolic": "exists in coremltools' own tests alone; no package can hold it",
}
"""Ops of coremltools' registry without a kernel, and why."""


class ConformanceCase(Protocol):
    """What the tests have for an op."""

    @property
    def op(self) -> str: ...

    @property
    def apple(self) -> bool:
        """coremltools evaluates it."""
        ...

    @property
    def torch(self) -> Any:
        """torch's version of it; None: there is none."""
        ...


def markdown(cases: Collection[ConformanceCase], registry: Mapping[str, Collection[str]]) -> str:
    """The content of COVERAGE.md.

    Args:
        registry: the ops that coremltools has, by opset.
    """
    ops = all_ops()
    families: dict[str, dict[str, list[str]]] = {}
    for op in ops:
        families.setdefault(op.family, {}).setdefault(op.name, []).append(op.opset)
    lines = [
        "# Ops that the interpreter runs",
        "",
        f"{len({op.name for op in ops})} ops in {len(ops)} versions; a version is for its opset and later "
        "ones, up to the next. *Apple*: coremltools' own evaluation of the op; its type inference is held "
        "against every op. Written by "
        "`python tests/device_sim/mil/mil_coverage.py`.",
        *_registry(registry),
    ]
    for family, names in families.items():
        lines += ["", f"## {family}", "", "| op | from opset | references |", "|---|---|---|"]
        for name, opsets in names.items():
            lines.append(f"| `{name}` | {', '.join(opsets)} | {_references(name, cases)} |")
    return "\n".join([*lines, *_layers(), *_kinds()])


def _registry(registry: Mapping[str, Collection[str]]) -> list[str]:
    """How many of coremltools' ops each opset has here, and what is left."""
    lines = ["", "| opset | ops of coremltools' registry | run here |", "|---|---|---|"]
    left: set[str] = set()
    for opset, names in registry.items():
        missing = {name for name in names if name not in SPECIAL and find(name, opset) is None}
        lines.append(f"| {opset} | {len(names)} | {len(names) - len(missing)} |")
        left |= missing
    reasons = "; ".join(f"`{name}`: {LEFT[name]}" for name in sorted(left))
    return [
        *lines,
        "",
        f"Left: {reasons}. Random ops run with a seed, and have the distribution, not the device's numbers; "
        "without one they are refused. `conv_quantized` with a lookup table is refused: it states no table.",
    ]


def _layers() -> list[str]:
    """The layers by family, of all that the format has."""
    families = {**FAMILIES, "control flow": CONTROL}
    known = {name for family in families.values() for name in family}
    message = Model_pb2.NeuralNetwork__pb2.NeuralNetworkLayer.DESCRIPTOR
    every = [field.name for field in message.oneofs_by_name["layer"].fields]
    left = ", ".join(f"`{name}`" for name in every if name not in known)
    lines = [
        "",
        "## Layers of neural networks",
        "",
        f"{len(known)} of the {len(every)} types that the format has. "
        f"Left: {left}, whose code is in the app.",
        "Random layers have the distribution and repeat with their seed; the device's own numbers differ.",
        "",
        "| family | layers |",
        "|---|---|",
    ]
    for name, family in families.items():
        lines.append(f"| {name} | {', '.join(f'`{layer}`' for layer in family)} |")
    return [*lines, ""]


def _kinds() -> list[str]:
    """The kinds of models that the format has: what runs, and why what is left does not."""
    every = [field.name for field in Model_pb2.Model.DESCRIPTOR.oneofs_by_name["Type"].fields]
    run = [name for name in every if name in MODELS]
    return [
        "## Kinds of models",
        "",
        f"{len(run)} of the {len(every)} that the format has: {', '.join(f'`{name}`' for name in run)}.",
        "",
        "| refused | why |",
        "|---|---|",
        *(f"| `{name}` | {REFUSED[name]} |" for name in every if name not in MODELS),
        "",
    ]


def _references(name: str, cases: Collection[ConformanceCase]) -> str:
    own = [case for case in cases if case.op == name]
    found = ["Apple"] * any(case.apple for case in own) + ["torch"] * any(case.torch for case in own)
    return ", ".join(found) or "by hand"
