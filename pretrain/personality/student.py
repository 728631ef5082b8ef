"""The network in training, and where it starts from."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from personality_common.contract import EMBEDDING_DIM, LATENT_DIM, MINILM_DIM
from pretrain.personality.model import EmbeddingProjector, EncoderLayer, PersonalityModel
from pretrain.personality.targets import TEMPERATURE

PARTITION_SCALE: Final = 16.0
"""Logit by which every token moves per unit of the latent's partition direction (see `start_at_teacher`).
It multiplies that direction's gradient too, which lifts it above the noise in all others; 8 to 16
gave the best validation loss and recall of 1 to 32, in trials with one seed."""


class Student(nn.Module):
    """Projector (for 384-d encoders) and personality model: base embedding (N, d) -> logits (N, 325)."""

    def __init__(self, base_dim: int, dropout: float) -> None:
        super().__init__()
        self.projector = EmbeddingProjector() if base_dim == MINILM_DIM else None
        self.model = PersonalityModel(dropout)

    def forward(self, base_embedding: Tensor) -> Tensor:
        embedding = base_embedding if self.projector is None else self.projector(base_embedding)
        logits: Tensor = self.model(embedding)
        return logits


@torch.no_grad()
def start_at_teacher(student: Student, token_embedding: Tensor, base_embedding: Tensor) -> None:
    """Set the weights so that the logits rank tokens as the targets do, before any training.

    The targets are a softmax of a linear function of e, so their logarithm is that function minus
    the log-partition, one number per text. The linear function is built in: an orthogonal projector
    P, `input_projection = Q B^T P^T` with orthonormal Q and B, head `tokens B Q^T / 0.07`, tokens
    centred. B spans all of a 384-d space; of a wider one, the span of the tokens first. The residual
    branches start at zero.

    What is left to learn is the log-partition. It gets a direction u of its own in the latent,
    orthogonal to Q: every row of the head has PARTITION_SCALE * u, so that what the residual
    branches write along u moves all tokens alike and leaves their order alone. `output_bias` starts
    at minus the mean log-partition.

    Args:
        student: whose weights are set; random draws come from torch's global generator.
        token_embedding: (325, d) float32, L2-normalized.
        base_embedding: (N, d) float32, a sample of the training texts, for the mean log-partition.
    """
    dim = token_embedding.shape[1]
    centred = token_embedding - token_embedding.mean(dim=0)
    rank = min(dim, LATENT_DIM - 1)
    # QR keeps the span of the first columns: the tokens' own directions come first.
    basis = torch.linalg.qr(torch.cat([centred.T, torch.randn(dim, dim)], dim=1))[0][:, :rank]
    frame = torch.linalg.qr(torch.randn(LATENT_DIM, rank + 1))[0]
    q, u = frame[:, :rank], frame[:, rank]
    lift = torch.eye(dim)
    if student.projector is not None:
        lift = torch.linalg.qr(torch.randn(EMBEDDING_DIM, dim))[0]
        student.projector.linear.weight.copy_(lift)
        student.projector.linear.bias.zero_()
    model = student.model
    model.input_projection.weight.copy_(q @ basis.T @ lift.T)
    model.input_projection.bias.zero_()
    for layer in model.encoder:
        assert isinstance(layer, EncoderLayer)
        for last in (layer.attention.out, layer.ffn_out):
            last.weight.zero_()
            last.bias.zero_()
    model.projection.weight.copy_(centred @ basis @ q.T / TEMPERATURE + PARTITION_SCALE * u)
    log_partition = torch.logsumexp(base_embedding @ centred.T / TEMPERATURE, dim=-1)
    model.output_bias.fill_(-log_partition.mean().item())
