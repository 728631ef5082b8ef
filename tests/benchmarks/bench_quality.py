"""How well `pt pretrain` keeps the teacher's ranking: both starts, several seeds.

    python tests/benchmarks/bench_quality.py [--data FILE] [--run DIR] [--seeds 0 1 2]

Prints JSON: held-out figures of each seed, and their means. Its `ratios` are the teacher start's: the
plain start's recall after three epochs of a small file is chance. What is above the floor is small, so
its ratio is the floor over it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from personality_common.terminal.progress import SILENT
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import STARTS, PretrainConfig
from pretrain.personality.pipeline import pretrain

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
FIGURES = ("val_top5_recall", "val_top8_recall", "val_ndcg8", "val_loss", "val_loss_floor")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(FIXTURE))
    parser.add_argument("--run", type=Path, help="keeps the embedding cache for the next time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or Path(temporary)
        for start in STARTS:
            finals = []
            for seed in options.seeds:
                config = PretrainConfig(
                    DataConfig(options.data), run, seed=seed, start=start, device="cpu", overwrite=True
                )
                history = pretrain(config, SILENT).history
                finals.append({name: history[-1][name] for name in FIGURES})
                finals[-1]["gap"] = history[-1]["val_loss"] - history[-1]["val_loss_floor"]
                finals[-1]["start_top5_recall"] = history[0]["val_top5_recall"]
            means = {name: statistics.mean(final[name] for final in finals) for name in finals[0]}
            results[start] = {"seeds": dict(zip(options.seeds, finals, strict=True)), "mean": means}
    teacher = results["teacher"]["mean"]
    results["ratios"] = {
        "top-5 recall": teacher["val_top5_recall"],
        "NDCG@8": teacher["val_ndcg8"],
        "floor over what is above it": teacher["val_loss_floor"] / teacher["gap"],
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
