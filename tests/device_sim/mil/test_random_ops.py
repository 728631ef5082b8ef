"""Random ops: the distribution that the op names, the same values from the same seed, none without a seed."""

import math
from typing import Any

import numpy as np
import pytest
from mil_harness import package_of

from device_sim.mil.evaluator import Evaluator
from device_sim.mil.limits import Budget, Limits, Usage
from device_sim.mil.numerics import policy
from device_sim.mil.program import load_program
from personality_common.coreml.proto import MIL_pb2, Model_pb2
from personality_common.errors import DataError

COUNT = 20_000


def draw(op: str, **arguments: Any) -> np.ndarray:
    """The value of a program of this one op, float32."""
    spec = Model_pb2.Model(specificationVersion=6)
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML5"
    block = function.block_specializations["CoreML5"]
    operation = block.operations.add(type=op)
    for name, value in arguments.items():
        given = operation.inputs[name].arguments.add().value
        tensor, array = given.type.tensorType, np.asarray(value)
        held = given.immediateValue.tensor
        if isinstance(value, str):
            tensor.dataType = MIL_pb2.STRING
            held.strings.values.append(value)
            continue
        whole = array.dtype.kind == "i"
        tensor.dataType, tensor.rank = MIL_pb2.INT32 if whole else MIL_pb2.FLOAT32, array.ndim
        for size in array.shape:
            tensor.dimensions.add().constant.size = size
        (held.ints if whole else held.floats).values.extend(array.reshape(-1).tolist())
    declared = operation.outputs.add(name="out").type.tensorType
    declared.dataType, declared.rank = MIL_pb2.FLOAT32, 1
    declared.dimensions.add().constant.size = COUNT
    block.outputs.append("out")
    exact, budget = policy("exact"), Budget(Limits())
    program = load_program(package_of(spec), "main", exact, Usage(budget))
    return Evaluator(program, exact, budget).run({})["out"]


@pytest.mark.parametrize(
    ("op", "arguments", "mean", "deviation"),
    [
        ("random_bernoulli", {"prob": 0.3}, 0.3, math.sqrt(0.3 * 0.7)),
        ("random_normal", {"mean": 2.0, "stddev": 3.0}, 2, 3),
        ("random_uniform", {"low": -1.0, "high": 5.0}, 2, 6 / math.sqrt(12)),
        # 0, 1, 2 with probabilities 1/4, 1/4, 1/2.
        ("random_categorical", {"x": np.log([0.5, 0.5, 1.0])}, 1.25, math.sqrt(2.25 - 1.25**2)),
        ("random_categorical", {"x": np.array([0.25, 0.25, 0.5]), "mode": "probs"}, 1.25, math.sqrt(0.6875)),
    ],
)
def test_values_have_the_distribution_and_repeat_with_their_seed(
    op: str, arguments: dict[str, Any], mean: float, deviation: float
) -> None:
    given = {"size": COUNT} if op == "random_categorical" else {"shape": [COUNT]}
    values = draw(op, **arguments, **given, seed=5)
    # Four standard errors: one in 16,000 fails, and the seed is fixed.
    assert abs(values.mean() - mean) < 4 * deviation / math.sqrt(COUNT)
    assert abs(values.std() / deviation - 1) < 0.05
    np.testing.assert_array_equal(values, draw(op, **arguments, **given, seed=5))
    assert (values != draw(op, **arguments, **given, seed=6)).any()
    with pytest.raises(DataError, match=f"op {op}.*it has no seed"):
        draw(op, **arguments, **given)
