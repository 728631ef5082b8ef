"""Muon for the matrices of the layers, AdamW for all else; and how fast each may learn when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from personality_common.runs.device import fast_dtype
from personality_common.runs.optimizers import Optimizer, OwnOptimizer, adamw
from personality_common.runs.schedule import set_learning_rate
from pretrain.lm.config import TrainConfig

BETAS: Final = (0.9, 0.95)
WEIGHT_DECAY: Final = 0.1
"""Of the matrices of the layers."""
MOMENTUM: Final = 0.95
WARM_UP: Final = 0.02
"""Share of the steps in which the rates rise."""
DECAY: Final = 0.5
"""Share of the steps at the end in which they fall."""
PREPARED_DECAY: Final = 0.9
"""The same, where weights are prepared: less is to be found at high rates."""


def rate(step: int, steps: int, decay: float = DECAY) -> float:
    """What the highest learning rates are multiplied with: up in a line, level, down in a line to almost 0,
    over the share `decay` of the steps.

    Source: warm-up, stable, decay; arXiv:2405.18392.
    """
    rise = max(1, round(WARM_UP * steps))
    fall = max(1, round(decay * steps))
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
        groups = [{"params": others, "weight_decay": 0.0}]
        if config.optimizer == "adamw":
            groups.append({"params": matrices, "weight_decay": WEIGHT_DECAY})
        first = adamw(groups, device=others[0].device.type, lr=config.lr, betas=BETAS)
        self.all: Sequence[Optimizer] = [first]
        self.highest = [config.lr]
        if config.optimizer == "muon":
            self.all = [first, Muon(matrices, config.muon_lr, WEIGHT_DECAY)]
            self.highest.append(config.muon_lr)

    def step(self, factor: float) -> None:
        """One step at the highest rates times `factor`; gradients are gone afterwards."""
        for optimizer, highest in zip(self.all, self.highest, strict=True):
            set_learning_rate(optimizer, highest * factor)
            optimizer.step()
            optimizer.zero_grad()


class Muon(OwnOptimizer):
    """Momentum whose step is turned into the nearest matrix that stretches no direction.

    `torch.optim.Muon` with its defaults, in another precision: that one is bound to bfloat16,
    which takes eight times as long as float32 where a CPU has to imitate it, and goes matrix by matrix.

    Args:
        parameters: matrices (rows, columns).
        lr: times sqrt(max(1, rows / columns)).

    Source: https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, parameters: Sequence[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for (rows, columns), parameters in alike.items():
                updates = orthogonal(torch.stack([self._momentum(p) for p in parameters]))
                lr = group["lr"] * max(1, rows / columns) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-lr)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """The gradient with what is left of those before it; Nesterov's."""
        gradient, state = parameter.grad, self.state.setdefault(parameter, {})
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(buffer, MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """(n, rows, columns) -> the same, singular values between 0.7 and 1.2 or so; Newton and Schulz's way.

    The polynomial is steep at 0 rather than exact at 1, which serves training as well in five turns.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.to(fast_dtype(matrices.device.type))
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
