"""`pt trace` predicts what coremltools' float16 conversion does, and names what makes NaN."""

import warnings
from pathlib import Path

import float16_models
import numpy as np
import pytest
import torch
from float16_models import FEW, Of, errors, save
from torch import nn

from device_sim.mil import load_mil
from device_sim.trace.float16 import half_constant
from device_sim.trace.records import OpTrace, by_added
from device_sim.trace.trace import trace_package

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _traced(
    module: nn.Module, x: torch.Tensor, path: Path, precision: str = "FLOAT32", against: str = "float16"
) -> list[OpTrace]:
    torch.manual_seed(0)
    save(module, x, path, precision)
    return list(trace_package(path, {"x": x.numpy()}, against))


@pytest.mark.parametrize("name", FEW)
def test_the_error_is_that_of_a_real_conversion(name: str) -> None:
    predicted, real = errors(name)
    assert real > 0
    # The same program in the same interpreter: far closer than the factor of 3 that is asked for.
    assert predicted == pytest.approx(real, rel=0.01)


def test_before_ios_17_epsilon_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Of(lambda x: torch.rsqrt(x.abs() * 1e-3))
    monkeypatch.setitem(float16_models.MODELS, "rsqrt", lambda: (module, torch.rand(8, 16) * 1e-3))
    for target in ("iOS15", "iOS17"):
        predicted, real = errors("rsqrt", target)
        assert predicted == pytest.approx(real, rel=0.01)


def test_the_body_of_a_loop_is_converted_too(tmp_path: Path) -> None:
    import coremltools as ct  # here: the models' module imports it first, its warnings silenced

    x = np.linspace(0.1, 1, 8, dtype=np.float32)
    mb = ct.converters.mil.mil.Builder
    for precision in ("FLOAT32", "FLOAT16"):
        program = mb.program(input_specs=[mb.TensorSpec((8,))], opset_version=ct.target.iOS17)(
            lambda x: mb.while_loop(
                _cond=lambda i, y: mb.less(x=i, y=5),
                _body=lambda i, y: (mb.add(x=i, y=1), mb.sub(x=mb.add(x=y, y=100.0), y=99.7)),
                loop_vars=(0, x),
            )[1]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ct.convert(
                program,
                inputs=[ct.TensorType("x", shape=(8,), dtype=np.float32)],
                compute_precision=ct.precision[precision],
                minimum_deployment_target=ct.target.iOS17,
                skip_model_load=True,
            ).save(str(tmp_path / f"{precision}.mlpackage"))
    (expected,) = load_mil(tmp_path / "FLOAT32.mlpackage", "float64").predict({"x": x}).values()
    (got,) = load_mil(tmp_path / "FLOAT16.mlpackage").predict({"x": x}).values()
    real = np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2))
    *_, end = trace_package(tmp_path / "FLOAT32.mlpackage", {"x": x})
    assert real > 1e-3
    assert end.accumulated.relative == pytest.approx(real, rel=0.5)


def test_constants_become_what_numpy_makes_of_them() -> None:
    tiny = float(np.finfo(np.float16).smallest_subnormal)
    constant = np.array([1e-12, -1e-12, 0.0, 0.1, -3.4e38], np.float32)
    with np.errstate(over="ignore"):
        expected = np.array([tiny, -tiny, 0, np.float16(0.1), -np.inf], np.float32)
    np.testing.assert_array_equal(half_constant(constant), expected)
    assert half_constant(np.full(400, 1e-12, np.float32)).max() == 0
    assert half_constant(np.array([70_000], np.int32)) == 70_000


def test_ids_in_floats_find_their_rows(tmp_path: Path) -> None:
    """Moved, compared, and cast to integers: exact, where float16 has 30000 for 30001."""

    def rows(ids: torch.Tensor, table: nn.Module) -> torch.Tensor:
        moved = ids.reshape(2, 2)[:, 1:]
        known = (ids == 30000).to(torch.float32).sum()
        found: torch.Tensor = table(moved.to(torch.int32)).sum(-1) + known
        return found

    torch.manual_seed(0)
    table = nn.Embedding(32000, 8)
    ids = torch.tensor([[7.0, 30001.0, 4097.0, 2049.0]])
    records = {r.output: r for r in _traced(Of(rows, table), ids, tmp_path / "m.mlpackage")}
    assert records["x"].accumulated.max_abs == 0
    assert {
        r.accumulated.max_abs for r in records.values() if r.op in ("cast", "equal", "slice_by_index")
    } == {0}
    # Rounding of the weights; another row would be an error of 1.
    assert 0 < records["y"].accumulated.relative < 1e-2
    # A value that is computed is no id, whatever it is cast to: float16 has it.
    computed = Of(lambda x: (x * 1.0001 + 0.5).to(torch.int32))
    ((_, end),) = [(r.op, r) for r in _traced(computed, ids, tmp_path / "c.mlpackage") if r.output == "y"]
    assert end.accumulated.max_abs >= 1


class Masked(nn.Module):
    """A mask that is 0 * -inf where nothing is masked, once the constant is infinite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        keep = (x > 0).float()
        return torch.softmax(x.abs() + torch.finfo(torch.float32).min * (1 - keep), -1)


def test_the_op_that_makes_nan_comes_first(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 8)
    for precision in ("FLOAT32", "FLOAT16"):
        records = _traced(Masked(), x, tmp_path / f"{precision}.mlpackage", precision)
        first, *others = by_added(records)
        assert (first.op, first.overflow) == ("mul", "nan"), precision
        (end,) = (r for r in others if r.output == "y")
        assert end.overflow == "before"
        assert not np.isfinite(end.accumulated.relative)
    # The float16 package itself gives NaN, so both sides do; the error is not 0 but none at all.
    assert np.isnan(end.accumulated.relative)
    assert np.isnan(load_mil(tmp_path / "FLOAT16.mlpackage").predict({"x": x.numpy()})["y"]).any()


def test_an_infinity_that_the_package_means_is_nobodys_doing(tmp_path: Path) -> None:
    """-inf masks every decoder has; a row that is masked altogether is the softmax' own NaN."""
    mask = torch.full((4, 4), -torch.inf).triu(1)
    path = tmp_path / "m.mlpackage"
    records = _traced(Of(lambda x: torch.softmax(x + mask, -1)), torch.randn(4, 4), path)
    assert not any(r.overflow for r in records)
    mask[0] = -torch.inf
    path = tmp_path / "row.mlpackage"
    first, *_ = by_added(_traced(Of(lambda x: torch.softmax(x + mask, -1)), torch.randn(4, 4), path))
    assert (first.op, first.overflow) == ("softmax", "nan")


def test_int8_and_torch_name_it_too(tmp_path: Path) -> None:
    module = Of(lambda x, f: torch.log(torch.relu(f(x)) - 1).exp(), nn.Linear(16, 16))
    x = torch.randn(2, 16)
    for against in ("int8", "torch"):
        first, *_ = by_added(_traced(module, x, tmp_path / f"{against}.mlpackage", "FLOAT32", against))
        assert (first.op, first.overflow) == ("log", "nan")
