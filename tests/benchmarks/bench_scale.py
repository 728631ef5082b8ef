"""Pretraining on generated texts: memory, and what reading, bookkeeping and the cache cost.

    python tests/benchmarks/bench_scale.py [--texts 10000 100000 1000000] [--real 20000]

Prints JSON. For each size, `pt pretrain` runs in a process of its own, with a stand-in for the encoder (sums
of random vectors, one a word), so that what is measured is everything else; its highest resident memory is
the system's own count. `loop` compares an epoch on rows all over the largest cache with the same epoch on
tensors in memory, in rounds that alternate. `--real` texts go through the real MiniLM.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from cluster import Cluster, simulate
from numpy.typing import NDArray

import pretrain.personality.pipeline as pipeline
from personality_common.terminal.progress import SILENT, Silent
from personality_common.text.identity import EncoderIdentity
from personality_common.vocabulary import load_vocabulary
from pretrain.data.conversations import DataConfig
from pretrain.data.keys import text_keys
from pretrain.data.spread import Spread
from pretrain.personality.config import PretrainConfig
from pretrain.personality.embedding_cache import EmbeddingCache
from pretrain.personality.student import Student, start_at_teacher
from pretrain.personality.training import TrainingData, train

LOOP_TEXTS = 20_000
NETWORK_BYTES_PER_SECOND = 10e9 / 8
"""What projections take machines to be connected by: 10 Gbit/s."""


class WordSums:
    """Stands in for a text encoder whose cost must not count: the sum of a random vector for each word."""

    source = "a stand-in"
    compute_dtype = "float32"

    def __init__(self) -> None:
        self.identity = EncoderIdentity("word sums", "", "0" * 64, "", 256, 384)
        self._vectors = np.random.default_rng(0).standard_normal((4096, 384), np.float32)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        words = [[zlib.crc32(word.encode()) % 4096 for word in text.split()] for text in texts]
        starts = np.cumsum([0, *map(len, words[:-1])])
        sums = np.add.reduceat(self._vectors[[w for text in words for w in text]], starts)
        normalized: NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return normalized


class Clock(Silent):
    """Notes when each message of a run came, and how long its stages took."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.said: list[tuple[float, str]] = []
        self.stages: dict[str, float] = {}

    def say(self, message: str) -> None:
        self.said.append((time.perf_counter() - self.began, message))

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Silent]:
        began = time.perf_counter()
        yield self
        self.stages[name] = time.perf_counter() - began

    def at(self, words: str) -> float:
        return next(when for when, message in self.said if message.startswith(words))


def write_texts(path: Path, count: int) -> None:
    """Distinct sentences of 6 to 12 words, 5% of them twice, in records of one text."""
    draws = random.Random(0)
    words = [token.lower() for token in load_vocabulary().tokens]
    with path.open("w") as file:
        for i in range(count):
            line = (
                json.dumps({"text": f"{i} {' '.join(draws.choices(words, k=draws.randint(5, 11)))}"}) + "\n"
            )
            file.write(line)
            if i % 20 == 0:
                file.write(line)


def settings(data: Path, run: Path) -> PretrainConfig:
    return PretrainConfig(DataConfig(str(data), max_samples=None), run, epochs=1, device="cpu")


def one_run(data: Path, run: Path, real: bool) -> dict[str, Any]:
    """A whole `pt pretrain` in this process."""
    clock = Clock()
    config = settings(data, run)
    if real:
        result = pipeline.pretrain(config, clock)
    else:
        with patch.object(pipeline, "load_encoder", lambda *_: WordSums()):
            result = pipeline.pretrain(config, clock)
    texts = result.summary.texts
    epoch = result.history[-1]
    return {
        "texts": texts,
        "records_per_second": round(result.summary.records / clock.at("read ")),
        "embedding_texts_per_second": round(texts / clock.stages["embedding"]),
        "bookkeeping_us_per_text": round(
            (clock.at("embedded ") - clock.at("encoder:") - clock.stages["embedding"]) / texts * 1e6, 2
        ),
        "training_samples_per_second": round(epoch["samples_per_second"]),
        # ru_maxrss is in KiB on Linux, in bytes on macOS.
        "peak_memory_mib": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            / (1 << (10 if sys.platform == "linux" else 20))
        ),
    }


