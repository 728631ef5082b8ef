"""The decoder: token ids -> logits of the next token.

    token ids (B, T)
      embedding            V x d, which is the head too
      layers times:
        x + attention(LayerNorm(x))      heads of d / heads, rotary positions (NEOX order), causal
        x + feed_forward(LayerNorm(x))   d -> f -> GELU (tanh) -> d
      LayerNorm
    logits (B, T, V)     LayerNorm(x) @ embedding^T

All linear layers have biases: this is Starcoder2's architecture with as many key heads as query heads, which
transformers, llama.cpp and MLX run. Letters in shapes: B rows, T tokens of a row, S tokens that can be looked
back at, H heads, D numbers a head, d numbers a token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.lm.config import ModelConfig

WRITTEN_OUT_BELOW: Final = 512
"""Tokens of a row below which attention is written out on CPUs: there, PyTorch's own is 3 to 5 times slower
in bfloat16."""
INITIAL_DEVIATION: Final = 0.02


@dataclass
class Cache:
    """Keys and values of the tokens that a row has had, so that the next costs one step; for generation.

    Attributes:
        length: tokens in it.
        keys, values: of each layer, (B, H, length, D).
    """

    length: int = 0
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, T, D) of new tokens; all that the layer has, the new ones last."""
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat((self.keys[layer], key), 2)
            self.values[layer] = torch.cat((self.values[layer], value), 2)
        return self.keys[layer], self.values[layer]


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value, self.output = (
            nn.Linear(config.embedding_size, config.embedding_size) for _ in range(4)
        )

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], bias: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        """(B, T, d) -> (B, T, d); `bias` is added to the scores and is None where all of S is looked at."""
        rows, length, size = x.shape
        query, key, value = (
            linear(x).view(rows, length, self.heads, -1).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        query, key = rotate(query, rotation), rotate(key, rotation)
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        mixed = attend(query, key, value, bias)
        y: Tensor = self.output(mixed.transpose(1, 2).reshape(rows, length, size))
        return y


class FeedForward(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.embedding_size, config.feed_forward_size)
        self.down = nn.Linear(config.feed_forward_size, config.embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.gelu(self.up(x), approximate="tanh"))
        return y


class Layer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.embedding_size, config.layer_norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.embedding_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], bias: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, bias, cache, layer)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y


class Decoder(nn.Module):
    """Token ids to logits; see the module.

    Under `torch.autocast` the stream between the layers has autocast's type, which halves what is moved.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.embedding_size, config.layer_norm_eps)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw the weights from torch's generator: deviation 0.02, less for what is added to the stream, so
        that its variance does not grow with the layers (GPT-2)."""
        added = INITIAL_DEVIATION / (2 * self.config.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                parameter.normal_(0.0, added if last else INITIAL_DEVIATION)
            else:
                parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)

    def forward(
        self,
        ids: Tensor,
        document_ids: Tensor | None = None,
        cache: Cache | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token after each one.

        Args:
            ids: (B, T) int64.
            document_ids: (B, T) int64: neighbours with the same number belong together. A token looks back at
                its own document alone, and positions start again with each: as if each were a row of its own.
                None where each row is one document.
            cache: of the tokens before these, to which these are added; not together with `document_ids`.
            at: (B, T) bool: the N tokens after which logits are asked for; None for all.

        Returns:
            (B, T, V) float32, or (N, V) where `at` is given.
        """
        assert cache is None or document_ids is None
        start, length = 0 if cache is None else cache.length, ids.shape[1]
        positions = torch.arange(start, start + length, device=ids.device)
        first = None if document_ids is None else first_of_document(document_ids)
        x = self.embedding(ids)
        if torch.is_autocast_enabled(ids.device.type):
            x = x.to(torch.get_autocast_dtype(ids.device.type))
        rotation = self.rotation(positions if first is None else positions - first, x.dtype)
        bias = None if length == 1 else score_bias(start, length, first, x.dtype, ids.device)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotation, bias, cache, index)
        if cache is not None:
            cache.length += length
        if at is not None:
            x = x[at]
        return F.linear(self.norm(x), self.embedding.weight).float()

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines of (T,) or (B, T) positions: (1 or B, 1, T, D / 2). Angles are float32."""
        size = self.config.head_size
        # arange in int64: as transformers computes it, to the last bit.
        exponent = torch.arange(0, size, 2, dtype=torch.int64, device=positions.device).float() / size
        angles = positions.float()[..., None] * (1.0 / self.config.rope_base**exponent)
        angles = angles.view(-1, 1, *angles.shape[-2:])
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of (B, H, T, D) by its angle; pair i is number i with number i + D / 2, NEOX's order.

    Source: RoFormer, arXiv:2104.09864.
    """
    cosine, sine = rotation
    a, b = x.chunk(2, -1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1)


def first_of_document(document_ids: Tensor) -> Tensor:
    """(B, T) -> (B, T): where in the row the document of each token begins."""
    places = torch.arange(document_ids.shape[1], device=document_ids.device).expand_as(document_ids)
    begins = F.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, 0), value=True)
    return places.where(begins, 0).cummax(1).values


def score_bias(
    start: int, length: int, first: Tensor | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(1 or B, 1, T, S): 0 where a token may look, minus infinity elsewhere.

    Args:
        start: where in the row the first token that looks is.
        length: T; S is `start + length`.
        first: (B, T) as `first_of_document` returns, None where each row is one document.
    """
    back = torch.arange(start + length, device=device)
    hidden = back > back[start:, None]
    if first is not None:
        hidden = hidden | (back < first[..., None])
    bias = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
    return bias.view(-1, 1, *bias.shape[-2:])


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(query key^T / sqrt(D) + bias) value: (B, H, T, D) from (B, H, T, D) and twice (B, H, S, D)."""
    if query.device.type == "cpu" and key.shape[2] < WRITTEN_OUT_BELOW:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return torch.softmax(scores if bias is None else scores + bias, -1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


@torch.inference_mode()
def generate(
    model: Decoder,
    prompt: Sequence[int],
    most: int,
    stop: Collection[int] = (),
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Go on after a prompt, a token at a time, until one of `stop`, which is not given, or a full context.

    Args:
        most: tokens to give, at most.
        temperature: 0 takes the likeliest; 1 draws as the model says.
        generator: what draws.
    """
    cache = Cache()
    device = model.embedding.weight.device
    ids = torch.tensor([list(prompt)], device=device)
    for _ in range(min(most, model.config.context_length - len(prompt))):
        logits = model(ids, cache=cache)[0, -1]
        if temperature:
            token = int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator))
        else:
            token = int(logits.argmax())
        if token in stop:
            return
        yield token
        ids = torch.tensor([[token]], device=device)
