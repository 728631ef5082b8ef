"""What labels add to a run: AUC and hit@8 on held-out labelled texts, and what the teacher's ranking loses.

    python tests/benchmarks/bench_labels.py [--data FILE] [--weights 0.1 0.5] [--seeds 0 1 2]

Trains on unlabelled texts and `fixtures/labelled-train.jsonl` together, and measures labels on
`fixtures/labelled-held-out.jsonl` and top-5 recall against the teacher on held-out unlabelled texts. Prints
JSON: baselines, each weight's figures of each seed, and means. Its `ratios` are those of the last weight.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from personality_common.terminal.progress import SILENT
from personality_common.text.encoder import load_encoder
from personality_common.vocabulary import load_vocabulary
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import PretrainConfig
from pretrain.personality.label_metrics import Measured, measure
from pretrain.personality.pipeline import pretrain
from pretrain.personality.run import load_run
from pretrain.personality.targets import soft_targets

FIXTURES = Path(__file__).parents[2] / "fixtures"
VAL_FRACTION = 0.2
"""Of a thousand unlabelled texts: 5% would be fifty."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=FIXTURES / "conversations.jsonl")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.2, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    records = [json.loads(line) for line in (FIXTURES / "labelled-held-out.jsonl").read_text().splitlines()]
    vocabulary = load_vocabulary()
    encoder = load_encoder("minilm", "cpu", torch.float32)
    base = torch.from_numpy(encoder.encode([record["text"] for record in records]))
    tokens = torch.from_numpy(encoder.encode(vocabulary.tokens))
    truth = np.zeros((len(records), len(vocabulary.tokens)), np.bool_)
    for row, record in enumerate(records):
        truth[row, [vocabulary.index(token) for token in record["tokens"]]] = True
    baselines = {
        "chance": np.random.default_rng(0).random(truth.shape, np.float32),
        "prior": np.broadcast_to(truth.mean(axis=0, dtype=np.float32), truth.shape),
        "teacher": soft_targets(base, tokens).numpy(),
    }
    results: dict[str, Any] = {name: _figures(measure(truth, score)) for name, score in baselines.items()}
    with tempfile.TemporaryDirectory() as temporary:
        data, run = Path(temporary) / "data", Path(temporary) / "run"
        data.mkdir()
        for file in (options.data, FIXTURES / "labelled-train.jsonl"):
            shutil.copy(file, data)
        for weight in options.weights:
            finals = []
            for seed in options.seeds:
                config = PretrainConfig(
                    DataConfig(str(data)), run, seed=seed, device="cpu", val_fraction=VAL_FRACTION,
                    label_weight=weight, overwrite=True,
                )  # fmt: skip
                recall = pretrain(config, SILENT).history[-1]["val_top5_recall"]
                finals.append(_figures(_measured(run, base, truth)) | {"top5_recall": recall})
            means = {name: statistics.mean(final[name] for final in finals) for name in finals[0]}
            results[f"W {weight:g}"] = {"seeds": dict(zip(options.seeds, finals, strict=True)), "mean": means}
    results["ratios"] = {
        "AUC over the teacher's": means["auc"] / results["teacher"]["auc"],
        "hit@8 over the teacher's": means["hit8"] / results["teacher"]["hit8"],
        "top-5 recall": means["top5_recall"],
    }
    print(json.dumps(results, indent=2))


@torch.inference_mode()
def _measured(folder: Path, base: torch.Tensor, truth: np.ndarray) -> Measured:
    run = load_run(folder)
    embedding = base if run.projector is None else run.projector(base)
    return measure(truth, torch.sigmoid(run.model(embedding)).numpy())


def _figures(found: Measured) -> dict[str, float]:
    return {"auc": found.auc, "ap": found.average_precision, "hit8": found.hits[8]}


if __name__ == "__main__":
    main()
