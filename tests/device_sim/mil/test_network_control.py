"""Branches and loops of neural networks, against plain Python."""

from typing import Any

import numpy as np
import pytest
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from mil_harness import package_of

from device_sim.mil import Limits, load_mil
from personality_common.errors import DataError


def _builder(*names: str, outputs: tuple[str, ...] = ("y",)) -> NeuralNetworkBuilder:
    return NeuralNetworkBuilder(
        [(name, datatypes.Array(1)) for name in names],
        [(name, datatypes.Array(1)) for name in outputs],
        disable_rank5_shape_mapping=True,
    )


def _inner(network: Any) -> NeuralNetworkBuilder:
    return NeuralNetworkBuilder(nn_spec=network, disable_rank5_shape_mapping=True)


def _run(builder: NeuralNetworkBuilder, limits: Limits | None = None, **inputs: float) -> Any:
    model = load_mil(package_of(builder.spec), limits=limits)
    given = {name: np.full(1, value, np.float32) for name, value in inputs.items()}
    found = {name: float(value.item()) for name, value in model.predict(given).items()}
    return found if len(found) > 1 else found["y"]


@pytest.mark.parametrize(
    ("x", "expected"),
    [(1.0, 2.0), (-1.0, -10.0), (2e-6, 4e-6), (1e-7, 1e-6), (-3e-6, -6e-6)],
)
def test_a_branch_takes_its_side_by_the_size_of_the_condition(x: float, expected: float) -> None:
    """Above 1e-6, either way."""
    builder = _builder("x", "c")
    layer = builder.add_branch("b", "c")
    _inner(layer.branch.ifBranch).add_elementwise("1", ["x"], "y", "MULTIPLY", alpha=2)
    _inner(layer.branch.elseBranch).add_elementwise("1", ["x"], "y", "MULTIPLY", alpha=10)
    condition = 0 if x == -1.0 else x
    assert _run(builder, x=x, c=condition) == pytest.approx(expected)


def _loop(builder: NeuralNetworkBuilder, **arguments: Any) -> tuple[Any, NeuralNetworkBuilder]:
    """total = 1; each round: total = total * 2 + x."""
    builder.add_load_constant_nd("0", "total", np.ones(1), [1])
    layer = builder.add_loop("loop", **arguments)
    body = _inner(layer.loop.bodyNetwork)
    body.add_elementwise("1", ["total"], "twice", "MULTIPLY", alpha=2)
    body.add_add_broadcastable("2", ["twice", "x"], "sum")
    return layer, body


def test_a_loop_of_a_fixed_number_of_rounds() -> None:
    builder = _builder("x")
    _, body = _loop(builder, max_iterations=5)
    body.add_copy("3", "sum", "total")
    builder.add_activation("out", "LINEAR", "total", "y", [1, 0])
    expected = 1.0
    for _ in range(5):
        expected = expected * 2 + 3
    assert _run(builder, x=3) == expected


def test_a_loop_whose_rounds_are_an_input() -> None:
    builder = _builder("x", "n")
    _, body = _loop(builder, input_name="n", max_iterations=1)
    body.add_copy("3", "sum", "total")
    builder.add_activation("out", "LINEAR", "total", "y", [1, 0])
    assert [_run(builder, x=1, n=n) for n in (0, 1, 4)] == [1, 3, 31]


@pytest.mark.parametrize(("most", "expected"), [(0, 127.0), (3, 15.0)])
def test_a_loop_with_a_condition_and_a_bound(most: int, expected: float) -> None:
    builder = _builder("x")
    layer, body = _loop(builder, max_iterations=most, condition="go", condition_network=None)
    body.add_copy("3", "sum", "total")
    condition = _inner(layer.loop.conditionNetwork)
    layer.loop.conditionVar = "go"
    condition.add_less_than("less", ["total"], "go", alpha=100)
    builder.add_activation("out", "LINEAR", "total", "y", [1, 0])
    assert _run(builder, x=1) == expected


