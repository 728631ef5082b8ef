"""Runs one op three ways on the same arguments: interpreter, coremltools' own evaluation, torch.

Shapes and types of results are held against coremltools' type inference: they are what the
one-op program declares, and the evaluator refuses anything else.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coremltools as ct
import hypothesis
import numpy as np
import torch
from coremltools.converters.mil.backend.mil.helper import create_tensor_value, types_to_proto_primitive
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, types
from hypothesis import strategies as st

from device_sim.mil.evaluator import Evaluator
from device_sim.mil.limits import Budget, Limits, Usage
from device_sim.mil.numerics import policy
from device_sim.mil.program import load_program
from personality_common.coreml.package import Package
from personality_common.coreml.proto import MIL_pb2, Model_pb2

OPSETS = {"iOS15": "CoreML5", "iOS16": "CoreML6", "iOS17": "CoreML7", "iOS18": "CoreML8"}


@dataclass(frozen=True)
class SubByte:
    """An array that MIL holds in fewer bits: `uint4`, `int4`, `uint1`, …"""

    array: np.ndarray
    type: str


@dataclass(frozen=True)
class Case:
    """How to draw arguments for an op, and what to expect.

    Arguments by MIL's names: NumPy arrays; numbers, texts and truth values; a tuple for a vector
    of integers or truth values; a list for MIL's tuples.
    """

    op: str
    draw: Callable[[Any], dict[str, Any]]
    torch: Callable[..., Any] | None
    """Same arguments, arrays as tensors (float16 widened to float32); None: torch has nothing like it."""
    ulps: float = 0
    """Allowed difference in units of the last place of the result's type; 0: equal bit for bit."""
    atol: float = 0
    """Allowed difference beside it, where results cancel."""
    opset: str = "iOS15"
    apple: bool = True
    """coremltools evaluates this op; the harness checks that this is so, both ways."""
    apple_ulps: float | None = None
    """As `ulps`, against coremltools, where it computes in less precision."""
    note: str = ""
    """Where the references differ, which one wins and why."""
    apple_if: Callable[[dict[str, Any]], bool] = lambda arguments: True
    """Arguments for which coremltools' evaluation is to be trusted; `note` says why not always."""
    torch_if: Callable[[dict[str, Any]], bool] = lambda arguments: True


@dataclass
class Tally:
    """What a case has seen."""

    examples: int = 0
    compared: dict[str, int] = field(default_factory=lambda: {"apple": 0, "torch": 0})
    worst: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """Largest `|ours - reference| / max(1, |reference|)` among finite elements, by reference and type."""


def run_case(case: Case, examples: int) -> Tally:
    """Draw arguments, compare, and report; raises AssertionError at the smallest disagreement found."""
    tally = Tally()

    @hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    @hypothesis.given(st.data())
    def check(data: Any) -> None:
        arguments = {k: v for k, v in case.draw(data.draw).items() if v is not None}
        inline = data.draw(st.booleans(), label="arguments inline")
        _check(case, arguments, inline, tally)

    check()
    assert tally.compared["apple"] + tally.compared["torch"], f"{case.op}: nothing was compared"
    assert not case.apple or tally.compared["apple"], f"{case.op}: coremltools gave no value"
    assert case.torch is None or tally.compared["torch"], f"{case.op}: torch was never asked"
    return tally


