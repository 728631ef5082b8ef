"""Whose fault it is: a malformed program is the user's to mend, a defect of a kernel comes out as itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import coremltools as ct
import hypothesis
import mil_cases
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from hypothesis import strategies as st
from mil_convert import convert
from mil_harness import Case, SubByte, package_of

from device_sim.mil import Evaluator, ProgramModel, load_mil
from device_sim.mil.element_types import TAKES, check_elements
from device_sim.mil.numerics import policy
from device_sim.mil.registry import Kind, Op, all_ops, find
from device_sim.mil.step import MISFITS
from device_sim.mil.types import DTYPES
from personality_common.coreml.proto import MIL_pb2
from personality_common.errors import DataError

X = {"x": np.ones((2, 3), np.float32)}


def _program(tmp_path: Any) -> ProgramModel:
    path = tmp_path / "m.mlpackage"
    convert(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(3, 4)), X).save(str(path))
    model = load_mil(path)
    assert isinstance(model, ProgramModel)
    return model


def _network(tmp_path: Any) -> ProgramModel:
    features = [("x", datatypes.Array(2, 3))], [("y", datatypes.Array(2, 4))]
    builder = NeuralNetworkBuilder(*features, disable_rank5_shape_mapping=True)
    builder.add_activation("r", "RELU", "x", "h")
    builder.add_inner_product("p", np.ones((4, 3)), None, 3, 4, False, "h", "y")
    model = load_mil(package_of(builder.spec))
    assert isinstance(model, ProgramModel)
    return model


def _with_kernel(model: ProgramModel, kernel: Callable[..., Any]) -> ProgramModel:
    """The model with another kernel in its last step."""
    evaluator = model.evaluator
    *steps, last = evaluator.program.steps
    last = replace(last, op=replace(last.op, kernel=kernel))
    program = replace(evaluator.program, steps=(*steps, last))
    model.evaluator = Evaluator(program, evaluator.policy, evaluator.budget)
    return model


def _raising(error: BaseException) -> Callable[..., Any]:
    def kernel(**arguments: Any) -> Any:
        raise error

    return kernel


MODELS = {"program": (_program, "op linear %"), "network": (_network, "layer 'p' (innerProduct, layer 1)")}


@pytest.mark.parametrize("kind", MODELS)
def test_a_defect_is_not_reported_as_the_users(kind: str, tmp_path: Any) -> None:
    make, where = MODELS[kind]
    model = make(tmp_path)
    errors = [TypeError("t"), AttributeError("a"), NameError("n"), KeyError("k"), AssertionError("b")]
    for defect in (*errors, RuntimeError("r")):
        with pytest.raises(type(defect)) as raised:
            _with_kernel(model, _raising(defect)).predict(X)
        assert raised.value is defect
        assert where in raised.value.__notes__[0]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        _with_kernel(model, lambda x: x).predict(X)


@pytest.mark.parametrize("kind", MODELS)
def test_what_does_not_fit_is_the_users_and_names_the_op(kind: str, tmp_path: Any) -> None:
    make, where = MODELS[kind]
    model = make(tmp_path)
    numpys = [np.exceptions.AxisError(3, 2), np.linalg.LinAlgError("singular")]
    for error in (ValueError("v"), IndexError("i"), OverflowError("o"), ZeroDivisionError("z"), *numpys):
        with pytest.raises(DataError) as raised:
            _with_kernel(model, _raising(error)).predict(X)
        assert where in str(raised.value)
        assert str(error) in str(raised.value)
    with pytest.raises(DataError, match="MemoryError"):
        _with_kernel(model, _raising(MemoryError())).predict(X)


def test_elements_that_an_op_cannot_take_are_refused_at_load(tmp_path: Any) -> None:
    path = tmp_path / "m.mlpackage"
    convert(torch.nn.Softmax(-1), X).save(str(path))
    package = load_mil(path)
    assert package.predict(X)["y"].shape == (2, 3)
    from personality_common.coreml.package import Package

    spec = Package.open(path)
    function = spec.spec.mlProgram.functions["main"]
    function.inputs[0].type.tensorType.dataType = MIL_pb2.BOOL
    spec.spec.description.input[0].type.multiArrayType.dataType = 0x20000 | 32  # int32
    with pytest.raises(DataError, match=r"op softmax %\w+ .*: x must be floats, got bool"):
        load_mil(spec)


def _domain(op: Op, param: str) -> set[np.dtype[Any]]:
    """The types that MIL allows, as coremltools declares them."""
    versions = SSAOpRegistry.core_ops[op.name]
    declared = versions.get(getattr(ct.target, op.opset)) or next(iter(versions.values()))
    kind = declared.input_spec.input_types[param]
    allowed = kind.type_domain or declared.type_domains[kind.type_domain_id]
    numbers = {types.builtin_to_string(t).upper().replace("FP", "FLOAT") for t in allowed}
    return {DTYPES[MIL_pb2.DataType.Value(name)] for name in numbers}


def test_nothing_that_mil_allows_is_refused() -> None:
    checked = 0
    for op in all_ops():
        for param in TAKES.get(op.name, {}).keys() & op.params.keys():
            check_elements(op, param, sorted(_domain(op, param), key=str), op.name)
            checked += 1
    assert checked >= sum(map(len, TAKES.values()))


ELEMENTS = [np.dtype(t) for t in (np.bool_, np.int8, np.uint8, np.int32, np.float32)]


def _argument(kind: Kind, value: Any) -> Any:
    """As the evaluator hands it to a kernel."""
    value = value.array if isinstance(value, SubByte) else value
    if kind is Kind.ARRAYS:
        return tuple(_argument(Kind.ARRAY, item) for item in value)
    if kind is Kind.ARRAY:
        array = np.asarray(value)
        return array.astype(np.float32) if array.dtype.kind == "f" else array
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value


def _recast(value: Any, dtype: np.dtype[Any]) -> Any:
    return tuple(item.astype(dtype) for item in value) if isinstance(value, tuple) else value.astype(dtype)


def _try(case: Case, op: Op, data: Any) -> None:
    """The op on arguments of other element types: each alone, and all of them."""
    drawn = {name: value for name, value in case.draw(data.draw).items() if value is not None}
    given = {name: _argument(op.params[name].kind, value) for name, value in drawn.items()}
    arrays = [name for name in given if op.params[name].kind in (Kind.ARRAY, Kind.ARRAYS)]
    for dtype in ELEMENTS:
        for changed in (*([name] for name in arrays), arrays):
            arguments = given | {name: _recast(given[name], dtype) for name in changed}
            try:
                for name in arrays:
                    value = arguments[name]
                    items = value if isinstance(value, tuple) else (value,)
                    check_elements(op, name, [item.dtype for item in items], op.name)
                for measure in (op.size, op.work):
                    if measure is not None:
                        measure(**arguments)
                acc = {"acc": policy("exact").accumulator} if "acc" in op.params else {}
                with np.errstate(all="ignore"):
                    op.kernel(**arguments, **acc)
            except (DataError, *MISFITS):
                pass


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kernels_raise_nothing_else_whatever_the_elements_are() -> None:
    for case in mil_cases.CASES:
        op = find(case.op, case.opset)
        assert op is not None
        _draw(case, op)


def _draw(case: Case, op: Op) -> None:
    @hypothesis.settings(
        max_examples=4,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(st.data())
    def check(data: Any) -> None:
        _try(case, op, data)

    check()
