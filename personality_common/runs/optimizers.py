"""Optimizers that import nothing.

Those of `torch.optim` import torch._dynamo, and SymPy with it, when they are made: 800 modules, which take as
long as PyTorch itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Optimizer(Protocol):
    """What the loops and their checkpoints need of one, be it from here or from `torch.optim`."""

    @property
    def state(self) -> MutableMapping[Any, Any]: ...

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def step(self) -> Any: ...

    def zero_grad(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class OwnOptimizer:
    """Groups of parameters, and the state of each parameter, kept and stored as `torch.optim` does.

    Args:
        parameters: or groups of them, each a mapping with `params` and what differs from `defaults`.
        defaults: of every group.
    """

    def __init__(
        self, parameters: Iterable[Tensor] | Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]
    ) -> None:
        given = list(parameters)
        groups: Sequence[Any] = given if given and isinstance(given[0], Mapping) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            {**defaults, **group, "params": list(group["params"])} for group in groups
        ]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Let go of the gradients."""
        for parameter in self._parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """States by the number of their parameter; groups with numbers in the place of parameters."""
        number = {parameter: i for i, parameter in enumerate(self._parameters())}
        groups = [{**group, "params": [number[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": {number[p]: state for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the states, each on its parameter's device; and of the groups all but the parameters."""
        for own, group in zip(self.param_groups, state_dict["param_groups"], strict=True):
            own.update({name: value for name, value in group.items() if name != "params"})
        parameters = self._parameters()
        self.state = {
            parameters[number]: {name: x.to(parameters[number].device) for name, x in entries.items()}
            for number, entries in state_dict["state"].items()
        }

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class FusedAdamW(OwnOptimizer):
    """`torch.optim.AdamW(fused=True)`, bit for bit: the same kernel, one pass over memory for a step."""

    def __init__(
        self,
        parameters: Iterable[Tensor] | Sequence[Mapping[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            for parameter in moved:
                if parameter not in self.state:
                    self.state[parameter] = {
                        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
            steps, means, squares = (
                [self.state[parameter][name] for parameter in moved]
                for name in ("step", "exp_avg", "exp_avg_sq")
            )
            torch._foreach_add_(steps, 1)
            beta1, beta2 = group["betas"]
            torch._fused_adamw_(
                moved, [parameter.grad for parameter in moved], means, squares, [], steps,
                lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"],
                eps=group["eps"], amsgrad=False, maximize=False,
            )  # fmt: skip


def adamw(
    parameters: Iterable[Tensor] | Sequence[Mapping[str, Any]], *, device: str, **options: Any
) -> Optimizer:
    """AdamW for parameters on a device; PyTorch's own, in single operations, on mps."""
    if device == "mps":
        own: Optimizer = torch.optim.AdamW(parameters, **options)  # type: ignore[arg-type]
        return own
    return FusedAdamW(parameters, **options)
