"""Every kernel against two independent references, on arguments that hypothesis draws."""

import mil_cases
import pytest
from mil_harness import Case, run_case

EXAMPLES = 15
"""Per kernel; `python tests/device_sim/mil/mil_report.py` runs more, and prints what it finds."""


@pytest.mark.parametrize("case", mil_cases.CASES, ids=lambda case: f"{case.op}-{case.opset}")
def test_kernel_agrees_with_coremltools_and_torch(case: Case) -> None:
    tally = run_case(case, EXAMPLES)
    assert tally.examples >= 1
