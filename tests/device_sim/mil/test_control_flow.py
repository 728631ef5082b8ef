"""Branches, loops and lists: programs that coremltools writes, against torch and values by hand."""

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
from mil_harness import package_of

from device_sim.mil import load_mil
from device_sim.mil.limits import Limits, Usage
from device_sim.mil.model import Model
from personality_common.errors import DataError


def _collatz() -> Any:
    """Rounds until `x` is 1, and all that came before, in a list that grows; captures `three`."""

    @mb.program(input_specs=[mb.TensorSpec((1,)), mb.TensorSpec((2,))], opset_version=ct.target.iOS15)
    def program(x: Any, y: Any) -> Any:
        three = mb.add(x=mb.mul(x=mb.reduce_sum(x=y), y=0.0), y=3.0)
        seen = mb.make_list(init_length=1, elem_shape=(1,), dtype="fp32")

        def going(x: Any, rounds: Any, seen: Any) -> Any:
            return mb.not_equal(x=mb.squeeze(x=x), y=1.0)

        def step(x: Any, rounds: Any, seen: Any) -> Any:
            odd = mb.equal(x=mb.squeeze(x=mb.mod(x=x, y=2.0)), y=1.0)
            following = mb.cond(
                pred=odd,
                _true_fn=lambda: mb.add(x=mb.mul(x=x, y=three), y=1.0),
                _false_fn=lambda: mb.real_div(x=x, y=2.0),
            )
            return following, mb.add(x=rounds, y=1), mb.list_write(ls=seen, index=rounds, value=x)

        # Inside of a loop the converter wants initial values that are not constant.
        zero = mb.cast(x=mb.mul(x=mb.reduce_sum(x=y), y=0.0), dtype="int32")
        x, rounds, seen = mb.while_loop(_cond=going, _body=step, loop_vars=(x, zero, seen))
        length = mb.list_length(ls=seen)
        first = mb.list_read(ls=seen, index=0)
        chosen = mb.list_gather(ls=seen, indices=[2, 1])
        written = mb.list_scatter(ls=seen, indices=[0, 1], value=np.array([[7.0], [8.0]], np.float32))
        both = mb.list_gather(ls=written, indices=[0, 1, 2])
        names = {"rounds": rounds, "length": length, "first": first, "chosen": chosen, "both": both}
        return tuple(mb.identity(x=value, name=name) for name, value in names.items())

    return program


def _spec(program: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ct.convert(
            program,
            convert_to="mlprogram",
            pass_pipeline=ct.PassPipeline.EMPTY,
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS15,
            skip_model_load=True,
        ).get_spec()


@pytest.fixture(scope="module")
def collatz() -> Model:
    return load_mil(package_of(_spec(_collatz())))


def test_a_loop_with_a_branch_and_a_list(collatz: Model) -> None:
    inputs = {"x": np.array([6], np.float32), "y": np.ones(2, np.float32)}
    found = collatz.predict(inputs)
    # 6, 3, 10, 5, 16, 8, 4, 2, 1
    assert found["rounds"] == 8
    assert found["length"] == 8
    assert found["first"].tolist() == [6]
    assert found["chosen"].tolist() == [[10], [3]]
    assert found["both"].tolist() == [[7], [8], [10]]
    assert found["length"].dtype == np.int32
    with pytest.raises(DataError, match=r"op list_gather.*indices must be in \[0, 2\), got \[2, 1\]"):
        collatz.predict(inputs | {"x": np.array([4], np.float32)})  # a list of two: 4, 2


def test_a_loop_whose_condition_is_false_at_once_gives_its_inputs(collatz: Model) -> None:
    with pytest.raises(DataError, match=r"in \[0, 1\)"):
        collatz.predict({"x": np.ones(1, np.float32), "y": np.ones(2, np.float32)})


def _model(size: int, condition: Any, body: Any, limits: Limits) -> Model:
    """A loop over one value of shape (size,)."""

    @mb.program(input_specs=[mb.TensorSpec((size,))], opset_version=ct.target.iOS15)
    def program(x: Any) -> Any:
        x = mb.mul(x=x, y=2.0)
        return mb.identity(x=mb.while_loop(_cond=condition, _body=body, loop_vars=(x,)), name="out")

    return load_mil(package_of(_spec(program)), limits=limits)


def test_an_endless_loop_is_refused_in_time() -> None:
    model = _model(
        3, lambda x: mb.less(x=mb.reduce_sum(x=x), y=1e9), lambda x: mb.mul(x=x, y=1.0), Limits(seconds=0.5)
    )
    started = time.monotonic()
    with pytest.raises(DataError, match=r"op while_loop.*the time is up after 0\.\d s"):
        model.predict({"x": np.ones(3, np.float32)})
    assert time.monotonic() - started < 5


def test_a_list_that_doubles_is_refused_before_it_fills_the_memory() -> None:
    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS15)
    def program(x: Any) -> Any:
        index = mb.cast(x=mb.squeeze(x=x), dtype="int32")
        index, _ = mb.while_loop(
            _cond=lambda index, ls: mb.less(x=index, y=2**30),
            _body=lambda index, ls: (mb.mul(x=index, y=2), mb.list_write(ls=ls, index=index, value=x)),
            loop_vars=(index, mb.make_list(elem_shape=(1,))),
        )
        return mb.identity(x=index, name="out")

    model = load_mil(package_of(_spec(program)), limits=Limits(value_bytes=1 << 20, seconds=20))
    with pytest.raises(DataError, match=r"op while_loop.*op list_write.*the limit is 1,048,576 bytes"):
        model.predict({"x": np.ones(1, np.float32)})


def test_rounds_of_a_loop_leave_nothing_behind() -> None:
    """A thousand rounds over 40 kB fit in 800 kB: kernels count with 8 bytes an element."""
    model = _model(
        10_000,
        lambda x: mb.less(x=mb.reduce_max(x=x), y=1000.0),
        lambda x: mb.add(x=x, y=1.0),
        Limits(live_bytes=800_000),
    )
    x = np.zeros(10_000, np.float32)
    usage = Usage(model.budget)
    assert model._evaluate({"x": x}, None, None, usage)["out"].max() == 1000
    assert usage.live < 200_000


class Gru(torch.nn.Module):
    """The sequence and the last states of both directions, in one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(3, 4, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, h = self.gru(x)
        return torch.cat([y.reshape(-1), h.reshape(-1)])


def test_what_torch_calls_a_gru_becomes_a_loop(tmp_path: Path) -> None:
    """coremltools writes a while_loop over a list of steps, since Core ML's gru has other biases."""
    torch.manual_seed(0)
    module, x = Gru(), np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    model = convert(module, {"x": x}, most=None)
    (block,) = model.get_spec().mlProgram.functions["main"].block_specializations.values()
    assert "while_loop" in {operation.type for operation in block.operations}
    model.save(str(tmp_path / "gru.mlpackage"))
    found = load_mil(tmp_path / "gru.mlpackage").predict({"x": x})["y"]
    with torch.no_grad():
        np.testing.assert_allclose(found, module(torch.from_numpy(x)).numpy(), atol=1e-6)
