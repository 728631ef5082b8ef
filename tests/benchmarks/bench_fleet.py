"""CPU time of a device-night of `pt fleet`, beside that of the matrix work it cannot do without.

    python tests/benchmarks/bench_fleet.py [--bundle BUNDLE --data FILE --run RUN] [--before TREE]

Without a bundle, one is trained and exported first, and texts are embedded by the run's encoder.

Runs `pt fleet` as a user would, from the first process to the report. Then some of its devices live again in
a process like a worker, on one thread, in turn with the same by the packages in TREE, another commit's, and
with the matrix work that a night of the posterior learner consists of at least: the day's logits and the
user's scores; the sums of a night; two factorizations, of all nights and of the suspects, with their
solutions and one product each; the KL on the reference; and its share of the measurements on held-out texts.
`least work` is that CPU time over a device-night's: what is left is draws, counts of the top 8 over the
reference, and many small operations.

Prints JSON. Memory is the largest sum over all processes of what each holds alone, and its share of what they
share (PSS), every half second; CPU seconds are of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from device_sim.fleet.lives import BATCH, GLANCE, live_together, measured_nights
from device_sim.fleet.plan import read_plan
from device_sim.fleet.tables import Tables, all_texts
from device_sim.fleet.worker import make_device
from device_sim.heads.shipped import open_shipped, shipped_reference
from device_sim.simulate.config import HELD_OUT_TEXTS
from grpo.learners import make_learner
from personality_common.contract import LATENT_DIM, VOCAB_SIZE
from personality_common.terminal.progress import SILENT
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import PretrainConfig
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.pipeline import pretrain

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"

ROUNDS = 3
"""In turn; of each the fastest counts."""
LOOK = 0.5
"""Seconds between looks at the memory."""


def least_work(texts: int, nights: int, dim: int, sample: int) -> float:
    """CPU seconds of a device-night in what cannot be left out.

    Args:
        dim: of base embeddings.
        sample: texts in the reference.
    """
    latents, weight = torch.randn(texts, LATENT_DIM), torch.randn(LATENT_DIM, VOCAB_SIZE)
    base, tokens = torch.randn(texts, dim), torch.randn(dim, VOCAB_SIZE)
    rows = torch.randn(texts + 1, VOCAB_SIZE + 2, dtype=torch.float64)
    products = rows.T @ rows
    matrix = torch.eye(VOCAB_SIZE) + products[:VOCAB_SIZE, :VOCAB_SIZE].float()
    shifted, likely = torch.randn(2, VOCAB_SIZE), torch.rand(VOCAB_SIZE, sample)
    held_out = (2 * HELD_OUT_TEXTS + GLANCE * (len(measured_nights(nights)) - 1)) / nights
    measured = torch.randn(round(held_out), LATENT_DIM)
    times, start = 100, time.process_time()
    for _ in range(times):
        latents @ weight
        base @ tokens
        products.addmm_(rows.T, rows, alpha=0)
        for _ in range(2):
            factor = torch.linalg.cholesky(matrix)
            half = torch.linalg.solve_triangular(factor, matrix[:, :1], upper=False)
            taste = torch.linalg.solve_triangular(factor.mT, half, upper=True)
            products[:VOCAB_SIZE, :VOCAB_SIZE] @ taste.double()
        shifted @ likely
        measured @ weight
    return (time.process_time() - start) / times


def live_again(folder: Path) -> float:
    """CPU seconds of a device-night of a fleet that has lived."""
    plan = read_plan(folder)
    torch.set_num_threads(1)
    bundle, tables = open_shipped(plan.bundle), Tables(plan)
    available, _ = all_texts(plan.data, plan.nights.nights * plan.nights.interactions)
    learner = make_learner(plan.learner, shipped_reference(bundle, plan.grpo))
    count = min(BATCH, plan.devices)
    first = make_device(plan, 0, bundle, available, tables)
    live_together([first], learner, replace(plan.nights, nights=1), len(plan.kinds))
    start = time.process_time()
    devices = [make_device(plan, number, bundle, available, tables) for number in range(count)]
    live_together(devices, learner, plan.nights, len(plan.kinds))
    return (time.process_time() - start) / (count * plan.nights.nights)


def elsewhere(folder: Path, environment: dict[str, str]) -> float:
    """`live_again` in a process of its own."""
    command = [sys.executable, __file__, "--again", str(folder)]
    return float(subprocess.check_output(command, env=os.environ | environment))


def in_turn(folder: Path, before: Path | None) -> dict[str, float]:
    """CPU seconds of a device-night of a fleet that has lived, now, before, and of its least work."""
    # Not above: another commit's packages may not have it, and `live_again` is asked of those too.
    from device_sim.fleet.fleet import ENVIRONMENT

    plan = read_plan(folder)
    torch.set_num_threads(1)
    sample = len(shipped_reference(open_shipped(plan.bundle), plan.grpo).latents)
    dim, texts = Tables(plan).tokens.shape[1], plan.nights.interactions
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        found["now"].append(elsewhere(folder, ENVIRONMENT))
        if before:
            found["before"].append(elsewhere(folder, {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(before)}))
        found["least"].append(least_work(texts, plan.nights.nights, dim, sample))
    return {name: min(seconds) for name, seconds in found.items()}


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
    parser.add_argument("--run", type=Path, help="of the bundle")
    parser.add_argument("--devices", type=int, default=160)
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--interactions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--before", type=Path, help="packages of another commit: git archive COMMIT | tar x")
    parser.add_argument("--again", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.again:
        print(live_again(options.again))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.bundle is None:
            options.bundle, options.run = make_bundle(Path(folder), options.data)
        out = Path(folder) / "fleet"
        command = [
            sys.executable, "-m", "personality_common.cli", "fleet", options.bundle, "--data", options.data,
            "--out", out, "--devices", options.devices, "--nights", options.nights,
            "--interactions", options.interactions, "--workers", options.workers,
            *(["--run", options.run] if options.run else []),
        ]  # fmt: skip
        start, wall = time.perf_counter(), time.time()
        process = subprocess.Popen(list(map(str, command)), stdout=sys.stderr)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(LOOK)
        seconds = time.perf_counter() - start
        report = out / "fleet.json"
        # 1: a verdict on the learning, which is not asked about here.
        if process.returncode not in (0, 1) or not report.exists():
            raise SystemExit(process.returncode or 1)
        embedded = (out / "tables" / "latents.npy").stat().st_mtime - wall
        lived = max(file.stat().st_mtime for file in (out / "chunks").iterdir()) - wall
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        again = in_turn(out, options.before)
    nights = options.devices * options.nights
    found: dict[str, Any] = {
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
        "cpu_ms_of_a_device_night": round(again["now"] * 1e3, 2),
        "cpu_ms_of_its_least_work": round(again["least"] * 1e3, 3),
        "ratios": {"least work, of a device-night": round(again["least"] / again["now"], 3)},
    }
    if options.before:
        found["cpu_ms_of_a_device_night_before"] = round(again["before"] * 1e3, 2)
        found["ratios"]["before, over now"] = round(again["before"] / again["now"], 3)
    print(json.dumps(found, indent=2))


def make_bundle(folder: Path, data: str) -> tuple[Path, Path]:
    """A bundle, and its run."""
    pretrain(PretrainConfig(DataConfig(data), folder / "run", device="cpu"), SILENT)
    export(ExportConfig(folder / "run", folder / "bundle", only=("model", "encoder")), SILENT)
    return folder / "bundle", folder / "run"


if __name__ == "__main__":
    main()
