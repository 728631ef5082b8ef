"""A bundle in small: 24 tokens, latents by the text alone; and a user with a taste of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.head import Head
from grpo.reference import Reference

from .living import Day

TOKENS = tuple(f"token{i:02}" for i in range(24))
WIDTH = 6
LIKED = TOKENS[:8]


def latent(text: str) -> np.ndarray:
    """(6,)"""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


class Small:
    """See `Listener`."""

    tokens = TOKENS

    def __init__(self, bundle: str = "c" * 64) -> None:
        self.bundle = bundle
        self.identity = {"bundle": bundle, "vocabulary": "d" * 64, "encoder": "e" * 64}

    @cached_property
    def shipped(self) -> Head:
        draw = torch.Generator().manual_seed(3)
        weight = 0.5 * torch.randn(len(TOKENS), WIDTH, generator=draw)
        return Head(weight, 0.1 * torch.randn(len(TOKENS), generator=draw))

    @cached_property
    def reference(self) -> Reference:
        texts = self.latents([f"reference {i}" for i in range(80)])
        return Reference(texts, self.shipped, GRPOConfig())

    def latents(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([latent(text) for text in texts]))


def react(day: Day, first: int, count: int, *, chance: bool = False, bundle: str = "c" * 64) -> list[str]:
    """Messages with moods, and rewards: by how many tokens the user likes, or by chance; ids of answers."""
    draw = np.random.default_rng(first)
    ids = []
    with day:
        for i in range(first, first + count):
            mood = tuple(TOKENS[j] for j in draw.choice(len(TOKENS), 8, replace=False))
            liked = (sum(token in LIKED for token in mood) - 8 / 3) / 4 + 0.05 * draw.standard_normal()
            reward = float(draw.uniform(-1, 1)) if chance else float(np.clip(liked, -1, 1))
            _, answer = day.talk(
                f"Mood number {i}.", "Oh.", reward=reward, route="neither", mood=mood, bundle=bundle
            )
            ids.append(answer)
    return ids
