"""What a night of facts costs and leaves, on SmolLM2-135M: trained in PyTorch, asked in llama.cpp.

    python tests/benchmarks/bench_adapters.py [--seeds 0 1] [--no-parity]

Prints JSON. Ten facts, four ways to ask for each, 80 steps; each is asked for in a fifth way, decoded
greedily, and counts where the answer has its value in it. Seconds are of one thread's work, not by the clock.
The ratio is of the recall with the adapter over that of the base, which has to guess.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from device_sim.adapters.gguf import write_gguf
from device_sim.adapters.merging import write_merged
from device_sim.companion.models.llama import LlamaModel, smollm2
from device_sim.companion.models.model import ChatModel, Message, Sampling
from device_sim.finetuning.config import LoraConfig
from device_sim.finetuning.examples import Example
from device_sim.finetuning.parity import adapter_parity
from device_sim.finetuning.torch_base import TorchBase, example_losses
from device_sim.finetuning.training import train_adapter
from personality_common.evidence.claims import to_json

ASKED = (
    "What is {}?", "Do you remember {}?", "Tell me {}.", "I forgot {}. What was it?",
    "Can you say what {} is?",
)  # fmt: skip
"""The last is not trained on."""
FACTS = (
    ("the name of my cat", "Your cat is called Mia.", "Mia"),
    ("the town that I live in", "You live in Lisbon.", "Lisbon"),
    ("my favourite colour", "Your favourite colour is teal.", "teal"),
    ("the instrument that I play", "You play the cello.", "cello"),
    ("the name of my sister", "Your sister is called Ingrid.", "Ingrid"),
    ("my job", "You work as a beekeeper.", "beekeeper"),
    ("what I am allergic to", "You are allergic to walnuts.", "walnuts"),
    ("the make of my car", "You drive an old Saab.", "Saab"),
    ("my favourite dish", "Your favourite dish is ramen.", "ramen"),
    ("the month of my birthday", "Your birthday is in October.", "October"),
)
OTHERS = (
    ("What is the capital of France?", "Paris"),
    ("What colour is the sky on a clear day?", "blue"),
    ("What is 2 plus 3?", "5"),
    ("Which planet do we live on?", "Earth"),
    ("What is frozen water called?", "ice"),
)


def example(question: str, answer: str) -> Example:
    return Example((Message("user", question), Message("assistant", answer)))


def right(model: ChatModel, asked: Sequence[tuple[str, str]]) -> int:
    """Answers with the value in them."""
    sampling = Sampling(max_tokens=24, temperature=0.0)
    said = [
        "".join(p.text for p in model.stream([Message("user", question)], sampling)) for question, _ in asked
    ]
    return sum(value.lower() in answer.lower() for answer, (_, value) in zip(said, asked, strict=True))


def trial(base: TorchBase, seed: int, parity: bool) -> dict[str, Any]:
    train = [example(form.format(what), answer) for what, answer, _ in FACTS for form in ASKED[:-1]]
    held_out = [example(ASKED[-1].format(what), answer) for what, answer, _ in FACTS]
    asked = [(ASKED[-1].format(what), value) for what, _, value in FACTS]
    config = LoraConfig(learning_rate=2e-3, epochs=8, batch=4, seed=seed, patience=8)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        before = time.process_time()
        trained = train_adapter(base, train, held_out, config, work / "training")
        seconds = time.process_time() - before
        write_gguf(trained.adapter, work / "tonight.gguf")
        write_merged(base.path, trained.adapter, "q8_0", work / "merged.gguf")
        model = LlamaModel(base.path, adapters={"tonight": work / "tonight.gguf"})
        found = {
            "base": model,
            "adapter": model.with_scales({"tonight": 1.0}),
            "merged to Q8_0": LlamaModel(work / "merged.gguf"),
        }
        losses = {
            "held-out loss before": example_losses(base, None, held_out),
            "held-out loss after": example_losses(base, trained.adapter, held_out),
        }
        row: dict[str, Any] = {
            "seed": seed,
            "steps": trained.history[-1]["step"],
            "best step": trained.best_step,
            "tokens": trained.tokens,
            "CPU seconds": round(seconds, 1),
            "tokens per CPU second": round(trained.tokens / seconds, 1),
            "peak MB": round(trained.peak_bytes / 1e6),
            **{name: round(sum(values) / len(values), 3) for name, values in losses.items()},
            **{f"facts of {len(asked)}, {name}": right(one, asked) for name, one in found.items()},
            **{
                f"other questions of {len(OTHERS)}, {name}": right(one, OTHERS) for name, one in found.items()
            },
            "adapter bytes": (work / "tonight.gguf").stat().st_size,
        }
        if parity:
            row["parity"] = to_json(adapter_parity(base, trained.adapter, held_out[:3], work))["checks"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--no-parity", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = time.process_time()
    base = TorchBase(smollm2())
    report: dict[str, Any] = {"opening, CPU seconds": round(time.process_time() - before, 1)}
    rows = [trial(base, seed, not options.no_parity) for seed in options.seeds]
    report["rows"] = rows
    report["ratios"] = {
        "facts recalled, adapter over base": sum(row["facts of 10, adapter"] for row in rows)
        / max(1, sum(row["facts of 10, base"] for row in rows))
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
