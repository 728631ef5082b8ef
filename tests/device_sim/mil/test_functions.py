"""Packages of several functions, and ML Programs that classify: written by coremltools, against torch."""

import warnings
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from mil_convert import convert

from device_sim.mil import load_mil
from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.running import run_package
from personality_common.errors import DataError

X = {n: np.random.default_rng(n).normal(size=(n, 8)).astype(np.float32) for n in (1, 4)}


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Softmax(1)).eval()


def wanted(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(x)))


@pytest.fixture(scope="module")
def two(module: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Functions `one` and `four`, of batches of that size; `four` is the default."""
    folder = tmp_path_factory.mktemp("functions")
    functions = ct.utils.MultiFunctionDescriptor()
    for name, size in (("one", 1), ("four", 4)):
        model = convert(module, {f"x_{name}": X[size]}, most=None, target="iOS18")
        model.save(str(folder / f"{name}.mlpackage"))
        functions.add_function(str(folder / f"{name}.mlpackage"), "main", name)
    functions.default_function_name = "four"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct.utils.save_multifunction(functions, str(folder / "two.mlpackage"))
    return folder / "two.mlpackage"


@pytest.mark.parametrize(
    ("function", "name", "size"), [(None, "x_four", 4), ("four", "x_four", 4), ("one", "x_one", 1)]
)
def test_a_function_runs_on_its_own_inputs(
    two: Path, module: torch.nn.Module, function: str | None, name: str, size: int, tmp_path: Path
) -> None:
    np.savez(tmp_path / "in.npz", **{name: X[size]})  # type: ignore[arg-type]
    run_package(RunConfig(two, tmp_path / "in.npz", tmp_path / "out.npz", function=function))
    found = np.load(tmp_path / "out.npz")["y"]
    np.testing.assert_allclose(found, wanted(module, X[size]), atol=1e-6)


def test_a_function_that_is_not_there_is_named_with_those_that_are(two: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x_one=X[1])
    config = RunConfig(two, tmp_path / "in.npz", tmp_path / "out.npz", function="two")
    with pytest.raises(DataError, match="no function 'two'; its functions: four, one"):
        run_package(config)


@pytest.mark.parametrize("labels", [["a", "b", "c"], [10, 20, 30]])
def test_a_program_that_classifies_gives_a_label_and_scores(
    module: torch.nn.Module, labels: list[Any], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.convert(
            torch.jit.trace(module, torch.from_numpy(X[1])),  # type: ignore[no-untyped-call]
            inputs=[ct.TensorType("x", shape=(1, 8))],
            classifier_config=ct.ClassifierConfig(labels, predicted_feature_name="kind"),
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
    model.save(str(tmp_path / "kind.mlpackage"))
    found = load_mil(tmp_path / "kind.mlpackage").predict({"x": X[1]})
    scores = wanted(module, X[1])[0]
    assert found.pop("kind") == labels[int(scores.argmax())]
    (dictionary,) = found.values()
    assert list(dictionary) == labels
    np.testing.assert_allclose(list(dictionary.values()), scores, atol=1e-6)
