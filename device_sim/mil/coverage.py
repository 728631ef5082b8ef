"""The table of ops that the interpreter knows.

`python -m device_sim.mil.coverage > device_sim/mil/COVERAGE.md` writes it. Each
op's references come from the conformance tables of the tests, so it runs in a checkout.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import device_sim.mil.kernels  # noqa: F401  (registers them)
from device_sim.mil.layers import LAYERS
from device_sim.mil.registry import all_ops
from personality_common.errors import ToolkitError

_TESTS = Path(__file__).parents[2] / "tests" / "device_sim" / "mil"


def conformance_cases() -> list[Any]:
    """The cases of the conformance suite (`mil_harness.Case`).

    Raises:
        ToolkitError: this is no checkout.
    """
    if not (_TESTS / "mil_cases.py").is_file():
        raise ToolkitError(f"the conformance tables are in {_TESTS}: run this in a checkout")
    sys.path.insert(0, str(_TESTS))
    try:
        importlib.import_module("mil_quiet")
        cases: list[Any] = importlib.import_module("mil_cases").CASES
    finally:
        sys.path.remove(str(_TESTS))
    return cases


def markdown(cases: list[Any]) -> str:
    """The table; `cases` say which references each op is held against."""
    ops = all_ops()
    families: dict[str, dict[str, list[str]]] = {}
    for op in ops:
        families.setdefault(op.family, {}).setdefault(op.name, []).append(op.opset)
    lines = [
        "# Ops that the interpreter runs",
        "",
        f"{len({op.name for op in ops})} ops in {len(ops)} versions; a version is for its opset and later "
        "ones, up to the next. *Apple*: coremltools' own evaluation of the op; its type inference is held "
        "against every op. Written by `python -m device_sim.mil.coverage`.",
    ]
    for family, names in families.items():
        lines += ["", f"## {family}", "", "| op | from opset | references |", "|---|---|---|"]
        for name, opsets in names.items():
            lines.append(f"| `{name}` | {', '.join(opsets)} | {_references(name, cases)} |")
    layers = ", ".join(f"`{name}`" for name in sorted(LAYERS))
    lines += ["", "## Layers of neural networks", "", f"{layers}.", ""]
    return "\n".join(lines)


def _references(name: str, cases: list[Any]) -> str:
    own = [case for case in cases if case.op == name]
    found = ["Apple"] * any(case.apple for case in own) + ["torch"] * any(case.torch for case in own)
    return ", ".join(found) or "by hand"


if __name__ == "__main__":
    sys.stdout.write(markdown(conformance_cases()))
