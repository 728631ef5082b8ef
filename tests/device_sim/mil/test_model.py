"""The interpreter's own manners: inputs, limits, errors, records, single steps, numeric policies."""

import struct
import time
import warnings
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb
from mil_convert import convert
from torch import nn

from device_sim.mil import Limits, ProgramModel, Record, load_mil
from device_sim.mil.numerics import Float16Accumulator
from personality_common.coreml.package import Package
from personality_common.coreml.proto import MIL_pb2, Model_pb2
from personality_common.errors import DataError, ToolkitError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))) + ids.float()


EXAMPLE = {"x": np.zeros((2, 16), np.float32), "ids": np.zeros((2, 1), np.int32)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("small") / "Small.mlpackage"
    convert(Small(), EXAMPLE, most=4).save(str(path))
    return path


def _inputs(batch: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    return {
        "x": rng.normal(size=(batch, 16)).astype(np.float32),
        "ids": rng.integers(0, 9, (batch, 1)).astype(np.int32),
    }


def test_features_are_described(path: Path) -> None:
    model = load_mil(path)
    x, ids = model.inputs
    assert (x.name, x.dtype, x.shape_text) == ("x", "float32", "(1..4, 16)")
    assert (ids.name, ids.dtype, ids.shape_text) == ("ids", "int32", "(1..4, 1)")
    assert [(f.name, f.dtype) for f in model.outputs] == [("y", "float32")]


def test_batches_outside_of_the_range(path: Path) -> None:
    model = load_mil(path)
    assert model.predict(_inputs(1))["y"].shape == (1, 4)
    assert model.predict(_inputs(4))["y"].shape == (4, 4)
    for batch in (0, 5):
        with pytest.raises(DataError, match=rf"input 'x' must have shape \(1..4, 16\), got \({batch}, 16\)"):
            model.predict(_inputs(batch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, r"inputs must be \['ids', 'x'\], got \['ids'\]: \['x'\] missing"),
        ({"z": np.zeros(1)}, r"\['z'\] not known"),
        ({"x": np.zeros((2, 15), np.float32)}, r"'x' must have shape \(1..4, 16\), got \(2, 15\)"),
        ({"x": np.zeros(16, np.float32)}, r"'x' must have shape \(1..4, 16\), got \(16,\)"),
        ({"x": np.zeros((2, 16), np.int32)}, "'x' must be float32, got int32"),
        ({"ids": np.zeros((2, 1), np.float32)}, "'ids' must be int32, got float32"),
        ({"ids": np.full((2, 1), 2**40)}, "'ids' must fit int32, got 1099511627776 to 1099511627776"),
        ({"x": np.full((2, 16), "a")}, "'x' must be float32, got str"),
    ],
)
def test_inputs_that_do_not_fit(path: Path, change: dict[str, Any], message: str) -> None:
    inputs = {k: v for k, v in (_inputs() | change).items() if v is not None}
    with pytest.raises(DataError, match=message):
        load_mil(path).predict(inputs)


def test_wider_numbers_are_taken_where_they_fit(path: Path) -> None:
    model, inputs = load_mil(path), _inputs()
    wide = {"x": inputs["x"].astype(np.float64), "ids": inputs["ids"].astype(np.int64)}
    np.testing.assert_array_equal(model.predict(wide)["y"], model.predict(inputs)["y"])


def test_enumerated_shapes(tmp_path: Path) -> None:
    shapes = ct.EnumeratedShapes([(1, 3), (4, 3)], default=(1, 3))

    package = ct.convert(_relu(), inputs=[ct.TensorType("x", shape=shapes)], outputs=[ct.TensorType("y")],
                         compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS17,
                         skip_model_load=True)  # fmt: skip
    package.save(str(tmp_path / "m.mlpackage"))
    model = load_mil(tmp_path / "m.mlpackage")
    assert model.predict({"x": np.full((4, 3), -1.0)})["y"].tolist() == [[0, 0, 0]] * 4
    with pytest.raises(DataError, match=r"'x' must have shape \(1, 3\) or \(4, 3\), got \(2, 3\)"):
        model.predict({"x": np.zeros((2, 3))})


def _relu() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.ReLU(), torch.zeros(1, 3))


def test_ops_without_a_kernel_are_named_before_anything_runs(path: Path) -> None:
    def unheard_of(spec: Any, function: Any, block: Any) -> None:
        _operation(block, "linear").type = "unheard"
        _operation(block, "relu").type = "unseen"

    expected = r"op unheard %\w+ \(operation \d+\): there is no kernel for it in opset iOS17; nor for unseen"
    with pytest.raises(DataError, match=expected):
        load_mil(_mutated(path, unheard_of))


