"""`pt trace`: it names the op to blame, and its errors are those of NumPy's float16 by hand."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    logging.disable(logging.NOTSET)

import torch
from click.testing import CliRunner
from torch.nn import functional

from device_sim.mil import load_mil
from device_sim.trace import rendering, torch_ops
from device_sim.trace.cli import trace
from device_sim.trace.config import TraceConfig
from device_sim.trace.int8 import fake_quantize
from device_sim.trace.records import OpTrace, by_accumulated, by_added, error_of
from device_sim.trace.trace import trace_file, trace_package
from personality_common.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SHAPE = (4, 16)


def _convert(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Any:
    specs = [mb.TensorSpec(shape) for shape in shapes or (SHAPE,)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ct.convert(
            mb.program(input_specs=specs, opset_version=ct.target.iOS17)(function),
            skip_model_load=True,
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
        )


def _save(path: Path, function: Callable[..., Any], *shapes: tuple[int, ...]) -> Path:
    _convert(function, *shapes).save(str(path))
    return path


def _x(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _weight(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) / 4).astype(np.float32)


def _records(path: Path, x: np.ndarray, against: str = "float16") -> dict[str, OpTrace]:
    return {r.output: r for r in trace_package(path, {"x": x}, against)}


def _relative(expected: np.ndarray, got: np.ndarray) -> float:
    error = expected.astype(np.float64) - got.astype(np.float64)
    return float(np.sqrt((error**2).mean()) / np.sqrt((expected.astype(np.float64) ** 2).mean()))


def _overflowing(x: Any) -> Any:
    x = mb.linear(x=x, weight=_weight(1, 16, 16), name="first")
    x = mb.relu(x=x, name="active")
    x = mb.mul(x=x, y=np.float32(1e4), name="scaled")
    squares = mb.square(x=x, name="squares")
    total = mb.reduce_sum(x=squares, axes=[-1], keep_dims=True, name="total")
    x = mb.real_div(x=squares, y=total, name="share")
    return mb.linear(x=x, weight=_weight(2, 8, 16), name="y")


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("overflow") / "m.mlpackage", _overflowing)


def test_the_op_that_overflows_comes_first(overflowing: Path) -> None:
    records = _records(overflowing, _x())
    ranked = by_added(list(records.values()))
    assert [(r.output, r.op, r.overflow) for r in ranked[:2]] == [
        ("squares", "square", "here"),
        ("total", "reduce_sum", "here"),
    ]
    flags = {name: record.overflow for name, record in records.items()}
    assert flags == {
        "x": "",
        "first": "",
        "active": "",
        "scaled": "",
        "squares": "here",
        "total": "here",
        "share": "before",
        "y": "before",
    }
    assert records["share"].added is None
    assert records["share"].note == "an input of it overflows"

    # The same in NumPy's float16, and in float64.
    exact = np.maximum(_x().astype(np.float64) @ _weight(1, 16, 16).T, 0) * 1e4
    half: Any = (_x().astype(np.float16).astype(np.float32) @ _weight(1, 16, 16).T.astype(np.float16)).astype(
        np.float16
    )
    with np.errstate(over="ignore"):
        half = np.maximum(half, 0) * np.float32(1e4)
        squares = np.square(half.astype(np.float16))
    assert np.isfinite(half.astype(np.float16)).all()
    assert np.isinf(squares).any()
    assert records["squares"].high == pytest.approx(np.square(exact).max(), rel=1e-12)
    assert records["squares"].shape == SHAPE
    assert records["squares"].accumulated.relative == np.inf
    assert records["scaled"].high < 65504


def test_exp_overflows_and_what_is_normalized_back_looks_fine(tmp_path: Path) -> None:
    def softmax_by_hand(x: Any) -> Any:
        x = mb.mul(x=x, y=np.float32(12), name="sharp")
        e = mb.exp(x=x, name="e")
        return mb.real_div(x=e, y=mb.reduce_sum(x=e, axes=[-1], keep_dims=True, name="sum"), name="y")

    path = _save(tmp_path / "m.mlpackage", softmax_by_hand)
    x = np.linspace(-0.99, 0.99, 64, dtype=np.float32).reshape(SHAPE)
    records = _records(path, x)
    assert by_added(list(records.values()))[0].output == "e"
    assert records["e"].overflow == "here"
    assert records["y"].overflow == "before"
    assert 0 < records["y"].high <= 1


def test_what_is_made_in_float32_and_read_in_float16(tmp_path: Path) -> None:
    """A constant above 65504 keeps its op in float32; what comes out may be too large all the same."""

    def scaled(x: Any) -> Any:
        x = mb.mul(x=mb.relu(x=x, name="positive"), y=np.float32(1e6), name="large")
        return mb.tanh(x=mb.real_div(x=x, y=np.float32(1e4), name="small"), name="y")

    path = _save(tmp_path / "m.mlpackage", scaled)
    records = _records(path, _x())
    worst = by_added(list(records.values()))[0]
    assert (worst.output, worst.overflow) == ("large", "here")
    assert worst.accumulated.relative < 1e-3
    reader = list(records.values())[list(records).index("large") + 1]
    assert reader.note == "an input of it overflows"
    assert not any(r.overflow for r in _records(path, 0.01 * _x()).values())


def test_inputs_that_float16_cannot_hold(tmp_path: Path) -> None:
    def shrunk(x: Any) -> Any:
        return mb.tanh(x=mb.mul(x=x, y=np.float32(1e-6), name="small"), name="y")

    path = _save(tmp_path / "m.mlpackage", shrunk)
    records = _records(path, 1e6 * _x())
    assert by_added(list(records.values()))[0] == records["x"]
    assert [r.overflow for r in records.values()] == ["here", "before", "before"]
    assert records["x"].position is None


def _cancelling(x: Any) -> Any:
    x = mb.linear(x=x, weight=_weight(3, 16, 16), name="first")
    x = mb.relu(x=x, name="positive")  # keeps the converter from folding what follows into the bias
    high = mb.add(x=x, y=np.full(16, 100, np.float32), name="high")
    low = mb.sub(x=high, y=np.full(16, 99.5, np.float32), name="difference")
    x = mb.gelu(x=low, mode="EXACT", name="active")
    return mb.linear(x=x, weight=_weight(4, 8, 16), name="y")


@pytest.fixture(scope="module")
def cancelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("cancel") / "m.mlpackage", _cancelling)


def test_the_op_that_cancels_adds_most(cancelling: Path) -> None:
    records = _records(cancelling, _x())
    ranked = by_added(list(records.values()))
    assert ranked[0].output == "difference"
    assert ranked[0].added is not None
    assert ranked[1].added is not None
    assert ranked[0].added.relative > 10 * ranked[1].added.relative
    assert not any(r.overflow for r in ranked)
    assert by_accumulated(list(records.values()))[-1].output in ("x", "high")


def test_errors_are_those_of_numpys_float16(cancelling: Path) -> None:
    """NumPy rounds each float16 operation once, as the conversion does; float64 is the yardstick."""
    records = _records(cancelling, _x())
    first = _x().astype(np.float64) @ _weight(3, 16, 16).astype(np.float64).T
    positive = np.maximum(first, 0)
    difference = positive + 100 - 99.5

    added = (positive + 100).astype(np.float16) - np.float16(99.5)
    assert records["difference"].added is not None
    assert records["difference"].added.relative == pytest.approx(_relative(difference, added), rel=1e-9)
    assert records["difference"].added.max_abs == pytest.approx(np.abs(difference - added).max(), rel=1e-9)

    high = positive.astype(np.float16) + np.float16(100)
    assert records["high"].added is not None
    assert records["high"].added.relative == pytest.approx(_relative(positive + 100, high), rel=1e-9)

    # Products of float16 are exact in float64; what float32 loses of their sum is 2**-13 of a rounding.
    own = (
        _x().astype(np.float16).astype(np.float64)
        @ _weight(3, 16, 16).astype(np.float16).astype(np.float64).T
    ).astype(np.float16)
    assert records["first"].accumulated.relative == pytest.approx(_relative(first, own), rel=1e-2)
    chained = np.maximum(own, 0) + np.float16(100) - np.float16(99.5)
    assert records["difference"].accumulated.relative == pytest.approx(
        _relative(difference, chained), rel=1e-2
    )
    assert records["x"].accumulated.max_abs == np.abs(_x() - _x().astype(np.float16)).max()


def test_int8_weights_are_those_of_coremltools(tmp_path: Path) -> None:
    def two(x: Any) -> Any:
        x = mb.linear(x=x, weight=_weight(5, 24, 16), bias=_weight(6, 24), name="first")
        return mb.linear(x=mb.relu(x=x, name="active"), weight=_weight(7, 8, 24), name="y")

    package = _convert(two)
    package.save(str(tmp_path / "m.mlpackage"))
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cto.linear_quantize_weights(package, config).save(str(tmp_path / "q.mlpackage"))
    plain, quantized = (
        load_mil(tmp_path / name).predict({"x": _x()})["y"] for name in ("m.mlpackage", "q.mlpackage")
    )
    records = _records(tmp_path / "m.mlpackage", _x(), "int8")
    # The same weights, but for a float32 rounding of the scales.
    assert records["y"].accumulated.relative == pytest.approx(_relative(plain, quantized), rel=1e-4)
    again = _records(tmp_path / "q.mlpackage", _x(), "int8")
    assert max(record.accumulated.relative for record in again.values()) < 1e-6
    assert records["active"].added is not None
    assert records["active"].added.max_abs == 0
    assert records["active"].accumulated.max_abs > 0
    assert "x" not in records


def test_int8_has_a_scale_for_each_output_channel() -> None:
    weight = np.array([[1.27, -0.5, 0.004], [127, 64.4, -3.6], [0, 0, 0]], np.float32)
    expected = np.array([[1.27, -0.5, 0], [127, 64, -4], [0, 0, 0]], np.float32)
    rows = fake_quantize(weight, -1)
    assert (rows.shape, rows.dtype) == (weight.shape, weight.dtype)
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    np.testing.assert_allclose(fake_quantize(weight.T, -2), expected.T, rtol=1e-6)


def test_int8_of_a_matmul_is_that_of_the_linear_it_equals(tmp_path: Path) -> None:
    weight = _weight(8, 24, 16) * np.logspace(-2, 2, 24, dtype=np.float32)[:, None]

    def all_ways(x: Any) -> Any:
        mb.linear(x=x, weight=weight, name="linear")
        return (
            mb.linear(x=x, weight=weight, name="a"),
            mb.matmul(x=x, y=weight.T.copy(), name="b"),
            mb.matmul(x=x, y=weight, transpose_y=True, name="c"),
            mb.matmul(x=weight, y=x, transpose_y=True, name="d"),
            mb.matmul(x=weight.T.copy(), y=x, transpose_x=True, transpose_y=True, name="e"),
        )

    records = _records(_save(tmp_path / "m.mlpackage", all_ways), _x(), "int8")
    errors = [records[name].added for name in "abcde"]
    assert all(e is not None and 1e-4 < e.relative < 1e-1 for e in errors)
    assert [e.relative for e in errors if e] == pytest.approx([errors[0].relative] * 5, rel=1e-3)  # type: ignore[union-attr]


def _many_ops(x: Any) -> Any:
    """The arithmetic of our own packages."""
    table = mb.gather(x=_weight(9, 10, 16), indices=np.array([3, 1, 0, 9], np.int32), axis=0, name="rows")
    x = mb.add(
        x=mb.linear(x=x, weight=_weight(10, 16, 16), bias=_weight(11, 16), name="l"), y=table, name="a"
    )
    x = mb.layer_norm(x=x, axes=[-1], gamma=_weight(12, 16), beta=_weight(13, 16), epsilon=1e-5, name="n")
    heads = mb.transpose(x=mb.reshape(x=x, shape=[4, 2, 8], name="r"), perm=[1, 0, 2], name="t")
    scores = mb.mul(x=mb.matmul(x=heads, y=heads, transpose_y=True, name="m"), y=np.float32(0.3), name="s")
    mixed = mb.matmul(x=mb.softmax(x=scores, axis=-1, name="p"), y=heads, name="v")
    wide = mb.expand_dims(x=mb.gelu(x=mixed, mode="EXACT", name="g"), axes=[0], name="e")
    flat = mb.squeeze(x=wide, axes=[0], name="q")
    norm = mb.maximum(
        x=mb.reduce_l2_norm(x=flat, axes=[-1], keep_dims=True, name="ln"), y=np.float32(1e-6), name="mx"
    )
    unit = mb.real_div(x=flat, y=mb.tile(x=norm, reps=[1, 1, 8], name="ti"), name="d")
    kept = mb.select(
        cond=mb.greater_equal(x=unit, y=np.float32(0), name="ge"),
        a=unit,
        b=mb.sinh(x=unit, name="sh"),
        name="se",
    )
    total = mb.reduce_sum(x=mb.clip(x=kept, alpha=-0.5, beta=0.5, name="cl"), axes=[-1], name="su")
    return mb.sub(x=total, y=np.float32(1), name="y")


@pytest.fixture(scope="module")
def many_ops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("many") / "m.mlpackage", _many_ops)


def test_torch_is_a_second_opinion(many_ops: Path) -> None:
    records = _records(many_ops, _x(), "torch")
    assert [r.op for r in records.values() if r.note == "not compared"] == ["sinh"]
    compared = [r for r in records.values() if r.added is not None]
    assert len({r.op for r in compared}) >= 19
    # Both are float32; they differ by the order of sums.
    assert 0 < max(r.added.relative for r in compared if r.added) < 1e-6
    assert max(r.accumulated.relative for r in records.values()) < 1e-5


def test_what_torch_computes_otherwise_comes_first(many_ops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"gelu": lambda x, mode: functional.gelu(x, approximate="tanh")}
    monkeypatch.setattr(torch_ops, "_FUNCTIONS", torch_ops._FUNCTIONS | wrong)
    ranked = by_added(list(_records(many_ops, _x(), "torch").values()))
    assert ranked[0].op == "gelu"
    assert ranked[0].added is not None
    assert ranked[0].added.relative > 1e-5


def test_networks_in_a_pipeline_are_traced(tmp_path: Path, cancelling: Path) -> None:
    weight = _weight(14, 5, 8)
    array = datatypes.Array(4, 8)
    builder = NeuralNetworkBuilder(
        [("y", array)], [("z", datatypes.Array(4, 5))], disable_rank5_shape_mapping=True
    )
    builder.add_inner_product("head", weight, None, 8, 5, False, "y", "z")
    for feature in (*builder.spec.description.input, *builder.spec.description.output):
        feature.type.multiArrayType.dataType = ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    path = tmp_path / "head.mlmodel"
    path.write_bytes(builder.spec.SerializeToString())
    x = _x(1, (4, 8))

    def head(against: str) -> OpTrace:
        return next(r for r in trace_package(path, {"y": x}, against) if r.output == "z")

    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    half = x.astype(np.float16).astype(np.float32) @ weight.T.astype(np.float16).astype(np.float32)
    assert head("float16").added is not None
    assert head("float16").added.relative == pytest.approx(  # type: ignore[union-attr]
        _relative(exact, half.astype(np.float16)), rel=1e-2
    )
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    rounded = x @ (np.round(weight / scale) * scale).T
    assert head("int8").accumulated.relative == pytest.approx(_relative(exact, rounded), rel=1e-3)
    assert head("torch").note == "not compared"

    pipeline = _pipeline(cancelling, builder.spec, tmp_path / "p.mlpackage")
    records = list(trace_package(pipeline, {"x": _x()}))
    assert [r.model for r in records].count("head") == 1
    assert records[-1].output == "z"
    assert by_added(records)[0].output == "difference"
    # The head gets what the first model's own errors made of its input.
    assert records[-1].accumulated.relative > 3 * records[-1].added.relative  # type: ignore[union-attr]


def _pipeline(program: Path, head: Any, path: Path) -> Path:
    spec = ct.proto.Model_pb2.Model()
    spec.specificationVersion = 8
    first = ct.models.MLModel(str(program), skip_model_load=True)
    for name, model in (("backbone", first.get_spec()), ("head", head)):
        spec.pipeline.names.append(name)
        spec.pipeline.models.add().CopyFrom(model)
    spec.description.input.extend(first.get_spec().description.input)
    spec.description.output.extend(head.description.output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct.models.MLModel(spec, weights_dir=first.weights_dir, skip_model_load=True).save(str(path))
    return path


class _Twice(torch.nn.Module):
    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(SHAPE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x) + 100 - 100
        self.total.add_(x)
        return x + self.total


def test_each_side_has_states_of_its_own(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct.convert(
            torch.jit.trace(_Twice().eval(), torch.zeros(SHAPE)),
            inputs=[ct.TensorType("x", shape=SHAPE)],
            outputs=[ct.TensorType("y")],
            states=[ct.StateType(wrapped_type=ct.TensorType(shape=SHAPE, dtype=np.float16), name="total")],
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        ).save(str(tmp_path / "m.mlpackage"))
    records = _records(tmp_path / "m.mlpackage", _x())
    assert "read_state" in {record.op for record in records.values()}
    # The total starts at zero: twice relu(x), on either side with what that side makes of x.
    exact = np.maximum(_x(), 0)
    half = exact.astype(np.float16) + np.float16(100) - np.float16(100)
    assert records["y"].high == pytest.approx(2 * exact.max(), rel=1e-3)
    assert _relative(exact, half) > 1e-2
    assert records["y"].accumulated.relative == pytest.approx(_relative(exact, half), rel=1e-2)


def test_errors_of_values_that_are_not_finite() -> None:
    x = np.array([1.0, -np.inf, 3.0])
    assert error_of(x, x.astype(np.float16)).max_abs == 0
    assert error_of(x, np.array([1.0, -np.inf, 4.0])).relative == pytest.approx(np.sqrt(1 / 3) / np.sqrt(5))
    assert error_of(x, np.array([np.nan, -np.inf, 3])).max_abs == np.inf
    assert error_of(x, np.array([1.0, 7.0, 3])).relative == np.inf
    nan = np.array([1.0, np.nan])
    assert np.isnan(error_of(nan, nan).relative)
    assert np.isnan(error_of(nan, np.zeros(2)).max_abs)
    assert error_of(np.zeros(3), np.zeros(3)).relative == 0
    assert error_of(np.zeros(3), np.full(3, 1e-9)).relative == np.inf
    assert error_of(np.zeros((0, 3)), np.zeros((0, 3))).max_abs == 0
    assert error_of(np.full(2, 1e200), np.full(2, 3e200)).relative == pytest.approx(2)
    assert error_of(np.array([True, False]), np.array([True, True])).max_abs == 1


def test_command(overflowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", x=_x(), other=np.zeros(3))
    arguments = [str(overflowing), "--input", str(tmp_path / "x.npz"), "--top", "3"]
    found = json.loads(CliRunner().invoke(trace, [*arguments, "--json"], catch_exceptions=False).stdout)
    schema = Path(rendering.__file__).with_name("trace.schema.json")
    jsonschema.validate(found, json.loads(schema.read_text()))
    assert [r["output"] for r in found["added"]][:2] == ["squares", "total"]
    assert found["added"][0] | {"position": 0} == {
        "model": "",
        "position": 0,
        "op": "square",
        "output": "squares",
        "shape": [4, 16],
        "low": 0.0,
        "high": found["added"][0]["high"],
        "added": {"max_abs": None, "relative": None},
        "accumulated": {"max_abs": None, "relative": None},
        "overflow": "here",
        "note": "",
    }
    assert len(found["accumulated"]) == 3
    assert (found["values"], found["against"]) == (8, "float16")
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        text = CliRunner().invoke(trace, arguments, catch_exceptions=False).stdout
        assert max(map(len, text.splitlines())) <= int(columns)
        for word in ("squares", "reduce_sum", "overflows", "(4, 16)", "output y: inf"):
            assert word in text
    np.savez(tmp_path / "zeros.npz", x=np.zeros(SHAPE, np.float32))
    arguments = [str(overflowing), "--input", str(tmp_path / "zeros.npz"), "--against", "int8"]
    text = CliRunner().invoke(trace, arguments, catch_exceptions=False).stdout
    assert "8 values" not in text
    # 0 / 0 on either side.
    assert "makes NaN" in text.splitlines()[2]
    assert "output y: NaN" in text
    found = json.loads(CliRunner().invoke(trace, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (found["added"][0]["op"], found["added"][0]["overflow"]) == ("real_div", "nan")


def test_limits_are_the_callers(overflowing: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=_x())
    with pytest.raises(DataError, match=r"the limit is 1e-09 s \(--max-seconds, "):
        trace_file(TraceConfig(overflowing, tmp_path / "x.npz", max_seconds=1e-9))


def test_wrong_use(overflowing: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--top must be 1 or more, got 0"):
        TraceConfig(overflowing, tmp_path, top=0)
    with pytest.raises(ConfigError, match="against must be one of float16, int8, torch"):
        trace_package(overflowing, {"x": _x()}, "int4")
    with pytest.raises(DataError, match=r"input 'x' must have shape \(4, 16\), got \(4, 15\)"):
        list(trace_package(overflowing, {"x": _x()[:, 1:]}))
