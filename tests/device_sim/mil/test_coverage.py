"""Every kernel has a conformance case, and the table in the repository is current."""

from pathlib import Path

import mil_cases
import mil_coverage
import pytest

import device_sim.mil
from device_sim.mil.registry import all_ops, find, op

ELSEWHERE = {
    "read_state": "test_state.py",
    "write_state": "test_state.py",
    "coreml_update_state": "test_state.py",
    **dict.fromkeys(("cond", "while_loop"), "test_control_flow.py"),
    **dict.fromkeys(("make_list", "list_length", "list_read", "list_write"), "test_control_flow.py"),
    **dict.fromkeys(("list_gather", "list_scatter"), "test_control_flow.py"),
    **dict.fromkeys(("random_bernoulli", "random_categorical"), "test_random_ops.py"),
    **dict.fromkeys(("random_normal", "random_uniform"), "test_random_ops.py"),
}
"""Ops that are more than a function of their arguments."""


def test_every_kernel_has_a_case() -> None:
    covered = {find(case.op, case.opset) for case in mil_cases.CASES}
    missing = [
        f"{op.name} of {op.opset}" for op in all_ops() if op not in covered and op.name not in ELSEWHERE
    ]
    assert not missing, f"without a conformance case: {missing}"
    for name in ELSEWHERE.values():
        assert (Path(__file__).parent / name).is_file()


def test_the_table_is_current() -> None:
    """What the command that it names writes; here in this process, which has coremltools already."""
    table = Path(device_sim.mil.__file__).with_name("COVERAGE.md").read_text("utf-8")
    assert f"`python tests/device_sim/mil/{Path(mil_coverage.__file__).name}`" in table
    assert table == mil_coverage.table(), f"python {mil_coverage.__file__} > device_sim/mil/COVERAGE.md"


def test_a_kernel_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'linear' of iOS15 is registered already"):
        op("linear")(lambda x: x)


def test_the_newest_kernel_that_is_old_enough_is_found() -> None:
    found = [find("topk", opset) for opset in ("iOS15", "iOS18")]
    assert [op and op.opset for op in found] == ["iOS15", "iOS17"]
    assert find("scaled_dot_product_attention", "iOS17") is None
    assert find("convolve", "iOS18") is None
