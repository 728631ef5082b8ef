"""The default backend: PyTorch, with peft's LoRA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from device_sim.finetuning.config import LoraConfig
from device_sim.finetuning.examples import Row
from device_sim.finetuning.torch_base import (
    TorchBase,
    divergences,
    lora_parameters,
    row_losses,
    token_losses,
    token_states,
)


@contextlib.contextmanager
def torch_gradients(base: TorchBase, replay: Sequence[Row], config: LoraConfig) -> Iterator[TorchGradients]:
    """The base with a new LoRA in it, for as long as the block takes."""
    with base.lora(config.rank, config.alpha) as model:
        yield TorchGradients(model, replay, config)


class TorchGradients:
    """See `Gradients`. Steps are in bfloat16 where the processor multiplies in it."""

    def __init__(self, model: Any, replay: Sequence[Row], config: LoraConfig) -> None:
        self.model, self.replay, self.config = model, replay, config
        self.parameters = lora_parameters(model)
        self.states = _states(model, replay)

    def step(self, batch: Sequence[Row], replayed: Sequence[int]) -> float:
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
            loss = self._loss(batch, replayed)
        for parameter in self.parameters.values():
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _loss(self, batch: Sequence[Row], replayed: Sequence[int]) -> Tensor:
        losses, _ = token_losses(self.model, batch, whole=self.config.loss_on == "all")
        if not replayed:
            return losses.mean()
        now, _, _ = token_states(self.model, [self.replay[i] for i in replayed], whole=True)
        before = torch.cat([self.states[i] for i in replayed])
        return losses.mean() + self.config.replay_weight * divergences(self.model, now, before).mean()

    def losses(self, rows: Sequence[Row]) -> list[float]:
        self.model.eval()
        return row_losses(self.model, rows)


def _states(model: Any, rows: Sequence[Row]) -> list[Tensor]:
    """(tokens, width) each: what the base, without the adapter, predicts all tokens of rows from."""
    with torch.no_grad(), model.disable_adapter():
        return [token_states(model, [row], whole=True)[0] for row in rows]


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies in bfloat16; where it only emulates that, float32 is quicker."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