def test_break_and_continue_out_of_branches_keep_what_was_written() -> None:
    """seen counts all rounds, total only those that were not skipped; the loop ends within round 6."""
    builder = _builder("x", outputs=("y", "z"))
    for name in ("seen", "total"):
        builder.add_load_constant_nd(name, name, np.zeros(1), [1])
    body = _inner(builder.add_loop("loop", max_iterations=100).loop.bodyNetwork)
    body.add_elementwise("1", ["seen"], "more", "ADD", alpha=1)
    body.add_copy("2", "more", "seen")
    body.add_equal("3", ["seen"], "skips", alpha=2)
    _inner(body.add_branch("4", "skips").branch.ifBranch).add_loop_continue("c")
    body.add_greater_than("5", ["seen"], "ends", alpha=5)
    leave = _inner(body.add_branch("6", "ends").branch.ifBranch)
    leave.add_elementwise("7", ["total"], "late", "ADD", alpha=1000)
    leave.add_copy("8", "late", "total")
    leave.add_loop_break("9")
    body.add_add_broadcastable("10", ["total", "x"], "sum")
    body.add_copy("11", "sum", "total")
    for source, target in (("total", "y"), ("seen", "z")):
        added = builder.nn_spec.layers.add(name=target, input=[source], output=[target])
        added.copy.SetInParent()
    total, seen = 0.0, 0.0
    for _ in range(100):
        seen += 1
        if seen == 2:
            continue
        if seen > 5:
            total += 1000
            break
        total += 7
    assert _run(builder, x=7) == {"y": total, "z": seen}


def test_nested_loops() -> None:
    builder = _builder("x")
    builder.add_load_constant_nd("0", "total", np.zeros(1), [1])
    outer = _inner(builder.add_loop("outer", max_iterations=3).loop.bodyNetwork)
    inner = _inner(outer.add_loop("inner", max_iterations=4).loop.bodyNetwork)
    inner.add_add_broadcastable("1", ["total", "x"], "sum")
    inner.add_copy("2", "sum", "total")
    inner.add_loop_break("3")
    builder.add_activation("out", "LINEAR", "total", "y", [1, 0])
    assert _run(builder, x=1) == 3


@pytest.mark.parametrize("empty", [True, False])
def test_an_endless_loop_is_refused_in_bounded_time(empty: bool) -> None:
    builder = _builder("x")
    layer, _ = _loop(builder, max_iterations=1 << 62)
    if empty:
        del layer.loop.bodyNetwork.layers[:]
    builder.add_activation("out", "LINEAR", "x", "y", [1, 0])
    with pytest.raises(DataError, match=r"layer 'loop' \(loop, layer 1\).*the time is up after 0\.[23]"):
        _run(builder, limits=Limits(seconds=0.2), x=1)


def test_a_loop_that_grows_meets_the_limit_of_a_value() -> None:
    builder = _builder("x")
    builder.add_copy("0", "x", "v")
    body = _inner(builder.add_loop("loop", max_iterations=1000).loop.bodyNetwork)
    body.add_concat_nd("1", ["v", "v"], "w", axis=0)
    body.add_copy("2", "w", "v")
    builder.add_activation("out", "LINEAR", "v", "y", [1, 0])
    small = Limits(value_bytes=1 << 20)
    with pytest.raises(DataError, match=r"layer 'loop' .*layer '1' \(concatND.*Limits.value_bytes"):
        _run(builder, limits=small, x=1)


def test_what_the_other_side_computes_is_named() -> None:
    builder = _builder("x")
    layer = builder.add_branch("b", "x")
    _inner(layer.branch.ifBranch).add_copy("1", "x", "only")
    builder.nn_spec.layers.add(name="out", input=["only"], output=["y"]).copy.SetInParent()
    assert _run(builder, x=1) == 1
    with pytest.raises(DataError, match=r"layer 'b' .*output 'only' is not computed on the way"):
        _run(builder, x=0)
    builder = _builder("x")
    builder.nn_spec.layers.add(name="c", output=[]).loopContinue.SetInParent()
    builder.nn_spec.layers.add(name="out", input=["x"], output=["y"]).copy.SetInParent()
    with pytest.raises(DataError, match=r"layer 'c' \(loopContinue, layer 0\): it is in no loop"):
        _run(builder, x=0)