def _mutated(path: Path, change: Any) -> Package:
    package = Package.open(path)
    function = package.spec.mlProgram.functions["main"]
    change(package.spec, function, function.block_specializations[function.opset])
    return package


def _operation(block: Any, kind: str) -> Any:
    return next(operation for operation in block.operations if operation.type == kind)


def _unknown_opset(spec: Any, function: Any, block: Any) -> None:
    function.opset = "CoreML4"


def _control_flow(spec: Any, function: Any, block: Any) -> None:
    _operation(block, "relu").blocks.add()


def _swapped_order(spec: Any, function: Any, block: Any) -> None:
    relu = _operation(block, "relu")
    block.operations.add().CopyFrom(relu)
    block.operations.remove(relu)


def _defined_twice(spec: Any, function: Any, block: Any) -> None:
    block.operations.add().CopyFrom(_operation(block, "relu"))


def _wrong_argument(spec: Any, function: Any, block: Any) -> None:
    relu = _operation(block, "relu")
    relu.inputs["alpha"].CopyFrom(relu.inputs["x"])


def _lost_argument(spec: Any, function: Any, block: Any) -> None:
    del _operation(block, "linear").inputs["weight"]


def _other_function(spec: Any, function: Any, block: Any) -> None:
    spec.description.defaultFunctionName = "second"


def _undescribed_input(spec: Any, function: Any, block: Any) -> None:
    spec.description.input[0].name = "other"


