"""Core ML itself, where there is one; and what is said where there is none."""

import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mil_specs import spec

from device_sim.runtimes.coreml import COMPUTE_UNITS, CoreMLModel, CoreMLRuntime
from device_sim.runtimes.coreml_update import calibrate, fit_factor, run_update, unavailable
from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import predict_rows
from personality_common.coreml.package import Package
from personality_common.errors import ConfigError, ToolkitError
from pretrain.personality.run import load_run

on_a_mac = pytest.mark.skipif(unavailable() is not None, reason=f"update task: {unavailable()}")
off_a_mac = pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML is available here")
HEAD = "PersonalityHead.mlpackage"


@off_a_mac
def test_says_why_it_is_unavailable(bundle: Path) -> None:
    reason = CoreMLRuntime().unavailable()
    assert reason is not None
    assert "macOS only" in reason
    with pytest.raises(ToolkitError, match=r"runtime coreml is not available: .*macOS only"):
        CoreMLRuntime().load(bundle / HEAD)
    with pytest.raises(ToolkitError, match="update task cannot run here"):
        run_update(bundle / HEAD, {}, bundle / "none", learning_rate=1.0)


def test_compute_units_are_coremltools(recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as ct
    assert {getattr(ct.ComputeUnit, name) for name in COMPUTE_UNITS.values()} == set(ct.ComputeUnit)
    with pytest.raises(ConfigError, match="--compute-units must be one of"):
        CoreMLRuntime("npu")


@pytest.mark.parametrize(("space", "number"), [("gray", 10), ("rgb", 20), ("bgr", 30), ("gray", 40)])
def test_images_as_coremltools_takes_and_gives_them(space: str, number: int) -> None:
    """Its own check of modes judges what goes in; a model that gives its input back, what comes out."""
    from coremltools.models import MLModel

    model = spec({}, {})
    for described in (model.description.input, model.description.output):
        image = described.add(name="photo").type.imageType
        image.height, image.width, image.colorSpace = 2, 3, number
    given: list[Any] = []

    class Echo:
        def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
            MLModel._verify_pil_image_modes(SimpleNamespace(_spec=model), inputs)
            given.append(inputs["photo"])
            return inputs

    whole = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)  # rows of pixels, red first
    pixels: Any = whole[None, ..., 0] if space == "gray" else whole.transpose(2, 0, 1)
    pixels = pixels[::-1] if space == "bgr" else pixels
    found = CoreMLModel(Package(Path("m"), model, "", Path("m")), Echo(), {}).predict({"photo": pixels})
    np.testing.assert_array_equal(found["photo"], pixels)
    np.testing.assert_array_equal(np.asarray(given[0]), whole[..., 0] if space == "gray" else whole)


def test_factor_from_a_step_of_torch() -> None:
    """SGD on torch's own mse_loss, the mean over batch and outputs: c is N * outputs / 2."""
    import torch

    torch.manual_seed(0)
    latent, weight, bias = torch.randn(4, 8), torch.randn(5, 8), torch.randn(5)
    target = torch.randn(4, 5)
    layer = torch.nn.Linear(8, 5)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    logits = layer(latent)
    torch.nn.functional.mse_loss(logits, target).backward()
    optimizer.step()
    change = torch.cat([(layer.weight - weight).ravel(), layer.bias - bias]).detach().numpy()
    found = fit_factor(change, latent.numpy(), (logits - target).detach().numpy(), 0.5)
    assert found.expected == 10
    assert found.c == pytest.approx(10, rel=1e-5)  # float32 sums
    assert found.residual < 1e-5


@pytest.mark.coreml
@on_a_mac
@pytest.mark.parametrize(
    "package", [HEAD, "PersonalityModel.mlpackage", "PersonalityModelUpdatable.mlpackage"]
)
def test_agrees_with_the_interpreter(bundle: Path, package: str) -> None:
    models = [runtime.load(bundle / package) for runtime in (MilRuntime(), CoreMLRuntime("cpu"))]
    (feature,) = models[0].inputs
    rows = np.random.default_rng(0).standard_normal((5, feature.shape[1])).astype(np.float32) / 40
    mil, coreml = (predict_rows(model, {feature.name: rows}) for model in models)
    np.testing.assert_allclose(coreml["logits"], mil["logits"], rtol=0, atol=1e-4)  # float32.logits


@pytest.mark.coreml
@on_a_mac
def test_update_task_is_sgd_on_the_squared_error(bundle: Path, run_folder: Path, tmp_path: Path) -> None:
    run = load_run(run_folder)
    weight = run.model.projection.weight.detach().numpy()
    bias = run.model.output_bias.detach().numpy()
    found = calibrate(bundle / HEAD, weight, bias, tmp_path / "updated.mlmodelc")
    (tmp_path / "calibration.json").write_text(json.dumps(vars(found)))
    assert found.residual < 1e-3, found  # float32 differences of weights of size 0.1
    assert found.c > 0
    assert (tmp_path / "updated.mlmodelc").is_dir()
