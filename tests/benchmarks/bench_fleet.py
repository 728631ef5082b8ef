"""Device-nights a second of `pt fleet`, as a share of what its matrix products alone would allow.

    python tests/benchmarks/bench_fleet.py [--bundle BUNDLE --data FILE] [--devices 256] [--nights 14]

Without a bundle, one is trained and exported first.

Runs `pt fleet` as a user would, from the first process to the report, and measures the limit right before
and right after: as many processes as there are workers, one thread each, do the float32 products of an update
that steps the weights themselves, for `--interactions` texts: two products a step (logits, gradient), 12
steps. `of_matmul_limit` is the rate of device-nights against that limit, from start to end; "matmul limit,
living" that between the last text's embedding and the last device's last night. The update in use needs fewer
products (the Gram matrix of the night's texts stands in for the weights); `of_own_products` counts those that
it does.

Prints JSON. Memory is the largest sum over all processes of what each holds alone, and its share of what they
share (PSS), every half second; CPU seconds are of all processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from device_sim.fleet.config import FleetConfig
from device_sim.fleet.lives import BATCH, GLANCE, measured_nights
from device_sim.simulate.config import HELD_OUT_TEXTS
from personality_common.contract import LATENT_DIM, VOCAB_SIZE
from personality_common.terminal.progress import SILENT
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import PretrainConfig
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.pipeline import pretrain

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"

SECONDS = 3.0
"""That the limit is measured for."""
LOOK = 0.5
"""Seconds between looks at the memory."""


def products(texts: int, seconds: float) -> float:
    """FLOP/s of one thread in the products of a dense step."""
    torch.set_num_threads(1)
    latents, weight = torch.randn(BATCH, texts, LATENT_DIM), torch.randn(BATCH, VOCAB_SIZE, LATENT_DIM)
    gradient = torch.randn(BATCH, VOCAB_SIZE, texts)
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        torch.bmm(latents, weight.transpose(1, 2))
        torch.bmm(gradient, latents)
        done += 2 * BATCH * 2 * texts * LATENT_DIM * VOCAB_SIZE
    return done / elapsed


def limit(workers: int, texts: int) -> float:
    """FLOP/s of all workers together, at the same time."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(products, [(texts, 0.2)] * workers)
        return sum(pool.starmap(products, [(texts, SECONDS)] * workers))


def memory(root: int) -> int:
    """Bytes of a process and all that it started."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(file.parent.name)] = int(file.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    family = {root}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    total = 0
    for process in family:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) << 10
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", default=str(FIXTURE))
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--interactions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or make_bundle(Path(folder), options.data)
        before = limit(options.workers, options.interactions)
        out = Path(folder) / "fleet"
        command = [
            sys.executable, "-m", "personality_common.cli", "fleet", bundle, "--data", options.data,
            "--out", out, "--devices", options.devices, "--nights", options.nights,
            "--interactions", options.interactions, "--workers", options.workers,
        ]  # fmt: skip
        start, wall = time.perf_counter(), time.time()
        process = subprocess.Popen(list(map(str, command)), stdout=sys.stderr)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(LOOK)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(process.returncode)
        embedded = (out / "tables" / "latents.npy").stat().st_mtime - wall
        lived = max(file.stat().st_mtime for file in (out / "chunks").iterdir()) - wall
    flops = (before + limit(options.workers, options.interactions)) / 2
    print(json.dumps(figures(options, seconds, embedded, lived, peak, flops), indent=2))


def make_bundle(folder: Path, data: str) -> Path:
    pretrain(PretrainConfig(DataConfig(data), folder / "run", device="cpu"), SILENT)
    export(ExportConfig(folder / "run", folder / "bundle", only=("model", "encoder")), SILENT)
    return folder / "bundle"


def figures(
    options: argparse.Namespace, seconds: float, embedded: float, lived: float, peak: int, flops: float
) -> dict[str, Any]:
    grpo = FleetConfig(Path(), "").grpo
    product = 2 * LATENT_DIM * VOCAB_SIZE  # FLOP for one text
    dense = grpo.inner_iterations * 2 * options.interactions * product
    # Logits to draw from, those of the shipped head, the head, and its logits; steps; held-out texts.
    own = 4 * options.interactions * product
    own += grpo.inner_iterations * 2 * options.interactions**2 * VOCAB_SIZE
    held_out = 2 * HELD_OUT_TEXTS + GLANCE * (len(measured_nights(options.nights)) - 1)
    own += held_out * product / options.nights
    nights = options.devices * options.nights
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "devices": options.devices,
        "nights": options.nights,
        "interactions": options.interactions,
        "workers": options.workers,
        "seconds": round(seconds, 1),
        "seconds_until_embedded": round(embedded, 1),
        "seconds_until_lived": round(lived, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "peak_memory_gib": round(peak / 2**30, 2),
        "device_nights_per_second": round(nights / seconds, 1),
        "device_nights_per_second_living": round(nights / (lived - embedded), 1),
        "gflops_of_products": round(flops / 1e9, 1),
        "matmul_limit_device_nights_per_second": round(flops / dense, 1),
        "of_matmul_limit": round(nights / seconds / (flops / dense), 3),
        "ratios": {"matmul limit, living": round(nights / (lived - embedded) / (flops / dense), 3)},
        "of_own_products_living": round(nights / (lived - embedded) * own / flops, 3),
    }


if __name__ == "__main__":
    main()
