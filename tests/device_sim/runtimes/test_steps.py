"""`pt run` on models with a state, step by step and call by call; and the files that it leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from mil_specs import save, spec

from device_sim.mil.state import State
from device_sim.mil.types import TensorType
from device_sim.runtimes.cli import run
from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.running import RunResult, run_package
from personality_common.coreml.proto import MIL_pb2, Model_pb2
from personality_common.errors import ConfigError, DataError

X = np.array([[1, 2], [3, 5], [1000, 0.5], [-1, 0.125]], np.float32)
SUMS: list[list[float]] = [[1, 2], [4, 7], [1004, 7.5], [1003, 7.625]]
"""Of the rows so far: `acc` after each step; exact in float16."""
SQUARES: list[list[float]] = [[1, 4], [16, 49], [65504, 56.25], [65504, 58.125]]
"""`y`, the sum times itself, the last one rounded from 58.140625: float16 has 58.125 and 58.15625. Of the two
that it cannot hold, `minimum` keeps its largest number."""


def accumulator(size: int = 2, state: str = "acc") -> Any:
    """acc += x; y = minimum(acc * acc, 65504), in float16."""
    model = Model_pb2.Model(specificationVersion=9)
    for features, name in ((model.description.input, "x"), (model.description.output, "y")):
        array = features.add(name=name).type.multiArrayType
        array.dataType = 65568 if name == "x" else 65552
        array.shape.append(size)
    array = model.description.state.add(name=state).type.stateType.arrayType
    array.dataType = 65552
    array.shape.append(size)
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML8"
    _typed(function.inputs.add(name="x").type, size, MIL_pb2.FLOAT32)
    _typed(function.inputs.add(name=state).type.stateType.wrappedType, size)
    block = function.block_specializations["CoreML8"]

    def add(kind: str, output: str | None = None, **inputs: str) -> None:
        operation = block.operations.add(type=kind)
        for name, value in inputs.items():
            operation.inputs[name].arguments.add(name=value)
        if output:
            _typed(operation.outputs.add(name=output).type, size)

    cast = block.operations.add(type="cast")
    cast.inputs["x"].arguments.add(name="x")
    text = cast.inputs["dtype"].arguments.add().value
    text.type.tensorType.dataType = MIL_pb2.STRING
    text.immediateValue.tensor.strings.values.append("fp16")
    _typed(cast.outputs.add(name="half").type, size)
    add("read_state", "before", input=state)
    add("add", "after", x="before", y="half")
    add("write_state", input=state, data="after")
    add("mul", "square", x="after", y="after")
    largest = block.operations.add(type="minimum")
    largest.inputs["x"].arguments.add(name="square")
    bound = largest.inputs["y"].arguments.add().value
    bound.type.tensorType.dataType = MIL_pb2.FLOAT16
    bound.immediateValue.tensor.bytes.values = np.float16(65504).tobytes()
    _typed(largest.outputs.add(name="y").type, size)
    block.outputs.append("y")
    return model


def _typed(type_: Any, size: int, dtype: int = MIL_pb2.FLOAT16) -> None:
    type_.tensorType.dataType = dtype
    type_.tensorType.rank = 1
    type_.tensorType.dimensions.add().constant.size = size


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return save(tmp_path / "acc.mlmodel", accumulator())


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def started(package: Path, given: Path, out: str = "out.npz", **options: Any) -> RunResult:
    return run_package(RunConfig(package, given, given.with_name(out), **options))


def test_steps_are_calls_in_a_row(package: Path, tmp_path: Path) -> None:
    """All rows at once, against one call for each with the state handed on in a file."""
    together = npz(tmp_path / "all.npz", x=X)
    started(package, together, steps=True, state_out=tmp_path / "end.npz")
    with np.load(tmp_path / "out.npz") as found:
        assert found["y"].dtype == np.float16
        assert found["y"].tolist() == SQUARES
    state = None
    for at, x in enumerate(X):
        started(package, npz(tmp_path / "one.npz", x=x), state=state, state_out=tmp_path / "state.npz")
        state = tmp_path / "state.npz"
        with np.load(state) as held, np.load(tmp_path / "out.npz") as found:
            assert held["acc"].tolist() == SUMS[at]
            assert found["y"].tolist() == SQUARES[at]
    assert state is not None
    assert state.read_bytes() == (tmp_path / "end.npz").read_bytes()


@pytest.mark.parametrize("name", ["in.json", "in.jsonl", "in.csv"])
def test_rows_are_steps(package: Path, tmp_path: Path, name: str) -> None:
    """The first row may hold the state to begin with."""
    rows = [{"x": x.tolist()} for x in X[1:]]
    rows[0]["acc"] = [1, 2]
    if name == "in.json":
        text = json.dumps(rows)
    elif name == "in.jsonl":
        text = "\n".join(map(json.dumps, rows))
    else:
        text = "x,acc\n" + "\n".join(f'"{row["x"]}","{row.get("acc", "")}"' for row in rows)
    (tmp_path / name).write_text(text)
    result = started(package, tmp_path / name, steps=True, state_out=tmp_path / "end.npz")
    assert [row["y"].tolist() for row in result.rows] == SQUARES[1:]
    assert result.zero_states == ()
    with np.load(tmp_path / "end.npz") as held:
        assert held["acc"].tolist() == SUMS[-1]
    given = npz(tmp_path / "in.npz", x=X[1:], acc=X[0])
    result = started(package, given, steps=True)
    assert [row["y"].tolist() for row in result.rows] == SQUARES[1:]


def test_rows_of_a_state_without_steps(package: Path, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([{"x": x.tolist()} for x in X]))
    with pytest.raises(DataError, match="has 4 rows, and the model a state: --steps makes steps of them"):
        started(package, tmp_path / "in.json")
    (tmp_path / "in.json").write_text(json.dumps([{"x": [1, 2]}, {"x": [1, 2], "acc": [0, 0]}]))
    with pytest.raises(DataError, match="row 2: holds the state 'acc', which the first row alone may"):
        started(package, tmp_path / "in.json", steps=True)
    with pytest.raises(DataError, match="with --steps, arrays must have as many rows, one or more"):
        started(package, npz(tmp_path / "in.npz", x=X[:0]), steps=True)
    with pytest.raises(DataError, match="with --steps, arrays must have as many rows, one or more"):
        started(package, npz(tmp_path / "in.npz", x=np.float32(1)), steps=True)
    with pytest.raises(DataError, match=r"row 1: .*input 'x' must have shape \(2\), got \(4, 2\)"):
        started(package, npz(tmp_path / "in.npz", x=X[None].repeat(2, axis=0)), steps=True)


def test_states_of_other_models(package: Path, tmp_path: Path) -> None:
    given = npz(tmp_path / "in.npz", x=X[0])
    others: list[tuple[dict[str, Any], str]] = [
        ({"acc": np.zeros(3, np.float16)}, r"state 'acc' is float16\[2\], got float16\[3\]"),
        ({"acc": np.zeros(2, np.int32)}, r"state 'acc' is float16\[2\], got int32\[2\]"),
        ({"total": np.zeros(2, np.float16)}, r"state\.npz: must hold 'acc'; it holds total"),
        ({}, r"state\.npz: must hold 'acc'; it holds nothing"),
    ]
    for arrays, words in others:
        with pytest.raises(DataError, match=words):
            started(package, given, state=npz(tmp_path / "state.npz", **arrays))
    other = save(tmp_path / "other.mlmodel", accumulator(state="total"))
    started(other, given, state_out=tmp_path / "state.npz")
    with pytest.raises(DataError, match="must hold 'acc'; it holds total"):
        started(package, given, state=tmp_path / "state.npz")
    with pytest.raises(DataError, match=r"absent\.npz: there is no such file"):
        started(package, given, state=tmp_path / "absent.npz")
    both = npz(tmp_path / "both.npz", x=X[0], acc=X[0])
    with pytest.raises(DataError, match=r"'acc' is in .*both\.npz and in .*one\.npz: one of them"):
        started(package, both, state=npz(tmp_path / "one.npz", acc=X[0]))


def test_numbers_that_the_state_rounds(package: Path, tmp_path: Path) -> None:
    """As an input is: beyond float16 it is infinite, without a warning of NumPy's."""
    given = npz(tmp_path / "in.npz", x=X[0])
    state = npz(tmp_path / "state.npz", acc=np.array([1e6, 0.1]))
    started(package, given, state=state, state_out=state)
    with np.load(state) as held:
        assert held["acc"].tolist() == [np.inf, np.float16(np.float16(0.1) + 2)]
    count = State({"n": TensorType(np.dtype(np.int32), (2,))})
    count["n"] = np.array([7, -7])
    assert count["n"].dtype == np.int32
    with pytest.raises(DataError, match="state 'n' must fit int32, got larger numbers"):
        count["n"] = np.array([1 << 31, 0])
    assert count["n"].tolist() == [7, -7]


