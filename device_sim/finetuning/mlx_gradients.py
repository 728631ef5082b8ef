"""The backend `mlx`: mlx-lm's model and its LoRA, on Apple silicon's GPU, or slowly in MLX's CPU build.

The weights are those that PyTorch has, and a LoRA starts with what PyTorch would draw, so that the two differ
by rounding alone. All is float32.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from device_sim.adapters.adapter import LAYERS
from device_sim.adapters.packages import require_mlx
from device_sim.finetuning.config import LoraConfig
from device_sim.finetuning.examples import Row
from device_sim.finetuning.torch_base import TorchBase, lora_parameters


@contextlib.contextmanager
def mlx_gradients(base: TorchBase, replay: Sequence[Row], config: LoraConfig) -> Iterator[MlxGradients]:
    """
    Raises:
        ToolkitError: mlx-lm is not installed.
    """
    require_mlx()
    with base.lora(config.rank, config.alpha) as model:
        start = {name: nn.Parameter(value.detach().clone()) for name, value in lora_parameters(model).items()}
    yield MlxGradients(base, start, replay, config)


class MlxGradients:
    """See `Gradients`."""

    def __init__(
        self,
        base: TorchBase,
        parameters: Mapping[str, nn.Parameter],
        replay: Sequence[Row],
        config: LoraConfig,
    ) -> None:
        self.parameters, self.replay, self.config = parameters, replay, config
        self._mx: Any = importlib.import_module("mlx.core")
        self._nn: Any = importlib.import_module("mlx.nn")
        self._flat: Any = importlib.import_module("mlx.utils").tree_flatten
        self._model = _model(base)
        self._states = [self._hidden([row], whole=True)[0] for row in replay]
        self._mx.eval(self._states)
        self._model.freeze()
        importlib.import_module("mlx_lm.tuner.utils").linear_to_lora_layers(
            self._model,
            len(self._model.layers),
            # Written out, each of them: mlx-lm's own scale is 20.
            {"rank": config.rank, "scale": config.alpha / config.rank, "dropout": 0.0, "keys": list(LAYERS)},
        )
        self._with_gradients = self._nn.value_and_grad(self._model, self._loss)

    def step(self, batch: Sequence[Row], replayed: Sequence[int]) -> float:
        self._put()
        loss, gradients = self._with_gradients(batch, replayed)
        found = dict(self._flat(gradients))
        for name, parameter in self.parameters.items():
            values = np.array(found[_theirs(name)]).T
            parameter.grad = torch.from_numpy(np.ascontiguousarray(values))
        return float(loss.item())

    def losses(self, rows: Sequence[Row]) -> list[float]:
        self._put()
        return [float(self._token_losses([row], whole=False).mean().item()) for row in rows]

    def _loss(self, batch: Sequence[Row], replayed: Sequence[int]) -> Any:
        loss = self._token_losses(batch, whole=self.config.loss_on == "all").mean()
        if not replayed:
            return loss
        hidden, _ = self._hidden([self.replay[i] for i in replayed], whole=True)
        was = self._log_probabilities(self._mx.concatenate([self._states[i] for i in replayed]))
        kl = (self._mx.exp(was) * (was - self._log_probabilities(hidden))).sum(-1)
        return loss + self.config.replay_weight * kl.mean()

    def _token_losses(self, rows: Sequence[Row], *, whole: bool) -> Any:
        hidden, ids = self._hidden(rows, whole=whole)
        return self._nn.losses.cross_entropy(self._head(hidden), ids)

    def _hidden(self, rows: Sequence[Row], *, whole: bool) -> tuple[Any, Any]:
        """(tokens, width) what tokens are predicted from, (tokens,) the tokens; see `token_states`."""
        longest = max(len(row.ids) for row in rows)
        ids = np.zeros((len(rows), longest), np.int32)
        bears = np.zeros((len(rows), longest), bool)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = row.ids
            bears[i, 1 if whole else row.prompt : len(row.ids)] = True
        at = np.flatnonzero(bears)
        hidden = self._model.model(self._mx.array(ids))
        flat = hidden.reshape(-1, hidden.shape[-1])
        return flat[self._mx.array(at - 1)], self._mx.array(ids.ravel()[at])

    def _log_probabilities(self, hidden: Any) -> Any:
        logits = self._head(hidden)
        return logits - self._mx.logsumexp(logits, axis=-1, keepdims=True)

    def _head(self, hidden: Any) -> Any:
        if self._model.args.tie_word_embeddings:
            return self._model.model.embed_tokens.as_linear(hidden)
        return self._model.lm_head(hidden)

    def _put(self) -> None:
        """Give MLX's LoRA what the optimizer made of the parameters."""
        values = [
            (_theirs(name), self._mx.array(np.ascontiguousarray(parameter.detach().numpy().T)))
            for name, parameter in self.parameters.items()
        ]
        self._model.load_weights(values, strict=False)


def _theirs(name: str) -> str:
    """`model.layers.3.self_attn.q_proj.lora_A` as mlx-lm names it; theirs lies transposed."""
    return f"{name[:-1]}{name[-1].lower()}"


def _model(base: TorchBase) -> Any:
    """mlx-lm's llama with the weights of PyTorch's."""
    mx: Any = importlib.import_module("mlx.core")
    llama: Any = importlib.import_module("mlx_lm.models.llama")
    ours = base.model.config
    model = llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=ours.hidden_size,
            num_hidden_layers=ours.num_hidden_layers,
            intermediate_size=ours.intermediate_size,
            num_attention_heads=ours.num_attention_heads,
            num_key_value_heads=ours.num_key_value_heads,
            head_dim=ours.head_dim,
            rms_norm_eps=ours.rms_norm_eps,
            vocab_size=ours.vocab_size,
            max_position_embeddings=ours.max_position_embeddings,
            rope_theta=ours.rope_parameters["rope_theta"],
            tie_word_embeddings=ours.tie_word_embeddings,
        )
    )
    weights = [
        (name, mx.array(value.numpy()))
        for name, value in base.model.state_dict().items()
        if not (name == "lm_head.weight" and ours.tie_word_embeddings)
    ]
    model.load_weights(weights)
    mx.eval(model.parameters())
    return model
