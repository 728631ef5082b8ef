"""Where a killed run goes on: weights after each epoch, and all else that the next step depends on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from personality_common.files.tensors import load_tensors, save_tensors
from personality_common.errors import DataError
from personality_common.terminal.progress import Reporter

_WEIGHTS_NAME: Final = re.compile(r"epoch_(\d+)_valloss_[0-9.]+\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """The state after an epoch.

    Attributes:
        epoch: epochs done, from 1.
        step: optimizer steps done; the schedule's position.
        weights: the student's tensors, by name.
        optimizer: AdamW's tensors, `<parameter index>/<exp_avg|exp_avg_sq|step>`.
        history: one entry per epoch, the start included.
    """

    epoch: int
    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    history: list[dict[str, Any]]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, val_loss: float) -> Path:
    """Write a checkpoint; the weights come last, so that where they are, the rest is too."""
    path = folder / f"epoch_{checkpoint.epoch}_valloss_{val_loss:.6f}.safetensors"
    state = {f"optimizer/{name}": tensor for name, tensor in checkpoint.optimizer.items()}
    progress = {
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "history": checkpoint.history,
    }
    save_tensors(_state_path(path), state, {"progress": json.dumps(progress)})
    save_tensors(path, checkpoint.weights)
    return path


def newest_checkpoint(folder: Path, reporter: Reporter) -> Checkpoint | None:
    """The last checkpoint that is whole; a damaged one is reported and passed over.

    Training from an earlier checkpoint gives the same bits, only later.
    """
    found = [
        (int(match[1]), path)
        for path in folder.glob("epoch_*.safetensors")
        if (match := _WEIGHTS_NAME.fullmatch(path.name))
    ]
    for _, path in sorted(found, reverse=True):
        try:
            return _load(path)
        except DataError as error:
            reporter.warn(f"{error}; going on from the checkpoint before it")
    return None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`; the learning rate is the schedule's and is set each step."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _state_path(weights: Path) -> Path:
    return weights.with_suffix(".state.safetensors")


def _load(path: Path) -> Checkpoint:
    weights, _ = load_tensors(path)
    state, state_metadata = load_tensors(_state_path(path))
    try:
        progress = json.loads(state_metadata["progress"])
        return Checkpoint(
            epoch=progress["epoch"],
            step=progress["step"],
            weights=weights,
            optimizer=_under("optimizer/", state),
            history=progress["history"],
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"{_state_path(path)}: not the state of a checkpoint: {error}") from None


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
