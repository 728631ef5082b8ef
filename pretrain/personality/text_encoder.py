"""MiniLM and the projector in one Core ML program: token ids -> base embedding and embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from personality_common.contract import MINILM_DIM
from personality_common.errors import MismatchError
from personality_common.text.bert_folder import BertShape, read_bert_shape, read_bert_tensors
from personality_common.text.wordpiece import MAX_TOKENS
from pretrain.personality.model import EmbeddingProjector

MIN_TOKENS: Final = 2
"""[CLS] and [SEP]: the empty text."""

MASKED: Final = -1e4
"""Added to the scores of padding: exp() of it is exactly 0, and float16 can hold it."""


class BertLayer(nn.Module):
    """Post-norm transformer block of BERT, with its parameter names; x is (1, T, hidden)."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        hidden, eps = shape.hidden, shape.layer_norm_eps
        self.heads = shape.heads
        self.head_dim = hidden // shape.heads
        names = ("query", "key", "value")
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in names}),
                "output": nn.ModuleDict(
                    {"dense": nn.Linear(hidden, hidden), "LayerNorm": nn.LayerNorm(hidden, eps)}
                ),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, shape.intermediate)})
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(shape.intermediate, hidden), "LayerNorm": nn.LayerNorm(hidden, eps)}
        )

    def forward(self, x: Tensor, additive_mask: Tensor) -> Tensor:
        """(1, T, hidden) and (1, 1, 1, T) -> (1, T, hidden)."""
        attention: Any = self.attention
        projections, output = attention["self"], attention["output"]
        q = self._split(projections["query"](x)) * self.head_dim**-0.5
        k = self._split(projections["key"](x))
        v = self._split(projections["value"](x))
        weights = torch.softmax(q @ k.transpose(-1, -2) + additive_mask, dim=-1)
        merged = (weights @ v).transpose(1, 2).reshape(1, -1, self.heads * self.head_dim)
        x = output["LayerNorm"](output["dense"](merged) + x)
        inner = F.gelu(self.intermediate["dense"](x))
        y: Tensor = self.output["LayerNorm"](self.output["dense"](inner) + x)
        return y

    def _split(self, x: Tensor) -> Tensor:
        return x.view(1, -1, self.heads, self.head_dim).transpose(1, 2)


class TextEncoder(nn.Module):
    """BERT with mean pooling and L2-normalization, then the projector.

    Written out, since the stock module's mask code does not convert. `state_dict()` is what a
    package holds: the rows of positions up to `MAX_TOKENS`, the one row of token types in use,
    and neither the pooler nor anything else that the output does not depend on.
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.shape = shape
        self.word_embeddings = nn.Parameter(torch.empty(shape.vocabulary, shape.hidden))
        self.position_embeddings = nn.Parameter(torch.empty(MAX_TOKENS, shape.hidden))
        self.token_type_embedding = nn.Parameter(torch.empty(shape.hidden))
        self.LayerNorm = nn.LayerNorm(shape.hidden, shape.layer_norm_eps)
        self.layer = nn.ModuleList(BertLayer(shape) for _ in range(shape.layers))
        self.projector = EmbeddingProjector()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask, (1, 2..256) int -> base embedding (1, 384), embedding (1, 1536)."""
        mask = attention_mask.float()
        additive_mask = (1.0 - mask)[:, None, None, :] * MASKED
        words = F.embedding(input_ids, self.word_embeddings)
        x = words + self.token_type_embedding + self.position_embeddings[: input_ids.shape[1]]
        x = self.LayerNorm(x)
        for layer in self.layer:
            x = layer(x, additive_mask)
        # A text has two tokens at least, so a minimum of 1 changes nothing and fits float16.
        pooled = (x * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        base = F.normalize(pooled, dim=-1)
        return base, self.projector(base)


def load_text_encoder(encoder_folder: Path, projector: EmbeddingProjector) -> TextEncoder:
    """The encoder in `encoder_folder` with `projector` behind it, in float32, in eval mode.

    Args:
        encoder_folder: of a saved SentenceTransformer: BERT, mean pooling, normalization.
        projector: trained on this encoder's base embeddings; its parameters are shared.

    Raises:
        ToolkitError: another architecture; the message names what differs.
        DataError: files that are missing, malformed, or hold other tensors than the architecture.
    """
    shape = read_bert_shape(encoder_folder)
    if shape.hidden != MINILM_DIM:
        raise MismatchError(
            f"{encoder_folder}: base embeddings must have the {MINILM_DIM} dimensions that the projector "
            f"takes, have {shape.hidden}"
        )
    with torch.device("meta"):
        model = TextEncoder(shape)
    tensors = read_bert_tensors(encoder_folder, shape)
    trained = {f"projector.{name}": tensor.cpu() for name, tensor in projector.state_dict().items()}
    model.load_state_dict(tensors | trained, strict=True, assign=True)
    return model.eval().requires_grad_(False)
