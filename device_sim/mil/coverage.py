"""The table of ops that the interpreter knows, with the references that tests hold each against."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import device_sim.mil.kernels  # noqa: F401  (registers them)
from device_sim.mil.layers import LAYERS
from device_sim.mil.registry import all_ops


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


def markdown(cases: Collection[ConformanceCase]) -> str:
    """The content of COVERAGE.md."""
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
    ]
    for family, names in families.items():
        lines += ["", f"## {family}", "", "| op | from opset | references |", "|---|---|---|"]
        for name, opsets in names.items():
            lines.append(f"| `{name}` | {', '.join(opsets)} | {_references(name, cases)} |")
    layers = ", ".join(f"`{name}`" for name in sorted(LAYERS))
    lines += ["", "## Layers of neural networks", "", f"{layers}.", ""]
    return "\n".join(lines)


def _references(name: str, cases: Collection[ConformanceCase]) -> str:
    own = [case for case in cases if case.op == name]
    found = ["Apple"] * any(case.apple for case in own) + ["torch"] * any(case.torch for case in own)
    return ", ".join(found) or "by hand"
