"""Networks that the interpreter is timed on: one of images, one of text, with the shapes that people ship."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and stride of MobileNet's blocks (arXiv:1704.04861, table 1)."""
IMAGE = (1, 3, 224, 224)
TOKENS = (1, 64)
LAYERS, WIDTH, HEADS, VOCABULARY = 16, 256, 4, 2048


def mobilenet() -> nn.Module:
    """MobileNet of width 1: 569 million multiply-adds for an image of 224 by 224.

    Its batch norms have seen a batch, or its activations would vanish.
    """
    channels = 32
    layers = [nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6()]
    for out, stride in BLOCKS:
        layers += [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)]
        layers += [nn.BatchNorm2d(channels), nn.ReLU6()]
        layers += [nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU6()]
        channels = out
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the batch's own statistics
    model(torch.randn(2, *IMAGE[1:]))
    return model


class Decoder(nn.Module):
    """A decoder with RMS norms, rotary positions and gated feed-forward layers."""

    angles: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        half = WIDTH // HEADS // 2
        places = torch.arange(TOKENS[1])[:, None] * 10_000 ** (-torch.arange(half) / half)
        self.register_buffer("angles", places)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.angles.cos(), self.angles.sin())
        return torch.as_tensor(self.head(norm(x)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(WIDTH, 3 * WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(3 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        n, length, _ = x.shape
        y = norm(x)
        q, k, v = (m(y).reshape(n, length, HEADS, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        weights = (scores + torch.full((length, length), -1e4).triu(1)).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, length, WIDTH))
        y = norm(x)
        return torch.as_tensor(x + self.down(F.silu(self.gate(y)) * self.up(y)))


def norm(x: Tensor) -> Tensor:
    """RMS norm without a scale."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; halves side by side."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
