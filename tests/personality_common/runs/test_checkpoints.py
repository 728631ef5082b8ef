"""A trainer that is nothing like the personality's goes on from its checkpoints, bit for bit."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from personality_common.files.tensors import load_tensors, save_tensors
from personality_common.runs.checkpoints import Checkpoint, Checkpoints, Retention
from personality_common.terminal.progress import SILENT, Silent


class Listener(Silent):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, message: str) -> None:
        self.warned.append(message)


class Trainer:
    """Counts steps and samples, drops out, and has two optimizers: of matrices, and of all else."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.at = Checkpoint(0, {"samples": 0}, [])
        matrices = [p for p in self.model.parameters() if p.ndim == 2]
        rest = [p for p in self.model.parameters() if p.ndim != 2]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SGD(matrices, lr=0.05, momentum=0.9),
            torch.optim.AdamW(rest, lr=0.01),
        ]

    def train(self, steps: int) -> None:
        data = torch.arange(400.0).reshape(100, 4) / 400
        for _ in range(steps):
            x = data[(first := self.at.position["samples"] % 100) : first + 5]
            functional.mse_loss(self.model(x), x.sum(1, keepdim=True)).backward()
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            samples = {"samples": self.at.position["samples"] + 5}
            self.at = dataclasses.replace(self.at, step=self.at.step + 1, position=samples)

    def save(self, checkpoints: Checkpoints, loss: float) -> None:
        self.at.history.append({"step": self.at.step, "loss": loss})
        checkpoints.save(self.at, loss, self.model, self.optimizers)

    @property
    def bits(self) -> list[Tensor]:
        return [p.detach() for p in self.model.parameters()]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", count="step", metric="loss")


def names(checkpoints: Checkpoints) -> list[str]:
    found = sorted(path.name for path in checkpoints.folder.iterdir())
    assert len(found) % 2 == 0
    weights = [name.removesuffix(".safetensors") for name in found if ".state." not in name]
    assert {f"{name}.state.safetensors" for name in weights} < set(found)
    return sorted(weights, key=lambda name: int(name.split("_")[1]))


def test_goes_on_bit_for_bit(checkpoints: Checkpoints) -> None:
    whole = Trainer()
    whole.train(7)
    whole.save(checkpoints, 0.25)
    again = Trainer()
    torch.manual_seed(99)
    found = checkpoints.restore(again.model, again.optimizers, SILENT)
    assert found == Checkpoint(7, {"samples": 35}, [{"step": 7, "loss": 0.25}])
    again.at = found
    again.train(9)

    uninterrupted = Trainer()
    uninterrupted.train(16)
    assert same(again.bits, uninterrupted.bits)
    assert again.at.position == uninterrupted.at.position == {"samples": 80}


def test_state_is_named_by_parameter(checkpoints: Checkpoints) -> None:
    trainer = Trainer()
    trainer.train(1)
    trainer.save(checkpoints, 0.5)
    tensors, _ = load_tensors(checkpoints.folder / "step_1_loss_0.500000.state.safetensors")
    adam = {f"optimizer/{n}.bias/{e}" for n in "02" for e in ("exp_avg", "exp_avg_sq", "step")}
    sgd = {f"optimizer/{n}.weight/momentum_buffer" for n in "02"}
    assert tensors.keys() == adam | sgd | {"random/cpu"}
    weights, _ = load_tensors(checkpoints.folder / "step_1_loss_0.500000.safetensors")
    assert weights.keys() == trainer.model.state_dict().keys()


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (None, [1, 2, 3, 4, 5, 6, 7]),
        (Retention(), [3, 6, 7]),
        (Retention(last=1, best=2), [3, 4, 7]),
        (Retention(last=1, best=0, every=3), [3, 6, 7]),
    ],
)
def test_retention(checkpoints: Checkpoints, keep: Retention | None, kept: list[int]) -> None:
    checkpoints = dataclasses.replace(checkpoints, keep=keep)
    trainer = Trainer()
    losses = [0.9, 0.2, 0.1, 0.2, 0.3, 0.4, 0.3]
    for loss in losses[: kept[-1]]:
        trainer.train(1)
        trainer.save(checkpoints, loss)
    assert names(checkpoints) == [f"step_{n}_loss_{losses[n - 1]:.6f}" for n in kept]


def test_ten_comes_after_nine_and_leftovers_go(checkpoints: Checkpoints) -> None:
    trainer = Trainer()
    for steps in (9, 1):
        trainer.train(steps)
        trainer.save(checkpoints, 0.5)
        # As a kill leaves them: a half-written file, and a state whose weights were never written.
        (checkpoints.folder / ".step_11_loss_0.5.state.safetensors.x.tmp").touch()
        (checkpoints.folder / "step_11_loss_0.400000.state.safetensors").touch()
    found = checkpoints.restore(trainer.model, trainer.optimizers, SILENT)
    assert found is not None
    assert found.step == 10
    trainer.train(2)
    trainer.save(checkpoints, 0.5)
    assert names(checkpoints) == [f"step_{n}_loss_0.500000" for n in (9, 10, 12)]


def test_nothing_half_is_taken_up(checkpoints: Checkpoints) -> None:
    """A whole file with a state that is not this model's: model and optimizers stay as they are."""
    trainer = Trainer()
    trainer.train(1)
    trainer.save(checkpoints, 0.5)
    path = checkpoints.folder / "step_1_loss_0.500000.state.safetensors"
    tensors, metadata = load_tensors(path)
    wrong: list[tuple[dict[str, Tensor], dict[str, str]]] = [
        (tensors | {"optimizer/0.bias/exp_avg": torch.zeros(3)}, metadata),
        (tensors | {"optimizer/9.bias/exp_avg": torch.zeros(1)}, metadata),
        (tensors, {}),
        (tensors, {"checkpoint": "[]"}),
        (tensors, {"checkpoint": '{"epoch": 1}'}),
    ]
    for content, says in wrong:
        save_tensors(path, content, says)
        fresh, listener = Trainer(), Listener()
        assert checkpoints.restore(fresh.model, fresh.optimizers, listener) is None
        assert len(listener.warned) == 1
        assert "not the state of a checkpoint of this model" in listener.warned[0]
        assert same(fresh.bits, Trainer().bits)
        assert not any(optimizer.state for optimizer in fresh.optimizers)


def test_another_model_s_is_passed_over(checkpoints: Checkpoints) -> None:
    trainer = Trainer()
    trainer.save(checkpoints, 0.5)
    other = nn.Linear(4, 1)
    listener = Listener()
    assert checkpoints.restore(other, [], listener) is None
    assert "must hold the tensors of Linear" in listener.warned[0]
