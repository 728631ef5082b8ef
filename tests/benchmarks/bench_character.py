"""How well, and how fast, `pt character` learns: seed by seed, beside baselines and the ceiling.

    python tests/benchmarks/bench_character.py [--examples 3000] [--seeds 0] [--baselines]

Prints JSON. Of each seed: figures of the default model with expected and with drawn labels, of the engine's
first network and, where asked for, of the baselines, which take minutes; on cells that were held out, and
on 40 archetypes that nobody trained on. Its `ratios` are means over seeds, and training, on one thread,
against a straightforward loop over a `DataLoader` (`loader_loop`); `products` is how fast a step would be
that had nothing but its matrix products.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from suite import clock
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from personality_common.terminal.progress import Silent
from pretrain.character.calibration import probabilities
from pretrain.character.config import HEAD_WEIGHTS, DataConfig, TrainConfig
from pretrain.character.evaluation import HELD_OUT, UNSEEN, evaluate
from pretrain.character.export.onnx import build_onnx
from pretrain.character.generation import EXAMPLES_FILE, generate_data
from pretrain.character.model import WIDTHS, SkipModel, trainable
from pretrain.character.pipeline import read_data, train_character
from pretrain.character.quality import measure
from pretrain.character.records import Examples, manifest_path, subset
from pretrain.character.run import Run, load_run, outputs
from pretrain.character.schema import FEATURES, HEADS, Schema
from pretrain.character.split import split
from pretrain.character.training import train

BATCH = 512
ROUNDS = 7
EPOCHS = 10
"""A run has 40: what is done once, standardising and the first steps, counts four times as much here."""
CALLS = 3000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--baselines", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {"examples": options.examples, "seeds": {}}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as temporary:
            found = of_seed(Path(temporary), options.examples, seed, options.baselines)
            if seed == options.seeds[-1]:
                results["speed"] = speed(Path(temporary))
        results["seeds"][seed] = found
        print(f"seed {seed}: done", file=sys.stderr)
    results["ratios"] = ratios(results)
    print(json.dumps(results))


def of_seed(folder: Path, examples: int, seed: int, baselines: bool) -> dict[str, Any]:
    """Model -> set of examples -> output -> figures; and how long the data took, in seconds."""
    data = folder / "data"
    started = time.process_time()
    generate_data(DataConfig(data, examples, seed=seed), Silent())
    seconds = time.process_time() - started
    everything, unseen = read_data(data)
    assert unseen is not None
    parts = {
        HELD_OUT["group"]: subset(everything, split(everything, "group", seed).test),
        UNSEEN: unseen,
    }
    found: dict[str, Any] = {"data_seconds": seconds, "parameters": {}, "figures": {}}
    trained = {
        "model": TrainConfig(data, folder / "model", seed=seed),
        "drawn": TrainConfig(drawn(data, folder), folder / "drawn", seed=seed),
        "seed": TrainConfig(data, folder / "seed", model="seed", seed=seed),
    }
    for name, config in trained.items():
        train_character(config, Silent())
        run = load_run(config.output_dir)
        found["parameters"][name] = trainable(run.model)
        found["figures"][name] = {key: figures(run, part) for key, part in parts.items()}
    if baselines:
        for key, models in evaluate(load_run(folder / "model"), None, Silent()).figures.items():
            for name in models.keys() - {"model"}:
                own = {output: asdict(quality) for output, quality in models[name].items()}
                found["figures"].setdefault(name, {})[key] = own
    return found


def drawn(data: Path, folder: Path) -> Path:
    """The same examples without their expected labels."""
    path = folder / "drawn.jsonl"
    with (data / EXAMPLES_FILE).open() as lines, path.open("w") as file:
        for line in lines:
            example = json.loads(line)
            del example["expected"]
            file.write(json.dumps(example) + "\n")
    manifest_path(path).write_bytes(manifest_path(data / EXAMPLES_FILE).read_bytes())
    return path


def figures(run: Run, part: Examples) -> dict[str, Any]:
    predicted = probabilities(outputs(run.model, part.features), run.schema, run.temperatures)
    return {
        key: asdict(quality) | {"share": quality.share} for key, quality in measure(predicted, part).items()
    }


def speed(folder: Path) -> dict[str, Any]:
    """Examples a second of both loops, and milliseconds of a single row in ONNX Runtime."""
    import onnxruntime

    torch.set_num_threads(1)
    examples, _ = read_data(folder / "data")
    ours, theirs, products = [], [], []
    our_loop(examples, folder / "warm")
    for round_ in range(ROUNDS):
        ours.append(our_loop(examples, folder / f"round{round_}"))
        theirs.append(loader_loop(examples))
        products.append(products_alone(examples))
    run = load_run(folder / "model")
    values = {name: p.detach().numpy() for name, p in run.model.named_parameters()}
    alone = onnxruntime.SessionOptions()
    alone.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        build_onnx(values, run.model_name, run.schema, "float32", {}), alone
    )
    times = []
    for row in range(CALLS):
        started = time.perf_counter()
        session.run(list(HEADS), {"features": examples.features[row % len(examples)][None]})
        times.append(1000 * (time.perf_counter() - started))
    return {
        "ours": statistics.median(ours),
        "loader": statistics.median(theirs),
        "products": statistics.median(products),
        "times": max(ours) / max(theirs),
        "onnxruntime_ms": {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))},
    }


def our_loop(examples: Examples, folder: Path) -> float:
    """Examples a second of `train`, with what it measures and keeps."""
    model = fitted(examples)
    few = subset(examples, np.arange(100))
    now = clock(1)
    started = now()
    train(model, examples, few, TrainConfig(folder, folder, epochs=EPOCHS), folder, Silent())
    return EPOCHS * len(examples) / (now() - started)


def loader_loop(examples: Examples) -> float:
    """Of a straightforward loop: the same network, which standardises what it is given, and the same loss,
    output by output; batches of a `TensorDataset`, collated example by example; AdamW as it comes, one cycle,
    gradients clipped, the loss added up every step.
    """
    targets = examples.labels if examples.expected is None else examples.expected
    dataset = TensorDataset(torch.from_numpy(examples.features), torch.from_numpy(targets))
    loader = DataLoader(dataset, BATCH, shuffle=True)
    model = fitted(examples).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    schedule = OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS * len(loader))
    now = clock(1)
    started, total = now(), 0.0
    for _ in range(EPOCHS):
        for features, wanted in loader:
            batch_loss = plain_loss(torch.cat(model(features), 1), wanted, examples.schema)
            optimizer.zero_grad()
            batch_loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            total += batch_loss.item()
    assert math.isfinite(total)
    return EPOCHS * len(examples) / (now() - started)


def plain_loss(flat: Tensor, wanted: Tensor, schema: Schema) -> Tensor:
    """`pretrain.character.losses.loss`, as it is written first."""
    total = torch.zeros(())
    for output in schema.of_kind("class", "binary", "real"):
        place = schema.places[output.key]
        ours, theirs = flat[:, place], wanted[:, place]
        if output.kind == "class":
            part = F.cross_entropy(ours, theirs)
        elif output.kind == "binary":
            part = F.binary_cross_entropy_with_logits(ours, theirs)
        else:
            part = F.mse_loss(ours, theirs)
        total = total + HEAD_WEIGHTS[output.head] * part
    return total


def products_alone(examples: Examples) -> float:
    """Of the matrix products of a step and nothing else: forward, weights' gradients, hidden gradients."""
    features = torch.from_numpy(examples.features[:BATCH])
    (inner, outer), size = WIDTHS, examples.schema.size
    shapes = [(FEATURES, inner, False), (FEATURES, size, False), (inner, outer, True), (outer, size, True)]
    layers = [(torch.randn(b, a), torch.randn(BATCH, b), hidden) for a, b, hidden in shapes]
    steps, now = EPOCHS * len(examples) // BATCH, clock(1)
    started = now()
    for _ in range(steps):
        for weight, gradient, hidden in layers:
            x = features[:, : weight.shape[1]]
            x @ weight.T
            gradient.T @ x
            if hidden:
                gradient @ weight
    return steps * BATCH / (now() - started)


def fitted(examples: Examples) -> SkipModel:
    model = SkipModel(examples.schema, dropout=0.0)
    with torch.no_grad():
        model.standardize.fit(torch.from_numpy(examples.features))
    return model


def ratios(results: dict[str, Any]) -> dict[str, float]:
    def mean(part: str, key: str, figure: str) -> float:
        return statistics.mean(s["figures"]["model"][part][key][figure] for s in results["seeds"].values())

    return {
        "training against a DataLoader": results["speed"]["times"],
        "action, share of the ceiling": mean(HELD_OUT["group"], "action.type", "share"),
        "awareness, unseen archetypes": mean(UNSEEN, "thought.awareness", "accuracy"),
        "dominant emotion, unseen archetypes": mean(UNSEEN, "thought.dominant", "accuracy"),
    }


if __name__ == "__main__":
    main()