def _no_such_output(spec: Any, function: Any, block: Any) -> None:
    block.outputs[0] = "nothing"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_unknown_opset, "opset 'CoreML4' is unknown; known: CoreML5, "),
        (_control_flow, r"op relu %\w+ \(operation \d+\): it has 0 nested blocks, got 1"),
        (_swapped_order, r"op linear %\w+ \(operation \d+\): x: %\w+ is not defined before it is used"),
        (_defined_twice, r"op relu %\w+ \(operation \d+\): the name %\w+ is empty or defined twice"),
        (_wrong_argument, r"op relu %\w+ .*: it has no argument 'alpha' in opset iOS17; it takes x"),
        (_lost_argument, r"op linear %\w+ .*: argument 'weight' is missing"),
        (_other_function, "the program has no function 'second'; its functions: main"),
        (_undescribed_input, r"inputs are described as \['ids', 'other'\], the program takes \['ids', 'x'\]"),
        (_no_such_output, "output 'nothing' of the program is not a value that it computes"),
    ],
)
def test_malformed_programs_are_refused_at_load(path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_mil(_mutated(path, change))


def test_a_result_that_is_not_what_the_program_declares(path: Path) -> None:
    def narrower(spec: Any, function: Any, block: Any) -> None:
        _operation(block, "relu").outputs[0].type.tensorType.dimensions[1].constant.size = 23

    with pytest.raises(
        DataError, match=r"op relu .* is declared float32\[\?, 23\], the op gives float32\[2, 24\]"
    ):
        load_mil(_mutated(path, narrower)).predict(_inputs())


def test_kinds_that_cannot_be_run(path: Path) -> None:
    package = Package.open(path)
    package.spec.customModel.SetInParent()
    with pytest.raises(DataError, match="customModel cannot be run here: it runs code of the app"):
        load_mil(package)


def test_unknown_policy(path: Path) -> None:
    with pytest.raises(ToolkitError, match="one of exact, float64, fp16-accumulate, got 'bf16'"):
        load_mil(path, policy="bf16")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(value_bytes=200), r"op linear .* would have 384 elements of 4 bytes; the limit is 200"),
        (Limits(live_bytes=200), "would bring the values held to"),
        (
            Limits(seconds=3e-7),
            r"op linear .* takes 1,536 multiply-adds, .* the limit is 3e-07 s \(--max-seconds, ",
        ),
    ],
)
def test_limits_are_checked_before_the_op_runs(path: Path, limits: Limits, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_mil(path, limits=limits).predict(_inputs())


def test_time_is_read_before_each_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def late(record: Record) -> None:
        nonlocal now
        now += 100

    monkeypatch.setattr(time, "monotonic", lambda: now)
    model = load_mil(path, limits=Limits(seconds=350))
    seen: list[str] = []

    def slowly(record: Record) -> None:
        late(record)
        seen.append(record.name)

    now += 1000  # a prediction has a clock of its own
    expected = r"op \w+ %\w+ .*: the time is up after 400.0 s; the limit is 350 s \(--max-seconds, "
    with pytest.raises(DataError, match=expected):
        model.predict(_inputs(), observe=slowly)
    assert len(seen) == 4


def test_too_many_operations(path: Path) -> None:
    with pytest.raises(DataError, match="operations; the limit is 3"):
        load_mil(path, limits=Limits(ops=3))


def test_constants_that_share_packed_bytes_are_counted_each(tmp_path: Path) -> None:
    """A megabyte of single bits is 8 MiB in memory, for each constant that refers to it."""
    size = 1 << 20
    blob = struct.pack("<II56x", 1, 2) + struct.pack("<IIQQQ32x", 0xDEADBEEF, 9, size, 128, 0) + bytes(size)
    (tmp_path / "weight.bin").write_bytes(blob)
    spec = Model_pb2.Model(specificationVersion=9)
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML8"
    block = function.block_specializations["CoreML8"]
    for i in range(20):
        operation = block.operations.add(type="const")
        output = operation.outputs.add(name=f"c{i}")
        value = operation.attributes["val"]
        value.type.tensorType.dataType = MIL_pb2.UINT1
        value.type.tensorType.rank = 1
        value.type.tensorType.dimensions.add().constant.size = 8 * size
        value.blobFileValue.fileName = "@model_path/weight.bin"
        value.blobFileValue.offset = 64
        output.type.CopyFrom(value.type)
    path = tmp_path / "m.mlmodel"
    path.write_bytes(spec.SerializeToString())
    assert load_mil(path).budget.held == 20 * 8 * size
    with pytest.raises(DataError, match=r"op const %c\d+ .* would bring the values held to 1\d\d,"):
        load_mil(path, limits=Limits(live_bytes=100 << 20))


BOMBS = {
    "tile": lambda x: mb.tile(x=x, reps=[100_000, 100_000]),
    "fill": lambda x: mb.fill(shape=mb.cast(x=mb.reduce_sum(x=mb.mul(x=x, y=1e5), axes=[1]), dtype="int32")),
    "range": lambda x: mb.range_1d(start=mb.reduce_sum(x=x), end=1e12, step=1.0),
    "broadcast": lambda x: mb.add(x=mb.reshape(x=mb.tile(x=x, reps=[1, 1000]), shape=[-1, 1]),
                                  y=mb.reshape(x=mb.tile(x=x, reps=[1, 1000]), shape=[1, -1])),
    "matmul": lambda x: mb.matmul(x=mb.reshape(x=mb.tile(x=x, reps=[1, 1000]), shape=[-1, 1]),
                                  y=mb.reshape(x=mb.tile(x=x, reps=[1, 1000]), shape=[1, -1])),
    "one_hot": lambda x: mb.one_hot(indices=mb.cast(x=x, dtype="int32"), one_hot_vector_size=2**30),
    "pad": lambda x: mb.pad(x=x, pad=[2**28, 2**28], mode="constant", constant_val=0.0),
    "gather": lambda x: mb.gather(x=mb.tile(x=x, reps=[1, 1000]), indices=mb.cast(
        x=mb.fill_like(ref_tensor=mb.tile(x=x, reps=[1, 1000]), value=0.0), dtype="int32"), axis=0),
}  # fmt: skip


EMPTY_BOMBS = {
    "sum": lambda x: mb.reduce_sum(x=mb.fill(shape=_sizes(x, 0, 1e5, 1e5)), axes=[0]),
    "band": lambda x: mb.band_part(x=mb.fill(shape=_sizes(x, 0, 1e5, 1e5)), lower=1, upper=1),
    "one_hot": lambda x: mb.one_hot(indices=mb.cast(x=mb.fill(shape=_sizes(x, 0)), dtype="int32"),
                                    one_hot_vector_size=2**30),
}  # fmt: skip
"""Arrays of size 0 that have huge axes, or get them."""


def _sizes(x: Any, *sizes: float) -> Any:
    first = mb.slice_by_index(x=x, begin=[0, 0], end=[1, len(sizes)], squeeze_mask=[True, False])
    return mb.cast(x=mb.mul(x=first, y=np.array(sizes, np.float32)), dtype="int32")


@pytest.mark.parametrize("name", EMPTY_BOMBS)
def test_small_programs_with_empty_values(name: str, tmp_path: Path) -> None:
    _explode(EMPTY_BOMBS[name], tmp_path)


@pytest.mark.parametrize("name", BOMBS)
def test_small_programs_with_huge_values(name: str, tmp_path: Path) -> None:
    _explode(BOMBS[name], tmp_path)


def _explode(build: Any, tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((2, 8))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.identity(x=build(x), name="y")

    package = ct.convert(
        program,
        skip_model_load=True,
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
    )
    package.save(str(tmp_path / "m.mlpackage"))
    model = load_mil(tmp_path / "m.mlpackage", limits=Limits(value_bytes=1 << 28))
    with pytest.raises(
        DataError, match=r"would have [\d,]{9,} elements of [48] bytes; the limit is 268,435,456 bytes"
    ):
        model.predict({model.inputs[0].name: np.ones((2, 8), np.float32)})


def test_records_and_single_steps(path: Path) -> None:
    model, inputs = load_mil(path), _inputs()
    assert isinstance(model, ProgramModel)
    seen: list[Record] = []
    model.predict(inputs, observe=seen.append)
    assert sorted(r.op for r in seen) == ["add", "cast", "linear", "linear", "relu"]
    values = inputs | {record.name: record.value for record in seen}
    assert len(values) == len(seen) + 2
    assert not any(record.value.flags.writeable for record in seen)
    for record in seen:
        step = model.evaluator.step(record.name)
        again = model.evaluator.run_step(step, values)[record.name]
        np.testing.assert_array_equal(again, record.value)
    with pytest.raises(DataError, match="no operation of the program computes %x"):
        model.evaluator.step("x")
    with pytest.raises(DataError, match="the value of its input %x is not given"):
        model.evaluator.run_step(model.evaluator.step(seen[0].name), {})


def test_what_an_observer_gets_cannot_be_changed_by_later_steps(path: Path) -> None:
    model, seen = load_mil(path), []
    model.predict(_inputs(), observe=lambda r: seen.append((r.value, r.value.copy())))
    for value, copy in seen:
        np.testing.assert_array_equal(value, copy)


def test_inputs_are_not_written_to(path: Path) -> None:
    inputs = _inputs()
    kept = {name: value.copy() for name, value in inputs.items()}
    load_mil(path).predict(inputs)
    for name, value in inputs.items():
        assert value.flags.writeable
        np.testing.assert_array_equal(value, kept[name])


def test_weights_are_mapped_and_not_copied(path: Path) -> None:
    model = load_mil(path)
    assert isinstance(model, ProgramModel)
    assert model.budget.held < 24 * 16  # what is inline: biases
    linear = next(s for s in model.evaluator.program.steps if s.op.name == "linear")
    assert not linear.constants["weight"].flags.owndata
    assert load_mil(path, policy="float64").budget.held > 24 * 16 * 8


def test_float64_is_closer_to_the_truth_than_exact(path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = Small().double(), _inputs(4)
    with torch.no_grad():
        truth = module(torch.from_numpy(inputs["x"]).double(), torch.from_numpy(inputs["ids"])).numpy()
    sharp = load_mil(path, policy="float64").predict(inputs)["y"]
    plain = load_mil(path).predict(inputs)["y"]
    rough = load_mil(path, policy="fp16-accumulate").predict(inputs)["y"]
    assert sharp.dtype == np.float64
    assert plain.dtype == rough.dtype == np.float32
    # Parameters are float32 in both, and exact in float64; ids are added after a cast to float32.
    assert np.abs(sharp - truth).max() < 1e-13
    assert 1e-9 < np.abs(plain - truth).max() < 5e-6
    assert 1e-4 < np.abs(rough - truth).max() < 3e-2


def test_float16_accumulation_by_hand() -> None:
    """2048 + 1 is 2048 in float16: a run of 8 ones is added as 8, which is not lost."""
    accumulate = Float16Accumulator()
    terms = np.array([2048, *[0] * 7, *[1] * 8], np.float32)
    assert accumulate.sum(terms, (0,), False) == 2056
    # Two ones per run: 2050, 2052, …; one per run is lost each time, by rounding to even.
    sparse = np.zeros(8 * 9, np.float32)
    sparse[0], sparse[8::8] = 2048, 1
    assert accumulate.sum(sparse, (0,), False) == 2048
    assert accumulate.matmul(sparse[None], np.ones((72, 1), np.float32)).tolist() == [[2048.0]]
    assert accumulate.matmul(sparse, np.ones(72, np.float32)) == 2048
    with np.errstate(over="ignore"):
        overflow = accumulate.sum(np.full(32, 60000, np.float32), (0,), True)
    assert overflow.tolist() == [np.inf]


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_float16_accumulation_sums_what_it_should(axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-4, 5, (3, 5, 11)).astype(np.float32)  # exact in float16
    for keep in (True, False):
        np.testing.assert_array_equal(
            Float16Accumulator().sum(x, axes, keep), x.sum(axis=axes, keepdims=keep)
        )
    y = np.random.default_rng(1).integers(-4, 5, (3, 11, 2)).astype(np.float32)
    np.testing.assert_array_equal(Float16Accumulator().matmul(x, y), x @ y)
    np.testing.assert_array_equal(Float16Accumulator().matmul(x, y[0]), x @ y[0])
