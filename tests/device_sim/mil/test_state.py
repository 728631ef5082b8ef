"""Models with state: a converted one over several calls, and each op by hand."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_convert import convert
from mil_harness import package_of

from device_sim.mil import ProgramModel, load_mil
from device_sim.mil.limits import Limits
from personality_common.coreml.proto import MIL_pb2, Model_pb2
from personality_common.errors import DataError


class Accumulate(torch.nn.Module):
    """y = x W' plus all that came before; W is written by the app."""

    weight: torch.Tensor
    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(3, 4))
        self.register_buffer("total", torch.zeros(1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weight.T
        self.total.add_(y)
        return y + self.total


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    states: dict[str, tuple[int, ...]] = {"weight": (3, 4), "total": (1, 3)}
    x = np.zeros((1, 4), np.float32)
    model = convert(
        Accumulate(), {"x": x}, precision="FLOAT16", target="iOS18", most=None, states=states, dtype=None
    )
    path = tmp_path_factory.mktemp("state") / "Accumulate.mlpackage"
    model.save(str(path))
    return path


def test_state_starts_at_zero_and_is_written_back(package: Path) -> None:
    model = load_mil(package)
    state = model.new_state()
    assert sorted(state) == ["total", "weight"]
    x = np.array([[1, 2, 3, 4]], np.float32)
    assert model.predict({"x": x}, state)["y"].tolist() == [[0, 0, 0]]
    state["weight"] = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.25]], np.float32)
    # y = [1, 2, 2.5]; total grows by y on each call, and y + total comes out.
    assert model.predict({"x": x}, state)["y"].tolist() == [[2, 4, 5]]
    assert model.predict({"x": x}, state)["y"].tolist() == [[3, 6, 7.5]]
    assert state["total"].tolist() == [[2, 4, 5]]
    assert state["total"].dtype == np.float16


def test_states_of_two_sessions_are_apart(package: Path) -> None:
    model = load_mil(package)
    first, second = model.new_state(), model.new_state()
    first["weight"] = np.ones((3, 4), np.float16)
    model.predict({"x": np.ones((1, 4), np.float32)}, first)
    assert first["total"].tolist() == [[4, 4, 4]]
    assert second["total"].tolist() == [[0, 0, 0]]


def test_what_a_state_refuses(package: Path) -> None:
    model = load_mil(package)
    state = model.new_state()
    with pytest.raises(DataError, match="has no state 'bias'"):
        state["bias"] = np.zeros(3)
    with pytest.raises(DataError, match=r"state 'weight' is float16\[3, 4\], got float64\[4, 3\]"):
        state["weight"] = np.zeros((4, 3))
    with pytest.raises(DataError, match=r"has states \(weight, total\): pass one"):
        model.predict({"x": np.zeros((1, 4), np.float32)})


def test_a_state_beyond_the_limits_is_not_made(package: Path) -> None:
    model = load_mil(package, limits=Limits(value_bytes=16))
    with pytest.raises(DataError, match="state 'weight' would have 12 elements"):
        model.new_state()


def test_states_and_constants_share_one_budget(package: Path) -> None:
    """24 + 6 bytes of states; what a session holds is given back when it ends."""
    constants = load_mil(package).budget.held
    model = load_mil(package, limits=Limits(live_bytes=constants + 60))
    sessions = [model.new_state(), model.new_state()]
    message = rf"state 'weight' would bring the values held to {constants + 84} bytes; the limit is "
    with pytest.raises(DataError, match=message):
        model.new_state()
    with pytest.raises(DataError, match="would bring the values held to"):
        model.predict({"x": np.zeros((1, 4), np.float32)}, sessions[0])
    del sessions
    assert model.budget.held == constants
    model.new_state()


PROCESSES = Path(__file__).parents[2] / "processes"
CHILD = """
import sys
import numpy as np
from device_sim.mil import load_mil
from personality_common.errors import DataError
sys.path.append(sys.argv[2])
from peak_memory import peak

before = peak()
try:
    model = load_mil(sys.argv[1])
    model.predict({"x": np.zeros(1, np.float32)}, model.new_state())
except DataError as error:
    print(error)
print(peak() - before)
"""


def test_many_states_are_refused_before_they_are_allocated(tmp_path: Path) -> None:
    """Nine states of 576 MB, each within the limit of one value, from a file of 3 kB."""
    spec = Model_pb2.Model(specificationVersion=9)
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML8"
    block = function.block_specializations["CoreML8"]
    _tensor(function.inputs.add(name="x").type, 1, MIL_pb2.FLOAT32)
    for i in range(9):
        _tensor(function.inputs.add(name=f"s{i}").type.stateType.wrappedType, 288_000_000)
        read = block.operations.add(type="read_state")
        read.inputs["input"].arguments.add(name=f"s{i}")
        _tensor(read.outputs.add(name=f"r{i}").type, 288_000_000)
        write = block.operations.add(type="write_state")
        write.inputs["input"].arguments.add(name=f"s{i}")
        write.inputs["data"].arguments.add(name=f"r{i}")
    block.outputs.append("x")
    for features in (spec.description.input, spec.description.output):
        array = features.add(name="x").type.multiArrayType
        array.dataType = 65568
        array.shape.append(1)
    path = tmp_path / "states.mlmodel"
    path.write_bytes(spec.SerializeToString())
    assert path.stat().st_size < 10_000
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(PROCESSES)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    message, grown = run.stdout.splitlines()
    assert "state 's7' would bring the values held to 4,608,000,000 bytes" in message
    assert int(grown) < 50 << 10  # KiB


def _tensor(type_: Any, size: int, dtype: int = MIL_pb2.FLOAT16) -> None:
    type_.tensorType.dataType = dtype
    type_.tensorType.rank = 1
    type_.tensorType.dimensions.add().constant.size = size


def test_coreml_update_state_writes_and_returns() -> None:
    """The dialect's op in one; packages hold it as write_state and read_state."""
    spec = Model_pb2.Model(specificationVersion=9)
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML8"
    block = function.block_specializations["CoreML8"]
    update = block.operations.add(type="coreml_update_state")
    update.inputs["state"].arguments.add(name="s")
    update.inputs["value"].arguments.add(name="x")
    block.outputs.append("y")
    types: list[Any] = [update.outputs.add(name="y").type]
    types.append(function.inputs.add(name="x").type)
    types.append(function.inputs.add(name="s").type.stateType.wrappedType)
    for type_ in types:
        _tensor(type_, 2)
    for name, features in (("x", spec.description.input), ("y", spec.description.output)):
        array = features.add(name=name).type.multiArrayType
        array.dataType = 65552
        array.shape.append(2)
    model = load_mil(package_of(spec))
    assert isinstance(model, ProgramModel)
    state = model.new_state()
    y = model.predict({"x": np.array([1, 2], np.float16)}, state)["y"]
    assert y.tolist() == state["s"].tolist() == [1, 2]
