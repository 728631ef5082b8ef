"""A LoRA of one file's weights (Hu et al., arXiv:2106.09685).

    y = W x + alpha / rank * B A x

Tensors are named `model.layers.3.self_attn.q_proj.lora_A` (and `.lora_B`), and lie as PyTorch has them: A is
(rank, in), B (out, rank). One without tensors is "no adapter": the model as it shipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError

MAX_RANK: Final = 256
ARCHITECTURE: Final = "llama"
"""The one that is trained here: its names and its order of rows are known."""
LAYERS: Final = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What a linear layer is called in PyTorch, and in GGUF."""
_NAME: Final = re.compile(rf"model\.layers\.(\d{{1,4}})\.({'|'.join(map(re.escape, LAYERS))})\.lora_([AB])")

Tensors = Mapping[str, NDArray[np.float32]]


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
    tensors: Tensors = field(default_factory=dict)

    def pairs(self) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
        """Layer (`model.layers.3.self_attn.q_proj`), A and B, in order of the layers' names."""
        for name in sorted(self.tensors):
            if name.endswith(".lora_A"):
                layer = name.removesuffix(".lora_A")
                yield layer, self.tensors[name], self.tensors[f"{layer}.lora_B"]

    def head_count(self, layer: str) -> int | None:
        """Heads within which llama.cpp orders a layer's rows otherwise; None: it does not."""
        return {"q_proj": self.heads, "k_proj": self.kv_heads}.get(layer.rsplit(".", 1)[-1])


def layer_of(name: str) -> tuple[int, str, str] | None:
    """Number of the layer, name of the linear part in it, and A or B; None: no tensor of an adapter."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), found[2], found[3]) if found else None


def check_adapter(adapter: Adapter, what: str) -> None:
    """Refuse what is no adapter.

    Args:
        what: names it in the message.

    Raises:
        DataError: of another architecture, a name that no linear layer has, a tensor without its other half,
            a shape that the rank or the heads do not allow, or a number that is not finite.
    """
    if adapter.architecture != ARCHITECTURE:
        raise DataError(f"{what}: must be of the architecture {ARCHITECTURE}, is of {adapter.architecture!r}")
    if not 1 <= adapter.rank <= MAX_RANK or not math.isfinite(adapter.alpha):
        raise DataError(
            f"{what}: must have a rank from 1 to {MAX_RANK} and a finite alpha,"
            f" has {adapter.rank} and {adapter.alpha:g}"
        )
    if min(adapter.heads, adapter.kv_heads) < 1 or not re.fullmatch("[0-9a-f]{64}", adapter.base_sha256):
        raise DataError(f"{what}: must name its base by SHA-256 and head counts, does not")
    for name, values in adapter.tensors.items():
        found = layer_of(name)
        if found is None:
            raise DataError(f"{what}: {name!r:.100} must be a linear layer's of {ARCHITECTURE}")
        _, part, side = found
        other = name[:-1] + ("B" if side == "A" else "A")
        if other not in adapter.tensors:
            raise DataError(f"{what}: {name} must come with {other}")
        if values.dtype != np.float32 or values.ndim != 2 or values.shape["AB".index(side)] != adapter.rank:
            raise DataError(
                f"{what}: {name} must be float32, {adapter.rank} wide on the inner side,"
                f" is {values.dtype} of shape {values.shape}"
            )
        heads = adapter.head_count(part)
        if side == "B" and heads and values.shape[0] % (2 * heads):
            raise DataError(f"{what}: {name} must have rows for {heads} heads, has {values.shape[0]}")
        if not np.isfinite(values).all():
            raise DataError(f"{what}: {name} must be finite, is not")
