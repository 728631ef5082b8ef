"""A text encoder where only bookkeeping is tested; run as a program, it is `pt` with that in place of MiniLM.

Its shards are small then, so that there are many of few texts.
Such a process starts in a third of the time, and computes next to nothing until it trains.
"""

import hashlib
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from personality_common.text.identity import EncoderIdentity


class HashEncoder:
    """Stands in for a text encoder where only bookkeeping is tested: vectors drawn from a text's hash."""

    source = "hash"
    compute_dtype = "float32"

    def __init__(self, name: str = "hash", dim: int = 384) -> None:
        self.identity = EncoderIdentity(name, "", "0" * 64, "", 256, dim)
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(self.identity.dim).astype(np.float32)
        return vector / np.linalg.norm(vector)


class SlowHashEncoder(HashEncoder):
    """Takes its time, as a text encoder does, so that it can be caught at it."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(0.2)
        return super().encode(texts)


if __name__ == "__main__":
    from personality_common.cli import main
    from pretrain.personality import embedding_cache, pipeline

    vars(pipeline)["load_encoder"] = lambda *_: SlowHashEncoder()
    vars(embedding_cache)["SHARD_TEXTS"] = 128
    main()
