"""Training and embedding speed against what most people would write, measured in one run.

    python tests/benchmarks/bench_pretrain.py [--data FILE] [--rounds 5]

Prints JSON; its `ratios` are ours over the baseline's, and top-5 recall. The baseline is
nn.TransformerEncoder in float32, with a DataLoader and AdamW; the encoder's is
SentenceTransformer.encode at its defaults. Rounds of both sides alternate, and the median of the
rounds counts, because the machine is shared with other work; for `ratios`, which are held against another
process's, the fastest.
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

import torch
import torch.nn.functional as F
from suite import clock
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from personality_common.runs.device import fast_dtype
from personality_common.terminal.progress import SILENT
from personality_common.text.encoder import find_minilm
from personality_common.text.sentence import SentenceEncoder
from personality_common.vocabulary import load_vocabulary
from pretrain.data.conversations import DataConfig, read_texts
from pretrain.data.spread import Spread
from pretrain.personality.config import PretrainConfig
from pretrain.personality.student import Student, start_at_teacher
from pretrain.personality.targets import QualityMeter, soft_targets
from pretrain.personality.training import TrainingData, train

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
BATCH = 256


class BaselineModel(nn.Module):
    """The same architecture from PyTorch's own parts, attention computed in full."""

    def __init__(self) -> None:
        super().__init__()
        self.projector = nn.Sequential(nn.LayerNorm(384), nn.Linear(384, 1536))
        self.input_projection = nn.Linear(1536, 512)
        layer = nn.TransformerEncoderLayer(
            512, 8, 2048, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.projection = nn.Linear(512, 325)

    def forward(self, base: Tensor) -> Tensor:
        x = self.input_projection(F.normalize(self.projector(base), dim=-1))
        logits: Tensor = self.projection(self.encoder(x.unsqueeze(1)).squeeze(1))
        return logits


def baseline_epoch(base: Tensor, tokens: Tensor) -> Callable[[], tuple[BaselineModel, float]]:
    model = BaselineModel().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    targets = torch.softmax(base @ tokens.T / 0.07, dim=-1)
    now = clock(torch.get_num_threads())
    loader = DataLoader(TensorDataset(base, targets), batch_size=BATCH, shuffle=True)

    def epoch() -> tuple[BaselineModel, float]:
        started = now()
        for x, t in loader:
            loss = F.binary_cross_entropy_with_logits(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return model, now() - started

    return epoch


def our_epoch(base: Tensor, tokens: Tensor, held_out: int) -> Callable[[], tuple[Student, float]]:
    """A real training run of one epoch; returns the seconds of its loop, which the history records."""
    rows = torch.arange(len(base)).numpy()
    array = base.numpy()
    data = TrainingData(lambda r: array[r], Spread(rows[held_out:]), Spread(rows[:held_out]), tokens)
    config = PretrainConfig(DataConfig("-"), Path("-"), epochs=1, batch_size=BATCH, device="cpu")

    def epoch() -> tuple[Student, float]:
        student = Student(384, 0.1)
        start_at_teacher(student, tokens, base[held_out:])
        with tempfile.TemporaryDirectory() as folder:
            wall = time.perf_counter()
            history, spent = timed(lambda: train(student, data, config, "cpu", Path(folder), SILENT))
            wall = time.perf_counter() - wall
        # The loop's seconds are of the wall; without others' turns where the clock leaves them out.
        return student, history[-1]["seconds"] * spent / wall

    return epoch


def alternate(
    sides: dict[str, Callable[[], tuple[Any, float]]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each side, as it reports them, after one round that warms up; and speed-ups."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, call in sides.items():
            seconds[name].append(call()[1])
    medians, least = (
        {name: of(taken[1:]) for name, taken in seconds.items()} for of in (statistics.median, min)
    )
    return medians, {
        "speedup": round(medians["baseline"] / medians["ours"], 3),
        "speedup_of_fastest": round(least["baseline"] / least["ours"], 3),
    }


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    now = clock(torch.get_num_threads())
    started = now()
    return call(), now() - started


def matmul_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the training's largest product, (256, 512) @ (512, 2048), repeated for half a second."""
    a, b = torch.randn(BATCH, 512).to(dtype), torch.randn(512, 2048).to(dtype)
    a @ b
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < 0.5:
        a @ b
        done += 1
    return 2 * BATCH * 512 * 2048 * done / (time.perf_counter() - started)


def training_flops_per_sample() -> int:
    """Forward and backward products of the parameters that are used: 6 per weight of a linear layer."""
    student = Student(384, 0.0)
    used = [p for p in student.parameters() if p.requires_grad and p.ndim == 2]
    return 6 * sum(p.numel() for p in used)


def quality(model: nn.Module, base: Tensor, tokens: Tensor) -> dict[str, float]:
    meter = QualityMeter()
    with torch.no_grad():
        meter.add(model.eval()(base), soft_targets(base, tokens))
    result = meter.result()
    return {"top5_recall": round(result.top5_recall, 4), "loss_above_floor": result.gap}


def measure_training(base: Tensor, tokens: Tensor, rounds: int) -> dict[str, Any]:
    held_out = len(base) // 20
    torch.manual_seed(0)
    ours = our_epoch(base, tokens, held_out)
    theirs = baseline_epoch(base[held_out:], tokens)
    seconds, speedups = alternate({"ours": ours, "baseline": theirs}, rounds)
    samples = len(base) - held_out
    dtype = fast_dtype("cpu")
    rate = matmul_rate(dtype)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "samples_per_second": round(samples / seconds["ours"]),
        "baseline_samples_per_second": round(samples / seconds["baseline"]),
        **speedups,
        "matmul_gflops": round(rate / 1e9),
        "share_of_matmul_rate": round(samples / seconds["ours"] * training_flops_per_sample() / rate, 3),
        "after_one_epoch": quality(ours()[0], base[:held_out], tokens),
        f"baseline_after_{rounds + 2}_epochs": quality(theirs()[0], base[:held_out], tokens),
    }


def measure_encoder(texts: list[str], rounds: int) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    folder, _ = find_minilm()
    baseline = SentenceTransformer(str(folder), device="cpu")
    dtype = fast_dtype("cpu")
    encoder = SentenceEncoder(folder, "", "cpu", dtype)
    seconds, speedups = alternate(
        {
            "ours": lambda: timed(lambda: encoder.encode(texts)),
            "baseline": lambda: timed(lambda: baseline.encode(texts)),
        },
        rounds,
    )
    cosine = (encoder.encode(texts) * baseline.encode(texts, normalize_embeddings=True)).sum(axis=1)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "words_per_text": round(statistics.mean(len(text.split()) for text in texts), 1),
        "texts_per_second": round(len(texts) / seconds["ours"]),
        "baseline_texts_per_second": round(len(texts) / seconds["baseline"]),
        **speedups,
        "mean_cosine": round(float(cosine.mean()), 6),
        "worst_cosine": round(float(cosine.min()), 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(FIXTURE))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    turns, _ = read_texts(DataConfig(options.data))
    conversations, _ = read_texts(DataConfig(options.data, unit="conversation"))
    folder, _ = find_minilm()
    encoder = SentenceEncoder(folder, "", "cpu", fast_dtype("cpu"))
    base = torch.from_numpy(encoder.encode(turns))
    base = base[torch.randperm(len(base), generator=torch.Generator().manual_seed(0))]
    tokens = torch.from_numpy(encoder.encode(load_vocabulary().tokens))
    training = measure_training(base, tokens, options.rounds)
    short = measure_encoder(turns[:300], options.rounds)
    long = measure_encoder([" ".join(text.split()[:51]) for text in conversations][:100], options.rounds)
    results = {
        "threads": torch.get_num_threads(),
        "training": training,
        "encoding_turns": short,
        "encoding_51_words": long,
        "ratios": {
            "training speed": training["speedup_of_fastest"],
            "top-5 recall after an epoch": training["after_one_epoch"]["top5_recall"],
            "encoding speed, turns": short["speedup_of_fastest"],
            "encoding speed, up to 51 words": long["speedup_of_fastest"],
        },
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
