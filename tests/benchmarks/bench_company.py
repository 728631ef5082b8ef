"""What it costs that an embedding does not depend on the texts that it was computed with.

    python tests/benchmarks/bench_company.py [--data FILE]

Prints JSON: for turns and for 51-word texts, CPU seconds of each way to make batches, divided by those of
`SentenceEncoder.encode` as it is; and how many of 60 texts got other bits among 60 than among all. On one
thread, in the dtype that `pt pretrain` would take here.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.runs.device import fast_dtype
from personality_common.text.encoder import find_minilm
from personality_common.text.sentence import SentenceEncoder
from pretrain.data.conversations import DataConfig, read_texts

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
REQUEST = 256
"""Texts that the cache gives the encoder at once, today."""
Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def as_it_is(encoder: SentenceEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    found = np.empty((len(texts), encoder.identity.dim), np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for first in range(0, len(order), REQUEST):
        picked = order[first : first + REQUEST]
        found[picked] = encoder.encode([texts[i] for i in picked])
    return found


def by_length(
    encoder: SentenceEncoder, texts: Sequence[str], tokens: int, fixed: bool
) -> NDArray[np.float32]:
    """Texts of as many tokens together, without padding; `fixed`: always as many rows, some of them empty."""
    found = np.empty((len(texts), encoder.identity.dim), np.float32)
    ids, groups = encoder.token_ids(texts), defaultdict[int, list[int]](list)
    for i, row in enumerate(ids):
        groups[len(row)].append(i)
    for length, members in groups.items():
        rows = max(1, tokens // length)
        for first in range(0, len(members), rows):
            picked = members[first : first + rows]
            batch = np.zeros((rows if fixed else len(picked), length), np.int64)
            batch[: len(picked)] = [ids[i] for i in picked]
            found[picked] = encoder.encode_tokens(batch, np.ones_like(batch))[: len(picked)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="embeddings that depend on no other text: their cost")
    parser.add_argument("--data", default=str(FIXTURE))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dtype = fast_dtype("cpu")
    encoder = SentenceEncoder(find_minilm()[0], "", "cpu", dtype)
    ways: dict[str, Encode] = {
        "as it is": lambda texts: as_it_is(encoder, texts),
        "exact length": lambda texts: by_length(encoder, texts, 1536, fixed=False),
        "exact length, fixed rows": lambda texts: by_length(encoder, texts, 256, fixed=True),
    }
    turns = read_texts(DataConfig(options.data, max_samples=2048))[0]
    together = " ".join(turns).split()
    texts = {
        "turns": turns,
        "51 words": [" ".join(together[i : i + 51]) for i in range(0, min(len(together), 51 * 300), 51)],
    }
    found: dict[str, Any] = {"dtype": str(dtype)}
    for name, some in texts.items():
        seconds = defaultdict[str, list[float]](list)
        for _ in range(options.rounds):
            for way, encode in ways.items():
                started = time.process_time()
                encode(some)
                seconds[way].append(time.process_time() - started)
        few = random.Random(0).sample(range(len(some)), 60)
        found[name] = {
            way: {
                "cost": round(min(seconds[way]) / min(seconds["as it is"]), 3),
                "other bits": int((encode([some[i] for i in few]) != encode(some)[few]).any(1).sum()),
            }
            for way, encode in ways.items()
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
