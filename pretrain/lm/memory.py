"""What training takes of a machine's memory, before it begins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from personality_common.errors import ToolkitError
from pretrain.lm.config import ModelConfig, OptimizerName
from pretrain.lm.model import WRITTEN_OUT_BELOW

_FLOAT: Final = 4
_GB: Final = 1e9
_CGROUP: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes at its height.

    Attributes:
        weights: and their gradients.
        optimizer: what it remembers of them.
        activations: of a step, with what its loss and backward pass take at once.
    """

    weights: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.optimizer + self.activations

    def __str__(self) -> str:
        return (
            f"{self.total / _GB:.2f} GB: weights and gradients {self.weights / _GB:.2f}, "
            f"optimizer {self.optimizer / _GB:.2f}, activations {self.activations / _GB:.2f}"
        )


def estimate(
    config: ModelConfig, batch_size: int, optimizer: OptimizerName, device: str, dtype: torch.dtype
) -> Memory:
    """Of one process that trains; what PyTorch itself takes, some 0.3 GB, is not counted.

    Args:
        dtype: of the activations between layers; weights are float32.
    """
    d, length = config.embedding_size, config.context_length
    matrices = config.layers * (4 * d * d + 2 * d * config.feed_forward_size)
    # AdamW remembers two numbers of each parameter, Muon one.
    remembered = 2 * config.parameters - (matrices if optimizer == "muon" else 0)
    copies = 0 if dtype == torch.float32 else config.parameters * dtype.itemsize
    tokens = batch_size * length
    written_out = device == "cpu" and length < WRITTEN_OUT_BELOW
    return Memory(
        weights=2 * _FLOAT * config.parameters + copies,
        optimizer=_FLOAT * remembered,
        # Logits, their logarithms, and the gradient of each.
        activations=tokens
        * (
            config.layers * layer_floats(config, written_out) * dtype.itemsize
            + 4 * config.vocab_size * _FLOAT
        ),
    )


def layer_floats(config: ModelConfig, written_out: bool) -> int:
    """Numbers per token that a layer keeps for its backward pass.

    Two normalised inputs, queries, keys and values, the mixed values, and the stream before each half; the
    hidden units before and after GELU; of attention that is written out, each head's weights, else its
    result.
    """
    scores = config.heads * config.context_length if written_out else config.embedding_size
    return 8 * config.embedding_size + 2 * config.feed_forward_size + scores


def available(device: str) -> int:
    """Bytes that a process may still take."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device == "mps":
        return int(torch.mps.recommended_max_memory())
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return free


def require_fit(memory: Memory, device: str) -> None:
    """Raise ToolkitError where training would not fit."""
    free = available(device)
    if memory.total > free:
        raise ToolkitError(
            f"training must fit into memory: it takes {memory}; {free / _GB:.2f} GB are free on {device}; "
            "use a smaller --batch-size or --size"
        )