def _check(case: Case, arguments: dict[str, Any], inline: bool, tally: Tally) -> None:
    tally.examples += 1
    declared, constant, values = _apple(case, arguments)
    ours = interpret(case.op, case.opset, arguments, declared, constant, inline)
    assert case.apple or case.note or values is None, (
        f"{case.op}: coremltools evaluates it; say so in the table"
    )
    if case.apple and values is not None and case.apple_if(arguments):
        ulps = case.ulps if case.apple_ulps is None else case.apple_ulps
        _compare(case, "apple", ours, values, ulps, tally)
    if case.torch is not None and case.torch_if(arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = case.torch(**{name: _to_torch(value) for name, value in arguments.items()})
        results = results if isinstance(results, tuple | list) else [results]
        _compare(case, "torch", ours, [_to_numpy(r) for r in results], case.ulps, tally)


def _compare(case: Case, who: str, ours: list[Any], theirs: list[Any], ulps: float, tally: Tally) -> None:
    assert len(ours) == len(theirs), f"{case.op}: {len(ours)} results, {who} has {len(theirs)}"
    tally.compared[who] += 1
    for got, wanted in zip(ours, theirs, strict=True):
        assert got.shape == wanted.shape, f"{case.op}: shape {got.shape}, {who} has {wanted.shape}"
        if got.dtype.kind != "f":
            np.testing.assert_array_equal(got, wanted, err_msg=f"{case.op} against {who}")
            continue
        eps = np.finfo(got.dtype).eps
        with np.errstate(all="ignore"):
            wanted = wanted.astype(got.dtype)
            a, b = got.astype(np.float64), wanted.astype(np.float64)
            finite = np.isfinite(a) & np.isfinite(b)
            error = np.abs(a - b)[finite] / np.maximum(1, np.abs(b[finite]))
        key = (who, got.dtype.name)
        tally.worst[key] = max(tally.worst[key], float(error.max(initial=0)))
        np.testing.assert_allclose(
            a, b, rtol=ulps * eps, atol=case.atol, equal_nan=True, err_msg=f"{case.op} against {who}"
        )


def _apple(case: Case, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, bool], list[Any] | None]:
    """Output types that coremltools infers, which arguments must be constant, and values if it has them."""
    like = next((a.dtype for a in _arrays(arguments) if a.dtype.kind == "f"), np.dtype(np.float32))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Function({}, opset_version=getattr(ct.target, case.opset)):
            made = getattr(mb, case.op)(**{n: to_mil(v, like) for n, v in arguments.items()})
            outputs = list(made) if isinstance(made, tuple | list) else [made]
            operation = outputs[0].op
            specs = type(operation).input_spec.input_types
            constant = {name: bool(getattr(specs[name], "const", False)) for name in arguments}
            values = [output.val for output in outputs]
            if case.op.startswith("constexpr_") or (case.apple and values[0] is None):
                values = operation.materialized_val_inference()
                values = list(values) if isinstance(values, tuple) else [values]
    if any(value is None for value in values):
        return [o.sym_type for o in outputs], constant, None
    return [o.sym_type for o in outputs], constant, [np.asarray(value) for value in values]


def _arrays(arguments: dict[str, Any]) -> list[np.ndarray]:
    flat = [i for v in arguments.values() for i in (v if isinstance(v, list) else [v])]
    return [a for a in flat if isinstance(a, np.ndarray)]


def to_mil(value: Any, like: np.dtype) -> Any:
    """An argument as coremltools takes it; floats in the type of the arrays beside them."""
    if isinstance(value, list):
        return tuple(to_mil(item, like) for item in value)
    if isinstance(value, SubByte):
        return value.array.astype(types.nptype_from_builtin(types.string_to_builtin(value.type)))
    if isinstance(value, np.ndarray | np.integer | str | bool):
        return value
    if isinstance(value, tuple):
        return np.array(value, np.bool_ if value and isinstance(value[0], bool) else np.int32)
    return np.int32(value) if isinstance(value, int) else like.type(value)


def interpret(
    op: str,
    opset: str,
    arguments: dict[str, Any],
    declared: list[Any],
    constant: dict[str, bool],
    inline: bool,
) -> list[np.ndarray]:
    """Evaluate a program of this one op, with its arguments as constants or as the program's inputs."""
    spec = Model_pb2.Model(specificationVersion=9)
    program = spec.mlProgram
    function = program.functions["main"]
    function.opset = OPSETS[opset]
    block = function.block_specializations[OPSETS[opset]]
    operation = block.operations.add(type=op)
    inputs: dict[str, np.ndarray] = {}
    like = next((a.dtype for a in _arrays(arguments) if a.dtype.kind == "f"), np.dtype(np.float32))
    for name, argument in arguments.items():
        for i, item in enumerate(argument if isinstance(argument, list) else [argument]):
            bound = operation.inputs[name].arguments.add()
            item = to_mil(item, like)
            if inline or constant[name] or isinstance(item, str | bool):
                bound.value.MergeFromString(value_proto(item).SerializeToString())
            else:
                bound.name = f"{name}_{i}"
                inputs[bound.name] = np.asarray(item)
                proto = function.inputs.add(name=bound.name).type
                proto.MergeFromString(value_proto(np.asarray(item)).type.SerializeToString())
    for i, sym_type in enumerate(declared):
        block.outputs.append(f"out_{i}")
        _declare(operation.outputs.add(name=f"out_{i}").type.tensorType, sym_type)
    exact = policy("exact")
    budget = Budget(Limits())
    loaded = load_program(package_of(spec), "main", exact, Usage(budget))
    found = Evaluator(loaded, exact, budget).run(inputs)
    return [found[f"out_{i}"] for i in range(len(declared))]


