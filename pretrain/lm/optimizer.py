"""Muon for the matrices of the layers, AdamW for all else; and how fast each may learn when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from personality_common.runs.schedule import set_learning_rate
from pretrain.lm.config import OptimizerName, TrainConfig

BETAS: Final = (0.9, 0.95)
WEIGHT_DECAY: Final[dict[OptimizerName, float]] = {"muon": 0.0, "adamw": 0.1}
"""Of the matrices."""
WARM_UP: Final = 0.02
"""Share of the steps in which the rates rise."""
DECAY: Final = 0.5
"""Share of the steps at the end in which they fall."""


def rate(step: int, steps: int) -> float:
    """What the highest learning rates are multiplied with: up in a line, level, down in a line to almost 0.

    Source: warm-up, stable, decay; arXiv:2405.18392.
    """
    rise = max(1, round(WARM_UP * steps))
    fall = max(1, round(DECAY * steps))
    return min(1.0, (step + 1) / rise, (steps - step) / fall)


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a matrix between two layers: the embedding, which is the head too, is none."""
    return parameter.ndim == 2 and not name.startswith("embedding.")


class Optimizers:
    """All optimizers of a decoder, stepped together.

    Attributes:
        all: for checkpoints; each parameter is in one.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        matrices = [p for name, p in model.named_parameters() if is_hidden(name, p)]
        others = [p for name, p in model.named_parameters() if not is_hidden(name, p)]
        decay = WEIGHT_DECAY[config.optimizer]
        # Fused: one pass over memory instead of one per operation.
        groups = [{"params": others, "weight_decay": 0.0}]
        if config.optimizer == "adamw":
            groups.append({"params": matrices, "weight_decay": decay})
        adamw = torch.optim.AdamW(groups, lr=config.lr, betas=BETAS, fused=config.device != "mps")
        self.all: Sequence[torch.optim.Optimizer] = [adamw]
        self.highest = [config.lr]
        if config.optimizer == "muon":
            self.all = [adamw, torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=decay)]
            self.highest.append(config.muon_lr)

    def step(self, factor: float) -> None:
        """One step at the highest rates times `factor`; gradients are gone afterwards."""
        for optimizer, highest in zip(self.all, self.highest, strict=True):
            set_learning_rate(optimizer, highest * factor)
            optimizer.step()
            optimizer.zero_grad()
