"""What the number of processes changes: weights, validation figures, speed.

    python tests/benchmarks/bench_processes.py [--full] [--data FILE] [--processes 1 2 4] [--seeds 0 1 2]
        [--local-steps 1]

Prints JSON. Each run is `torchrun --nproc-per-node N -m pretrain` with one thread a process, and the real
encoder. Without arguments: speed and recall on generated texts, two processes over one in `ratios`, and how
near cluster.py comes to the measured points. With `--full`: without dropout the weights after
an epoch are compared with those of one process, and with how far they moved; with dropout, held-out figures
after the default epochs, with their spread over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cluster
import numpy as np
from bench_scale import write_texts
from safetensors.numpy import load_file

from pretrain.personality.student import Student

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
TEXTS, EPOCHS, BATCH, LOCAL = 5_000, 4, 256, 20
"""Of the short run."""
WEIGHTS = ("personality_model_weights.safetensors", "embedding_projector_weights.safetensors")


def torchrun(size: int, data: str, run: Path, *more: str) -> tuple[dict[str, Any], dict[str, float]]:
    """What the run printed, and when each line on stderr came, by its first word, in seconds."""
    launcher = [
        "-m",
        "torch.distributed.run",
        *("--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--local-addr", "127.0.0.1"),
        "--nproc-per-node",
        str(size),
        "-m",
        "pretrain",
    ]
    options = ["--data", data, "--output-dir", str(run), "--device", "cpu", "--json", *more]
    process = subprocess.Popen(
        [sys.executable, *launcher, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
    )
    assert process.stderr is not None
    assert process.stdout is not None
    lines, came = [], {}
    for line in process.stderr:
        lines.append(line)
        came[line.split(" ", 1)[0]] = time.perf_counter()
    if process.wait():
        sys.exit("".join(lines))
    return json.loads(process.stdout.read()), came


def weights(run: Path) -> dict[str, Any]:
    return {f"{file}/{name}": t for file in WEIGHTS for name, t in load_file(run / file).items()}


def largest(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)


def short(folder: Path) -> dict[str, Any]:
    """Speed in processes of three numbers, with and without local steps, and what cluster.py makes of it.

    The embeddings are of the first run with 1 and with 2 processes; the others copy its cache.
    """
    data = folder / "texts.jsonl"
    write_texts(data, TEXTS)
    embedding, recall, points = {}, {}, []
    for size, batch, local in (
        (1, BATCH, 1), (2, BATCH, 1), (1, BATCH // 4, 1), (4, BATCH, 1), (2, BATCH, LOCAL), (4, BATCH, LOCAL),
    ):  # fmt: skip
        run = folder / f"{size}-{batch}-{local}"
        if size in embedding or size > 2:
            shutil.copytree(folder / f"1-{BATCH}-1" / "cache", run / "cache")
        options = ("--epochs", str(EPOCHS), "--batch-size", str(batch), "--local-steps", str(local))
        result, came = torchrun(size, str(data), run, *options)
        if result["embedded"]:
            embedding[size] = result["embedded"] / (came["embedded"] - came["encoder:"])
        if local == 1 and batch == BATCH:
            recall[size] = result["quality"]["val_top5_recall"]
        epochs = json.loads((run / "training_history.json").read_text())["epochs"]
        # The first epoch has what is done once in it.
        seconds = statistics.median(epoch["seconds"] for epoch in epochs if epoch["epoch"] > 1)
        texts = epochs[-1]["samples_per_second"] * epochs[-1]["seconds"]
        points.append(cluster.Point(size, batch, local, round(texts), seconds))
    speed = {(p.processes, p.batch, p.local_steps): p.texts / p.seconds for p in points}
    alone = speed[1, BATCH, 1]
    gradients = 4.0 * sum(p.numel() for p in Student(384, 0.0).parameters() if p.requires_grad)
    return {
        "embedding_texts_per_second": {size: round(rate) for size, rate in embedding.items()},
        "top5_recall": recall,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "simulation": cluster.report(points, os.cpu_count() or 1, gradients),
        "ratios": {
            "training in two processes over one": round(speed[2, BATCH, 1] / alone, 3),
            f"training in two processes, {LOCAL} local steps, over one": round(
                speed[2, BATCH, LOCAL] / alone, 3
            ),
            "embedding in two processes over one": round(embedding[2] / embedding[1], 3),
            "top-5 recall of two processes over one": round(recall[2] / recall[1], 4),
        },
    }


def without_dropout(sizes: list[int], data: str, folder: Path, more: list[str]) -> list[dict[str, Any]]:
    """An epoch, everything from the start: reading, embedding, training."""
    rows: list[dict[str, Any]] = []
    alone: dict[str, Any] = {}
    for size in sizes:
        run = folder / f"plain-{size}"
        result, came = torchrun(size, data, run, "--epochs", "1", "--dropout", "0", *more)
        ours = weights(run)
        alone = alone or ours
        moved = float(np.abs(ours[f"{WEIGHTS[0]}/encoder.0.ffn_out.weight"]).max())  # zero at the start
        rows.append(
            {
                "processes": size,
                "largest_difference": float(f"{largest(ours, alone):.2g}"),
                "weights_moved_by": float(f"{moved:.2g}"),
                "embedding_texts_per_second": round(
                    result["embedded"] / (came["embedded"] - came["encoder:"])
                ),
                "training_samples_per_second": round(result["quality"]["samples_per_second"]),
            }
        )
    return rows


def with_dropout(
    sizes: list[int], seeds: list[int], data: str, folder: Path, more: list[str]
) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        found = []
        for seed in seeds:
            run = folder / f"{size}-{seed}"
            shutil.copytree(folder / f"plain-{sizes[0]}" / "cache", run / "cache")
            found.append(torchrun(size, data, run, "--seed", str(seed), *more)[0]["quality"])
            shutil.rmtree(run)
        for_all = {name: [one[name] for one in found] for name in ("val_top5_recall", "val_loss")}
        rows.append(
            {
                "processes": size,
                "top5_recall": [round(value, 4) for value in for_all["val_top5_recall"]],
                "loss_above_floor": [
                    float(f"{one['val_loss'] - one['val_loss_floor']:.3g}") for one in found
                ],
                "mean_top5_recall": round(statistics.mean(for_all["val_top5_recall"]), 4),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--data", default=str(FIXTURE))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--local-steps", type=int, default=1)
    options = parser.parse_args()
    more = ["--local-steps", str(options.local_steps)] if options.local_steps > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        if not options.full:
            print(json.dumps(short(Path(folder)), indent=2))
            return
        plain = without_dropout(options.processes, options.data, Path(folder), more)
        report = {
            "without_dropout": plain,
            "with_dropout": with_dropout(options.processes, options.seeds, options.data, Path(folder), more),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
