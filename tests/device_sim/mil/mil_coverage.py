"""The table of ops: `python tests/device_sim/mil/mil_coverage.py > device_sim/mil/COVERAGE.md`."""

import sys

import mil_quiet  # noqa: F401
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from mil_cases import CASES

from device_sim.mil.coverage import markdown

OPSETS = ("iOS15", "iOS16", "iOS17", "iOS18")
REGISTRY = {
    opset: [name for name, versions in SSAOpRegistry.core_ops.items() if opset in {v.name for v in versions}]
    for opset in OPSETS
}
"""The ops that coremltools has, by opset."""


def table() -> str:
    """The content of COVERAGE.md."""
    return markdown(CASES, REGISTRY)


if __name__ == "__main__":
    sys.stdout.write(table())
