"""The backend mlx against PyTorch's, in MLX's CPU build: the same weights, rows and training."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from trainings import CONFIG, HELD_OUT, REPLAY, TRAIN, Killed, Killer

from device_sim.adapters.codec import ADAPTERS
from device_sim.finetuning import mlx_gradients, torch_gradients
from device_sim.finetuning.torch_base import TorchBase
from device_sim.finetuning.torch_gradients import TorchGradients
from device_sim.finetuning.training import train_adapter
from device_sim.night.engine import Prompted
from device_sim.night.models import ModelEngine
from personality_common.errors import ToolkitError
from personality_common.terminal.progress import SILENT

has_mlx = importlib.util.find_spec("mlx_lm") is not None
needs_mlx = pytest.mark.skipif(not has_mlx, reason="of the extra mlx")
MLX = dataclasses.replace(CONFIG, backend="mlx", epochs=2)


@pytest.fixture(scope="module")
def base(tiny_llama: Path) -> TorchBase:
    return TorchBase(tiny_llama)


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_gradients, "bfloat16_is_fast", lambda: False)


@needs_mlx
@pytest.mark.parametrize("loss_on", ["answer", "all"])
@pytest.mark.parametrize("replayed", [[], [2, 0, 3]])
def test_losses_and_gradients_are_pytorchs(
    base: TorchBase, loss_on: Literal["answer", "all"], replayed: list[int]
) -> None:
    config = dataclasses.replace(MLX, loss_on=loss_on, replay_weight=2.0)
    rows, replay = base.rows(TRAIN), base.rows(REPLAY)
    torch.manual_seed(3)
    with base.lora(config.rank, config.alpha) as model:
        ours = TorchGradients(model, replay, config)
        with torch.no_grad():
            for parameter in ours.parameters.values():  # B, too: beside a B of zeros A has no gradient
                parameter.add_(0.05 * torch.randn(parameter.shape))
        copied = {name: torch.nn.Parameter(value.detach().clone()) for name, value in ours.parameters.items()}
        expected = ours.step(rows[:3], replayed)
        expected_losses = ours.losses(rows)
        gradients = {name: value.grad for name, value in ours.parameters.items()}
    theirs = mlx_gradients.MlxGradients(base, copied, replay, config)
    assert theirs.step(rows[:3], replayed) == pytest.approx(expected, rel=1e-5)
    assert theirs.losses(rows) == pytest.approx(expected_losses, rel=1e-5)
    for name, gradient in gradients.items():
        found = copied[name].grad
        assert gradient is not None
        assert found is not None
        assert float(gradient.abs().max()) > 1e-4
        np.testing.assert_allclose(
            found.numpy(), gradient.numpy(), atol=1e-4 * float(gradient.abs().max()) + 1e-7
        )


@needs_mlx
def test_a_training_is_pytorchs_but_for_rounding_and_survives_a_kill(base: TorchBase, tmp_path: Path) -> None:
    ours = train_adapter(
        base, TRAIN, HELD_OUT, dataclasses.replace(MLX, backend="torch"), tmp_path / "a", replay=REPLAY
    )
    theirs = train_adapter(base, TRAIN, HELD_OUT, MLX, tmp_path / "b", replay=REPLAY)
    assert theirs.best_step == ours.best_step
    for one, other in zip(theirs.history, ours.history, strict=True):
        assert one["held_out_loss"] == pytest.approx(other["held_out_loss"], abs=1e-3)
    for name, values in ours.adapter.tensors.items():
        # Adam's first steps are signs of gradients, where one may be around 0.
        assert np.abs(theirs.adapter.tensors[name] - values).mean() < 1e-3
    with pytest.raises(Killed):
        train_adapter(base, TRAIN, HELD_OUT, MLX, tmp_path / "c", Killer(4), replay=REPLAY)
    again = train_adapter(base, TRAIN, HELD_OUT, MLX, tmp_path / "c", replay=REPLAY)
    assert ADAPTERS.fingerprint(again.adapter) == ADAPTERS.fingerprint(theirs.adapter)


def test_without_mlx_one_line_says_what_to_install(
    base: TorchBase, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for asked in (
        lambda: train_adapter(base, TRAIN, HELD_OUT, MLX, tmp_path),
        lambda: ModelEngine(tiny_llama, backend="mlx"),
    ):
        with pytest.raises(ToolkitError, match=r"needs mlx-lm; pip install 'personality-toolkit\[mlx\]'"):
            asked()


@needs_mlx
def test_a_nights_engine_trains_with_it(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [(Prompted(f"What is {n}?"), "It is that.") for n in ("one", "two", "three")]
    steps: list[float] = []
    step = mlx_gradients.MlxGradients.step

    def counted(*given: Any) -> float:
        steps.append(step(*given))
        return steps[-1]

    monkeypatch.setattr(mlx_gradients.MlxGradients, "step", counted)
    found = ModelEngine(tiny_llama, backend="mlx").train(
        said, said[:1], [], tmp_path / "a.gguf", tmp_path / "work", seed=0, minutes=9, reporter=SILENT
    )
    assert found.epochs[-1].train_loss < found.epochs[0].train_loss
    assert len(steps) == found.epochs[-1].step
    assert (tmp_path / "a.gguf").stat().st_size > 1000
