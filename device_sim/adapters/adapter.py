"""A LoRA of one file's weights (Hu et al., arXiv:2106.09685).

    y = W x + alpha / rank * B A x

Tensors are named `model.layers.3.self_attn.q_proj.lora_A` (and `.lora_B`), and lie as PyTorch has them: A is
(rank, in), B (out, rank). One without tensors is "no adapter": the model as it shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_RANK = 256


@dataclass(frozen=True)
class Adapter:
    """What is added to a base's weights.

    Attributes:
        rank: of every pair of tensors, 1 to 256.
        alpha: the product is scaled by alpha / rank.
        base_sha256: of the GGUF file that it was trained on; no other is served with it.
        architecture: as GGUF names it; `llama`.
        heads, kv_heads: of the base's attention; llama.cpp orders rows of q and k otherwise within them.
        tensors: float32 by name; in pairs.
    """

    rank: int
    alpha: float
    base_sha256: str
    architecture: str
    heads: int
    kv_heads: int
    tensors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
