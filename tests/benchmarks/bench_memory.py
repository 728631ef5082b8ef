"""How well, and how fast, the companion's memory finds what was said.

    python tests/benchmarks/bench_memory.py [--seeds 100] [--chunks 10000] [--data FILE]

Prints JSON. `figures`: recall@5 and MRR, mean over seeds, of the cosine alone, BM25 alone, their reciprocal
rank fusion, and the memory's own search, on three kinds of questions that `memory_questions.py` makes: facts
(each user's own 54 turns, in one file), natural questions, and keywords (one user, some 3,200 turns). Seeds
below 100 are to choose on, others to report. `--data` adds conversations in ShareGPT form to the one user's
history. `scale`: how long building, loading and searching take with that many chunks of 14 words drawn by
Zipf's law and random vectors, by words as common and a question that MiniLM embeds as it does for `pt chat`,
without PyTorch, in CPU time of one thread (start it with OMP_NUM_THREADS=1); and how many bytes they are.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from memory_questions import Asked, make
from numpy.typing import NDArray
from suite import clock

from device_sim.companion.memory.evaluation import evaluate
from device_sim.companion.memory.memory import Memory, build
from device_sim.companion.memory.sayings import Saying
from personality_common.text.encoder import load_encoder
from personality_common.text.identity import Encoder

WORDS, LENGTH, QUERIES = 50_000, 14, 300


class RandomEncoder:
    """MiniLM by name. Random vectors while a memory is built; then the next question's, whatever the text."""

    source, compute_dtype = "random", "float32"

    def __init__(self, minilm: Encoder) -> None:
        self.identity = minilm.identity
        self.minilm, self.building = minilm, True
        self.rng = np.random.default_rng(0)
        self.questions = cycle(question.text for question in make(0).questions["natural"])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.building:
            return self.minilm.encode([next(self.questions)])
        drawn = self.rng.standard_normal((len(texts), self.identity.dim), np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="*", default=[100])
    parser.add_argument("--chunks", type=int, nargs="*", default=[10_000])
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    minilm = load_encoder("minilm")
    by_seed = {seed: of_seed(seed, minilm, options.data) for seed in options.seeds}
    figures = {
        kind: {
            ranking: {
                name: statistics.mean(found[kind][ranking][name] for found in by_seed.values())
                for name in ("recall", "mrr")
            }
            for ranking in ("dense", "lexical", "rrf", "search")
        }
        for kind in ("facts", "natural", "keywords")
        if by_seed
    }
    scale = {str(count): of_size(count, minilm) for count in options.chunks}
    ratios = {
        f"recall@5, {kind}, search / {other}": figures[kind]["search"]["recall"]
        / figures[kind][other]["recall"]
        for kind, other in (("facts", "dense"), ("natural", "rrf"), ("keywords", "dense"))
        if figures
    }
    print(json.dumps({"ratios": ratios, "figures": figures, "seeds": by_seed, "scale": scale}))


def of_seed(seed: int, minilm: Encoder, data: Path | None) -> dict[str, Any]:
    """Kind -> ranking -> figures; and how many questions."""
    asked = make(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "memory.sqlite")
        build(path, minilm, asked.said + (others(data, asked) if data else []))
        with Memory(path, minilm) as memory:
            found = {kind: evaluate(memory, questions) for kind, questions in asked.questions.items()}
    print(f"seed {seed}: done", file=sys.stderr)
    return {
        kind: {name: vars(figures) for name, figures in one.figures.items()} | {"questions": one.questions}
        for kind, one in found.items()
    }


def others(data: Path, asked: Asked) -> list[Saying]:
    """Human turns of a file, said by the user whose history is long."""
    texts = [
        turn["value"]
        for line in data.read_text(encoding="utf-8").splitlines()
        for turn in json.loads(line)["conversations"]
        if turn["from"] == "human"
    ]
    last = asked.said[-1]
    return [Saying(f"other{i:06}", text, last.user, last.time, "user") for i, text in enumerate(texts)]


def of_size(count: int, minilm: Encoder) -> dict[str, Any]:
    """Seconds to build and to load, milliseconds of a search, bytes of the file."""
    rng = random.Random(count)
    words = [f"{'bcdfghklmnprst'[i % 14]}{'aeiou'[i % 5]}{i:x}" for i in range(WORDS)]
    weights = np.cumsum(1 / np.arange(1, WORDS + 1)).tolist()

    def text() -> str:
        return " ".join(rng.choices(words, cum_weights=weights, k=LENGTH))

    encoder = RandomEncoder(minilm)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "memory.sqlite")
        sayings = (Saying(f"t{i:07}", text(), "ada", "2026-01-01", "user") for i in range(count))
        built = timed(lambda: build(path, encoder, sayings))
        encoder.building = False
        with Memory(path, encoder) as memory:
            encoder.encode(["warm"])
            loaded = timed(lambda: memory.search(text(), "ada"))
            queries = [text() for _ in range(QUERIES)]
            took = [1000 * timed(partial(memory.search, query, "ada")) for query in queries]
            embedded = [1000 * timed(lambda: encoder.encode([""])) for _ in queries]
            encoder.building = True
            added = timed(lambda: memory.add("one more", text(), "ada", "2026-01-02", "user"))
            forgot = timed(lambda: memory.forget(["t0000007"]))
        size = path.stat().st_size
    print(f"{count} chunks: done", file=sys.stderr)
    return {
        "build_s": built,
        "load_s": loaded,
        "search_ms": {"p50": float(np.median(took)), "p95": float(np.percentile(took, 95))},
        "of_which_embedding_ms": {
            "p50": float(np.median(embedded)),
            "p95": float(np.percentile(embedded, 95)),
        },
        "add_s": added,
        "forget_s": forgot,
        "bytes": size,
    }


def timed(operation: Callable[[], object]) -> float:
    """Seconds of this process's one thread, which a busy machine does not change."""
    now = clock(1)
    started = now()
    operation()
    return now() - started


if __name__ == "__main__":
    main()
