"""What a GPU makes of training, encoding and a language model's steps, as shares of its matrix rate.

    python tests/benchmarks/gpu.py [--device cuda] [--rounds 5]

Prints JSON, or without a GPU one line that says so. `--device cpu` measures less of the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_pretrain import training_flops_per_sample
from lm_training import BATCH, flops_a_token, our_step

from personality_common.runs.device import choose_device, fast_dtype
from personality_common.terminal.progress import SILENT
from personality_common.text.encoder import find_minilm
from personality_common.text.sentence import SentenceEncoder
from personality_common.vocabulary import load_vocabulary
from pretrain.data.conversations import DataConfig, read_texts
from pretrain.data.spread import Spread
from pretrain.lm.config import SIZES
from pretrain.personality.config import PretrainConfig
from pretrain.personality.student import Student, start_at_teacher
from pretrain.personality.training import TrainingData, train

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
LAYERS, WIDTH, FEED_FORWARD = 6, 384, 1536
"""Of MiniLM."""


def seconds_of(call: Callable[[], Any], device: str, rounds: int) -> float:
    """Median seconds until what was asked of the device is done, after a call that warms it up."""
    taken = []
    for _ in range(rounds + 1):
        _finish(device)
        started = time.perf_counter()
        call()
        _finish(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, rounds: int) -> float:
    """FLOP/s of square products in the type that training multiplies in, as large as fill the device."""
    size = 8192 if device == "cuda" else 512
    a, b = (torch.randn(size, size, device=device).to(fast_dtype(device)) for _ in range(2))
    return 2.0 * size**3 / seconds_of(lambda: a @ b, device, rounds)


def training(device: str, batch: int, steps: int) -> dict[str, float]:
    """An epoch of pretraining's own loop on random embeddings, after one that warms up."""
    random = torch.nn.functional.normalize(torch.randn(batch * steps + 256, WIDTH), dim=1)
    tokens = torch.nn.functional.normalize(torch.randn(len(load_vocabulary().tokens), WIDTH), dim=1)
    base, rows = random.numpy(), np.arange(len(random))
    data = TrainingData(lambda wanted: base[wanted], Spread(rows[256:]), Spread(rows[:256]), tokens)
    config = PretrainConfig(DataConfig("-"), Path("-"), epochs=2, batch_size=batch)
    student = Student(WIDTH, 0.1)
    start_at_teacher(student, tokens, random[:256])
    with tempfile.TemporaryDirectory() as folder:
        seconds = train(student, data, config, device, Path(folder), SILENT)[-1]["seconds"]
    rate = batch * steps / seconds
    return {"samples_per_second": round(rate), "flops_per_second": rate * training_flops_per_sample()}


def encoding(device: str, texts: list[str], rounds: int) -> dict[str, float]:
    """MiniLM as `pt pretrain` computes it; padding and tokenizing are time, not FLOPs."""
    encoder = SentenceEncoder(find_minilm()[0], "", device, fast_dtype(device))
    lengths = [len(ids) for ids in encoder.token_ids(texts)]
    flops = sum(encoder_flops(length) for length in lengths)
    seconds = seconds_of(lambda: encoder.encode(texts), device, rounds)
    return {"texts_per_second": round(len(texts) / seconds), "flops_per_second": flops / seconds}


def encoder_flops(tokens: int) -> int:
    """Of a text: 2 per weight and token, and each token's scores and sums over all others."""
    weights = LAYERS * (4 * WIDTH**2 + 2 * WIDTH * FEED_FORWARD)
    return 2 * weights * tokens + 4 * LAYERS * WIDTH * tokens**2


def language_model(device: str, size: str, rounds: int) -> dict[str, float]:
    """A step of `pt lm train` with Muon on random tokens; its own matrix products are time, not FLOPs."""
    config = next(config for name, config in SIZES.items() if name == size)
    seconds = seconds_of(our_step(config, "muon", device), device, rounds)
    rate = BATCH * config.context_length / seconds
    return {"tokens_per_second": round(rate), "flops_per_second": rate * flops_a_token(config)}


def measured(device: str, rounds: int) -> dict[str, Any]:
    """All of it; on a CPU less of each."""
    large = device == "cuda"
    texts, _ = read_texts(DataConfig(str(FIXTURE)))
    rate = matrix_rate(device, rounds)
    parts = {
        "training, batch 256": training(device, 256, 200 if large else 3),
        "training, batch 8192": training(device, 8192, 50) if large else None,
        "encoding": encoding(device, texts if large else texts[:16], rounds),
        "language model": language_model(device, "small" if large else "demo", rounds),
    }
    shares = {name: part["flops_per_second"] / rate for name, part in parts.items() if part is not None}
    return {
        "device": torch.cuda.get_device_name() if large else device,
        "torch": torch.__version__,
        "dtype": str(fast_dtype(device)).removeprefix("torch."),
        "matrix_tflops": round(rate / 1e12, 3),
        "share_of_the_matrix_rate": {name: float(f"{share:.3g}") for name, share in shares.items()},
        **{name: part for name, part in parts.items() if part is not None},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing measured (--device cpu measures less of the same)")
        return
    print(json.dumps(measured(choose_device(options.device), options.rounds), indent=2))


if __name__ == "__main__":
    main()