def value_proto(item: Any) -> Any:
    """A MIL value, encoded by coremltools."""
    array = np.asarray(item)
    if isinstance(item, str):
        value = MIL_pb2.Value()
        value.type.tensorType.dataType = MIL_pb2.STRING
        value.immediateValue.tensor.strings.values.append(item)
        return value
    return create_tensor_value(array)


def _declare(tensor: Any, sym_type: Any) -> None:
    is_tensor = types.is_tensor(sym_type)
    tensor.dataType = types_to_proto_primitive(sym_type.get_primitive() if is_tensor else sym_type)
    shape = sym_type.get_shape() if is_tensor else ()
    tensor.rank = len(shape)
    for size in shape:
        dimension = tensor.dimensions.add()
        if isinstance(size, int | np.integer | float):
            dimension.constant.size = int(size)
        else:
            dimension.unknown.variadic = str(size).startswith("*")


def package_of(spec: Any) -> Package:
    """A package of this protobuf alone, without files."""
    return Package(Path("program"), spec, "", Path("program"))


def _to_torch(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_torch(item) for item in value]
    if isinstance(value, SubByte):
        value = value.array
    if not isinstance(value, np.ndarray):
        return value
    value = value.astype(np.int32) if value.dtype == np.uint16 else value
    return torch.from_numpy(value.astype(np.float32) if value.dtype == np.float16 else value.copy())


def _to_numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


# Drawing arguments.

SPECIAL = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40, -1e-40, 3e38], np.float64)
FINITE = np.array([0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0], np.float64)


def shape(draw: Any, low: int = 1, high: int = 4, largest: int = 5, smallest: int = 1) -> tuple[int, ...]:
    """Rank from `low` to `high`; sizes from `smallest` to `largest`."""
    return tuple(draw(st.lists(st.integers(smallest, largest), min_size=low, max_size=high)))


def floats(
    draw: Any,
    size: tuple[int, ...],
    low: float = -4,
    high: float = 4,
    special: np.ndarray | None = SPECIAL,
    dtype: Any = None,
) -> np.ndarray:
    """Uniform values, a fifth of them special in a quarter of the draws; one in four in float16."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = dtype or draw(st.sampled_from([np.float32, np.float32, np.float32, np.float16]))
    values = rng.uniform(low, high, size)
    if special is not None and len(special) and draw(st.integers(0, 3)) == 0:
        values = np.where(rng.random(size) < 0.2, rng.choice(special, size), values)
    with np.errstate(all="ignore"):
        return np.asarray(values, dtype)


def ints(draw: Any, size: tuple[int, ...], low: int = -9, high: int = 9, dtype: Any = np.int32) -> np.ndarray:
    """Uniform integers, bounds included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(low, high, size, dtype=np.int64, endpoint=True).astype(dtype)


def bools(draw: Any, size: tuple[int, ...]) -> np.ndarray:
    """Coin flips."""
    return ints(draw, size, 0, 1).astype(np.bool_)


def numbers(draw: Any, size: tuple[int, ...], **kwargs: Any) -> np.ndarray:
    """Floats, or integers in one draw of four."""
    return ints(draw, size) if draw(st.integers(0, 3)) == 0 else floats(draw, size, **kwargs)


def axis(draw: Any, rank: int) -> int:
    """An axis from either end."""
    return draw(st.integers(-rank, rank - 1))


def axes(draw: Any, rank: int, fewest: int = 1) -> tuple[int, ...]:
    """Distinct axes in any order, from either end."""
    chosen = draw(st.lists(st.integers(0, rank - 1), min_size=fewest, max_size=rank, unique=True))
    return tuple(a - rank * draw(st.integers(0, 1)) for a in chosen)


def broadcast_pair(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast, either possibly shorter or with ones."""
    whole = shape(draw, 0, 4)
    parts = []
    for _ in range(2):
        sizes = [1 if draw(st.integers(0, 3)) == 0 else size for size in whole]
        parts.append(tuple(sizes[draw(st.integers(0, len(whole))) if draw(st.booleans()) else 0 :]))
    return parts[0], parts[1]


def number(draw: Any, low: float, high: float) -> float:
    """A float that float16 holds exactly, so that no reference sees another one."""
    return float(np.float16(draw(st.floats(low, high))))


def optional(draw: Any, value: Any) -> Any:
    """The value, or None for an argument left out."""
    return value if draw(st.booleans()) else None


def size_of(sizes: tuple[int, ...]) -> int:
    """Number of elements."""
    return math.prod(sizes)
