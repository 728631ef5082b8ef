"""Stand-ins that make a training run take seconds."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from personality_common.text.identity import EncoderIdentity


class HashEncoder:
    """Stands in for a text encoder where only bookkeeping is tested: vectors drawn from a text's hash."""

    source = "hash"
    compute_dtype = "float32"

    def __init__(self, name: str = "hash", dim: int = 384) -> None:
        self.identity = EncoderIdentity(name, "", "", "", 256, dim)
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(self.identity.dim).astype(np.float32)
        return vector / np.linalg.norm(vector)


@pytest.fixture(scope="session")
def hash_encoder() -> type[HashEncoder]:
    return HashEncoder
