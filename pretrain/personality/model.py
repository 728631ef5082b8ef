"""The personality model and the projector in front of it, as PyTorch modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personality_common.contract import EMBEDDING_DIM, LATENT_DIM, MINILM_DIM, VOCAB_SIZE

LAYERS: Final = 2
FFN_DIM: Final = 2048


class EmbeddingProjector(nn.Module):
    """Base embedding (N, 384) -> embedding (N, 1536), L2-normalized; ships with the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(MINILM_DIM)
        self.linear = nn.Linear(MINILM_DIM, EMBEDDING_DIM)

    def forward(self, base_embedding: Tensor) -> Tensor:
        return F.normalize(self.linear(self.norm(base_embedding)), dim=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention over a sequence of length 1: `out(v(x))`, bit for bit.

    The softmax over one score is exactly 1, so queries and keys cancel: they are kept
    because the architecture (8 heads of 64) names them, are never computed, and never train.
    """

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(LATENT_DIM, LATENT_DIM).requires_grad_(False)
        self.k = nn.Linear(LATENT_DIM, LATENT_DIM).requires_grad_(False)
        self.v = nn.Linear(LATENT_DIM, LATENT_DIM)
        self.out = nn.Linear(LATENT_DIM, LATENT_DIM)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.v(x))
        return out


class EncoderLayer(nn.Module):
    """Pre-norm transformer block: x + Attn(LN(x)), then x + FFN(LN(x)); x is (N, 512).

    Dropout is on the two branches, not on the 2048 hidden units, whose masks are slow to draw on a CPU.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(LATENT_DIM)
        self.attention = SelfAttention()
        self.ffn_norm = nn.LayerNorm(LATENT_DIM)
        self.ffn_in = nn.Linear(LATENT_DIM, FFN_DIM)
        self.ffn_out = nn.Linear(FFN_DIM, LATENT_DIM)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        branch: Tensor = self.dropout(self.ffn_out(F.gelu(self.ffn_in(self.ffn_norm(x)))))
        return x + branch


class PersonalityModel(nn.Module):
    """Embedding (N, 1536) -> logits (N, 325) in vocabulary order; float32.

    `input_projection` and `encoder` are the backbone, frozen after pretraining.
    `projection.weight` and `output_bias` are the head: all that a device may change.
    """

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.input_projection = nn.Linear(EMBEDDING_DIM, LATENT_DIM)
        self.encoder = nn.Sequential(*(EncoderLayer(dropout) for _ in range(LAYERS)))
        self.projection = nn.Linear(LATENT_DIM, VOCAB_SIZE, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(VOCAB_SIZE))

    def backbone(self, embedding: Tensor) -> Tensor:
        """Embedding (N, 1536) -> latent (N, 512)."""
        latent: Tensor = self.encoder(self.input_projection(embedding))
        return latent

    def head(self, latent: Tensor) -> Tensor:
        """Latent (N, 512) -> logits (N, 325)."""
        return F.linear(latent, self.projection.weight) + self.output_bias

    def forward(self, embedding: Tensor) -> Tensor:
        return self.head(self.backbone(embedding))


def uncomputed_parameters() -> tuple[str, ...]:
    """Parameters that no package has: queries and keys, which cancel at sequence length 1."""
    return tuple(name for name, parameter in _parameters() if not parameter.requires_grad)


def computed_parameters() -> tuple[str, ...]:
    """All the others."""
    return tuple(name for name, parameter in _parameters() if parameter.requires_grad)


def _parameters() -> Iterator[tuple[str, nn.Parameter]]:
    with torch.device("meta"):  # names alone: no memory, no random start
        return PersonalityModel().named_parameters()