def in_a_process(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--one", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def measure_loop(data: Path, run: Path, rounds: int) -> dict[str, Any]:
    """Seconds of an epoch from the mapped cache and from memory, on rows from all over the cache."""
    cache = EmbeddingCache(run / "cache", WordSums(), SILENT)
    everything = cache.embeddings(np.arange(len(cache)))
    tokens = torch.from_numpy(everything[cache.rows(text_keys(load_vocabulary().tokens))])
    rows = np.random.default_rng(0).permutation(len(cache))[: min(LOOP_TEXTS, len(cache))]
    config = settings(data, run)
    seconds: dict[str, list[float]] = {"cache": [], "memory": []}
    for _ in range(rounds):
        for name, fetch in (("cache", cache.embeddings), ("memory", lambda rows: everything[rows])):
            student = Student(384, config.dropout)
            torch.manual_seed(0)
            start_at_teacher(student, tokens, torch.from_numpy(everything[rows[:1000]]))
            with tempfile.TemporaryDirectory() as folder:
                split = TrainingData(fetch, Spread(rows[256:]), Spread(rows[:256]), tokens)
                history = train(student, split, config, "cpu", Path(folder), SILENT)
            seconds[name].append(history[-1]["seconds"])
    medians: Mapping[str, float] = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "rows_in_cache": len(cache),
        "rows_trained_on": len(rows) - 256,
        "cache_samples_per_second": round((len(rows) - 256) / medians["cache"]),
        "memory_samples_per_second": round((len(rows) - 256) / medians["memory"]),
        "share": round(medians["memory"] / medians["cache"], 3),
    }


def project(rates: dict[str, Any]) -> list[dict[str, Any]]:
    """Hours that many machines like this one would take, from its rates with the real encoder.

    Reading and embedding are divided by the machines. A step of training is a machine's part of the batch,
    and the exchange of all gradients, float32, each sent and received 2 (k - 1) / k times (a ring); with
    local steps, of the weights, once in so many steps.
    """
    epochs, batch = (
        PretrainConfig(DataConfig("-"), Path("-")).epochs,
        settings(Path("-"), Path("-")).batch_size,
    )
    gradients = 4 * sum(p.numel() for p in Student(384, 0.0).parameters() if p.requires_grad)
    text_s = 1 / rates["training_samples_per_second"]
    machine = Cluster(0.0, text_s, float(gradients), NETWORK_BYTES_PER_SECOND)
    rows = []
    for texts in (10_000_000, 1_000_000_000):
        for machines, size, local in (
            (1, batch, 1), (8, batch, 1), (8, batch, 40), (8, 8 * batch, 1), (8, 8 * batch, 40),
            (64, batch, 1), (64, 64 * batch, 1), (64, 64 * batch, 40),
        ):  # fmt: skip
            cost = simulate(machine, machines, size, local, epochs * texts)
            hours = {
                "reading": texts / machines / rates["records_per_second"] / 3600,
                "embedding": texts / machines / rates["embedding_texts_per_second"] / 3600,
                "training": cost.total_s / 3600,
            }
            rows.append(
                {"texts": texts, "machines": machines, "batch": size, "local_steps": local}
                | {name: float(f"{value:.2g}") for name, value in hours.items()}
                | {"share_of_training_that_is_exchange": round(cost.exchange_s / cost.total_s, 2)}
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--real", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("DATA", "RUN", "ENCODER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        data, run, encoder = options.one
        print(json.dumps(one_run(Path(data), Path(run), encoder == "real")))
        return
    report: dict[str, Any] = {"threads": torch.get_num_threads(), "stand_in": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for count in options.texts:
            data = folder / f"{count}.jsonl"
            write_texts(data, count)
            report["stand_in"].append(in_a_process(str(data), str(folder / str(count)), "stand-in"))
        # Before the loop: a process begins with the highest memory of the one that starts it.
        data = folder / "real.jsonl"
        write_texts(data, options.real)
        report["real_encoder"] = in_a_process(str(data), str(folder / "real"), "real")
        largest = max(options.texts)
        report["loop"] = measure_loop(folder / f"{largest}.jsonl", folder / str(largest), options.rounds)
    report["projected_hours"] = project(report["real_encoder"])
    first, last = (report["stand_in"][i]["peak_memory_mib"] for i in (0, -1))
    report["ratios"] = {
        "training from the cache, share of memory's speed": report["loop"]["share"],
        "peak memory of the fewest texts over the most": round(first / last, 3),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