def test_a_model_without_a_state(tmp_path: Path) -> None:
    model = spec({"x": "double"}, {"y": "double"})
    model.scaler.scaleValue.append(2)
    package = save(tmp_path / "m.mlmodel", model)
    given = npz(tmp_path / "in.npz", x=np.array([1.0, 2.5]))
    for option in ("state", "state_out"):
        with pytest.raises(DataError, match="the model has no state for --state and --state-out"):
            started(package, given, **{option: tmp_path / "s.npz"})  # type: ignore[arg-type]
    result = started(package, given, steps=True)
    assert result.rows == ({"y": 2.0}, {"y": 5.0})
    with np.load(tmp_path / "out.npz") as found:
        assert found["y"].tolist() == [2, 5]
    model = spec({"x": "double", "z": "double"}, {"z": "double"})
    model.identity.SetInParent()
    save(package, model)
    with pytest.raises(DataError, match="with --steps, arrays must have as many rows, one or more"):
        started(package, npz(tmp_path / "in.npz", x=np.zeros(2), z=np.zeros(3)), steps=True)


def test_a_failed_run_leaves_what_was_there(package: Path, tmp_path: Path) -> None:
    """It fails in the last step, after the others have come out."""
    rows = [{"x": [1, 2]}, {"x": [1, 2]}, {"x": [1, 2, 3]}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("out.npz", "out.json", "out.jsonl"):
        (tmp_path / name).write_text("before")
        (tmp_path / "state.npz").write_text("before")
        with pytest.raises(DataError, match=r"in\.jsonl, row 3: .*input 'x' must have shape"):
            started(package, tmp_path / "in.jsonl", name, steps=True, state_out=tmp_path / "state.npz")
        assert (tmp_path / name).read_text() == (tmp_path / "state.npz").read_text() == "before"
    assert not list(tmp_path.glob(".*"))


def test_what_an_npz_cannot_hold(tmp_path: Path) -> None:
    model = spec({"x": "seq:string"}, {"x": "seq:string"})
    model.identity.SetInParent()
    package = save(tmp_path / "m.mlmodel", model)
    (tmp_path / "in.json").write_text('[{"x": ["a", "\\ud800"]}, {"x": []}]')
    with pytest.raises(
        DataError, match=r"output 'x' is a sequence, which \.npz cannot hold: give a \.json file"
    ):
        started(package, tmp_path / "in.json")
    started(package, tmp_path / "in.json", "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == [{"x": ["a", "\ud800"]}, {"x": []}]
    model = spec({"x": "array"}, {"x": "array"})
    model.identity.SetInParent()
    save(package, model)
    (tmp_path / "in.json").write_text('[{"x": [1]}, {"x": [1, NaN]}]')
    with pytest.raises(DataError, match=r"'x' has not one shape in all rows: give a \.json or \.jsonl file"):
        started(package, tmp_path / "in.json")
    started(package, tmp_path / "in.json", "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"x": [1.0]}\n{"x": [1.0, "nan"]}\n'


def test_outputs_that_some_rows_lack(tmp_path: Path) -> None:
    """An optional input that goes straight to an output."""
    model = spec({"x": "double", "n": "double?"}, {"x": "double", "n": "double?"})
    model.identity.SetInParent()
    package = save(tmp_path / "m.mlmodel", model)
    (tmp_path / "in.csv").write_text("x,n\n1,2\n3,\n")
    started(package, tmp_path / "in.csv", "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == [{"x": 1, "n": 2}, {"x": 3}]
    with pytest.raises(DataError, match=r"'n' is not in all rows: give a \.json or \.jsonl file"):
        started(package, tmp_path / "in.csv")


def test_options(package: Path, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps({"x": [1, 2]}))
    arguments = [str(package), "--input", str(tmp_path / "in.json"), "--output", str(tmp_path / "out.npz")]
    done = CliRunner().invoke(run, [*arguments, "--state-out", str(tmp_path / "s.npz"), "--steps"])
    assert done.exit_code == 0, done.output
    assert "y  float16  (2,)" in done.output
    assert "states acc are zero: neither --state nor the inputs fill them" in " ".join(done.output.split())
    paths = Path("p.mlmodel"), Path("in.json"), Path("out.npz")
    for options, words in [
        ({"state": Path("s.json")}, r"--state must be a \.npz file, got s\.json"),
        ({"state_out": Path("s.json")}, r"--state-out must be a \.npz file, got s\.json"),
        ({"state_out": Path("./out.npz")}, "--output and --state-out must be two files, got out.npz twice"),
    ]:
        with pytest.raises(ConfigError, match=words):
            RunConfig(*paths, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="it has no function 'chat'; its functions: main"):
        started(package, tmp_path / "in.json", function="chat")
