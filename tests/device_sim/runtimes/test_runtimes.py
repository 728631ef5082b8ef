"""Runtimes against the modules and the arithmetic that they stand for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from device_sim.runtimes.mil import MilRuntime
from device_sim.runtimes.runtime import Runtime, most_rows, predict_rows
from device_sim.runtimes.torch_mirror import TorchRuntime
from personality_common.coreml.features import Feature
from personality_common.errors import DataError, ToolkitError
from pretrain.personality.run import Run, load_run


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return load_run(run_folder)


@pytest.fixture(scope="module")
def embedding() -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((70, 1536)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("package", ["PersonalityModel", "PersonalityModelUpdatable"])
def test_both_compute_the_model(bundle: Path, run: Run, embedding: np.ndarray, package: str) -> None:
    with torch.inference_mode():
        wanted = run.model(torch.from_numpy(embedding)).numpy()
    runtimes: tuple[Runtime, ...] = (MilRuntime(), TorchRuntime(run, lambda _: {}))
    for runtime in runtimes:
        assert runtime.unavailable() is None
        found = predict_rows(runtime.load(bundle / f"{package}.mlpackage"), {"embedding": embedding})
        assert found["logits"].dtype == np.float32
        assert found["logits"].shape == (70, 325)
        # 70 rows in batches of 64 or 1: other sums of 512 to 2048 float32 terms.
        np.testing.assert_allclose(found["logits"], wanted, rtol=0, atol=1e-5)


def test_state_holds_the_head(bundle: Path, run: Run, embedding: np.ndarray) -> None:
    path = bundle / "PersonalityModelStateful.mlpackage"
    states = {
        "projection_weight": run.model.projection.weight.detach().numpy().astype(np.float16),
        "output_bias": run.model.output_bias.detach().numpy().astype(np.float16),
    }
    with torch.inference_mode():
        latent = run.model.backbone(torch.from_numpy(embedding[:3])).numpy()
    weight, bias = (state.astype(np.float64) for state in states.values())
    wanted = latent.astype(np.float64) @ weight.T + bias
    runtimes: tuple[Runtime, ...] = (MilRuntime(), TorchRuntime(run, lambda _: {}))
    for runtime in runtimes:
        found = runtime.load(path, states).predict({"embedding": embedding[:3]})
        np.testing.assert_allclose(found["logits"], wanted, rtol=0, atol=1e-5)
    empty = MilRuntime().load(path).predict({"embedding": embedding[:3]})
    assert not empty["logits"].any(), "new state buffers are zero"
    with pytest.raises(DataError, match="no state 'bias'"):
        MilRuntime().load(path, {"bias": states["output_bias"]})


def test_inputs_are_checked(bundle: Path, run: Run) -> None:
    runtimes: tuple[Runtime, ...] = (MilRuntime(), TorchRuntime(run, lambda _: {}))
    good = np.zeros((1, 1536), np.float32)
    for runtime in runtimes:
        model = runtime.load(bundle / "PersonalityModel.mlpackage")
        for inputs, says in (
            ({"embeddings": good}, "must be"),
            ({"embedding": good[0]}, r"must have shape \(1\.\.64, 1536\), got \(1536,\)"),
            ({"embedding": np.zeros((65, 1536), np.float32)}, r"\(65, 1536\)"),
            ({"embedding": np.zeros((1, 1536), np.int32)}, "must be float32, got int32"),
        ):
            with pytest.raises(DataError, match=says):
                model.predict(inputs)


def test_layers_are_pytorchs_own(bundle: Path, run: Run, embedding: np.ndarray) -> None:
    mirror = TorchRuntime(run, lambda _: {}).load(bundle / "PersonalityModel.mlpackage")
    layers = mirror.layers({"embedding": embedding[:2]})  # type: ignore[union-attr]
    x = torch.from_numpy(embedding[:2])
    with torch.inference_mode():
        projected = run.model.input_projection(x)
        first: Any = run.model.encoder[0]
        normed = first.attention_norm(projected)
    torch.testing.assert_close(torch.from_numpy(layers["input_projection"]), projected)
    torch.testing.assert_close(torch.from_numpy(layers["encoder.0.attention_norm"]), normed)
    assert set(layers) >= {"encoder.1.ffn_out", "projection"}
    assert not any(name.endswith((".q", ".k")) for name in layers)


def test_a_mirror_without_weights(bundle: Path) -> None:
    with pytest.raises(ToolkitError, match="mirror needs"):
        TorchRuntime(None, lambda _: {}).load(bundle / "PersonalityHead.mlpackage")


@pytest.mark.parametrize(
    ("feature", "rows"),
    [
        (Feature("a", "multiArray", "float32", (1, 3)), 1),
        (Feature("a", "multiArray", "float32", (1, 3), ((1, 64), (3, 3))), 64),
        (Feature("a", "multiArray", "float32", (1, 3), (), ((1, 3), (8, 3))), 8),
        (Feature("a", "multiArray", "float32", (1, 3), ((1, None), (3, 3))), 64),
    ],
)
def test_most_rows(feature: Feature, rows: int) -> None:
    assert most_rows(feature) == rows
