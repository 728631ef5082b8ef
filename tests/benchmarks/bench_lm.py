"""The demo size of `pt lm`: what it has learned after minutes of one core, how fast, and what its files hold.

    python tests/benchmarks/bench_lm.py [--seeds 100 101 102] [--tokens 3] [--prompts 400] [--only quality …]

Prints JSON. Answers are decoded by llama.cpp from the exported Q8_0 file, greedily, under the grammar of the
tools on offer: about values that training never saw, in phrasings that it never saw, and where no tool fits.
Prompts are none of the mix's own. Bits per byte are of the mix's test documents. Speed and files: see
`lm_training.py` and `lm_files.py`. Of the ratios, the first two are the exact calls over those of a model
that guesses one tool of three and knows its values.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_files import agreement, differences_by_type
from lm_training import against_trainer, muon_against_adamw

from personality_common.runs.allocation import keep_freed_memory
from personality_common.terminal.progress import SILENT
from pretrain.lm.answers import is_valid_call
from pretrain.lm.bits import Training, measure
from pretrain.lm.calls import INVOKE, MOST_TOKENS, NONE, Tool, grammar, room_for_strings
from pretrain.lm.chat import Document
from pretrain.lm.config import DataConfig, ExportConfig, TokenizerConfig, TrainConfig
from pretrain.lm.data.build import build_data
from pretrain.lm.data.folder import open_data
from pretrain.lm.data.tools import argument_type, tool_documents, tools
from pretrain.lm.export.folder import export
from pretrain.lm.llama import Llama
from pretrain.lm.pipeline import documents_of, make_tokenizer, train_lm
from pretrain.lm.run import load_run

PARTS = ("quality", "bits", "types", "agreement", "speed", "optimizers")
OFFERS = {
    tool.name: Tool(tool.name, tool.description, {k: argument_type(v) for k, v in tool.arguments.items()})  # type: ignore[misc]
    for tool in tools()
}
TOKENS, BATCH, RATE = 3.0, 4, 0.006
"""Of the demo: millions, rows, AdamW's rate. The Makefile and the README have the same, which a test says."""
STRINGS = 10_000
OPTIMIZERS_SHARE = 0.15
"""Of the tokens, for each run that compares optimizers."""


def ask(llama: Llama, document: Document) -> dict[str, bool]:
    """What is right about the answer to the one question of an example."""
    offered, _, wanted = document.turns[:3]
    on_offer = [OFFERS[json.loads(line)["name"]] for line in offered.text.splitlines()]
    prompt = llama.encode_prompt(Document("", "", "", None, document.turns[:2]))
    rules = grammar(on_offer, longest=room_for_strings(llama, on_offer, prompt))
    said = llama.generate(prompt, MOST_TOKENS, rules)
    called = said.ids[:1] == [INVOKE]
    return {
        "exact": called and said.text == wanted.text,
        "abstained": said.ids[:1] == [NONE],
        "valid": not called or is_valid_call(said.text, offered.text),
    }


def quality(file: Path, prompts: int) -> dict[str, Any]:
    """Shares of right answers, by what is held out."""
    llama = Llama(file)
    found: dict[str, list[dict[str, bool]]] = defaultdict(list)
    for document in tool_documents("bench", 2 * prompts, 12_345, 1.0):
        kind = "no tool fits" if document.turns[2].role == "none" else str(document.held_out)
        found[kind].append(ask(llama, document))
    valid = [answer["valid"] for answers in found.values() for answer in answers]

    def share(kind: str, what: str) -> float:
        return round(sum(answer[what] for answer in found[kind]) / len(found[kind]), 3)

    return {
        "prompts": {kind: len(answers) for kind, answers in found.items()},
        "values exact": share("value", "exact"),
        "phrasings exact": share("phrasing", "exact"),
        "abstention": share("no tool fits", "abstained"),
        "valid": round(sum(valid) / len(valid), 4),
    }


def bits(run_folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """Bits per byte by source: the run, Kneser-Ney, and xz given the training text."""
    opened, run = open_data(data), load_run(run_folder)
    training = Training(opened, run.tokenizer, SILENT)
    by_source: dict[str, list[Document]] = defaultdict(list)
    for document in opened.documents("test"):
        by_source[document.source].append(document)
    rows = {name: measure(run.model, run.tokenizer, some, training) for name, some in by_source.items()}
    return {
        name: {"run": round(b.model, 3), "Kneser-Ney": round(b.kneser_ney, 3), "xz": round(b.xz, 3)}
        for name, b in rows.items()
    }


def train(folder: Path, tokens: float, seed: int) -> tuple[Path, float]:
    """The demo's run, and its CPU seconds."""
    run = folder / f"run-{seed}"
    started = time.process_time()
    settings = TrainConfig(
        folder / "data", folder / "tokenizer", run,
        tokens=tokens, batch_size=BATCH, lr=RATE, seed=seed, prepare=True, keep="last",
    )  # fmt: skip
    train_lm(settings, SILENT)
    return run, round(time.process_time() - started, 1)


def measured(folder: Path, arguments: argparse.Namespace, parts: Sequence[str]) -> dict[str, Any]:
    """The report of the parts that are asked for; where none needs a run, none is made."""
    report: dict[str, Any] = {"tokens": arguments.tokens, "ratios": {}}
    ratios = report["ratios"]
    if set(parts) != {"speed"}:
        started = time.process_time()
        build_data(DataConfig(None, folder / "data"), SILENT)
        make_tokenizer(folder / "data", folder / "tokenizer", TokenizerConfig(spaces=True), SILENT)
        report["CPU s of data and tokenizer"] = round(time.process_time() - started, 1)
        report["training documents"] = documents_of(open_data(folder / "data"), "train")
    runs = []
    if set(parts) - {"speed", "optimizers"}:
        for seed in arguments.seeds if "quality" in parts else arguments.seeds[:1]:
            run, seconds = train(folder, arguments.tokens, seed)
            runs.append(run)
            out = folder / f"export-{seed}"
            export(ExportConfig(run, out, ("gguf",), ("q8_0",)), SILENT)
            row = {"seed": seed, "CPU s of training": seconds}
            if "quality" in parts:
                row |= quality(out / "model-q8_0.gguf", arguments.prompts)
            report.setdefault("rows", []).append(row)
    if "quality" in parts:
        for name in ("values exact", "phrasings exact"):
            exact = [float(row[name]) for row in report["rows"]]
            ratios[name] = max(sum(exact) / len(exact), 1e-3) * 3
    if "bits" in parts:
        report["bits per byte"] = bits(runs[0], folder / "data")
        ratios["Kneser-Ney's bits over ours"] = min(
            row["Kneser-Ney"] / row["run"] for row in report["bits per byte"].values()
        )
    if "types" in parts:
        report["differences by type"] = differences_by_type(runs[0], folder / "data", folder / "types")
    if "agreement" in parts:
        file = folder / f"export-{arguments.seeds[0]}" / "model-q8_0.gguf"
        report["agreement"] = agreement(runs[0], file, STRINGS)
    if "speed" in parts:
        report["speed"] = against_trainer(folder / "trainer")
        ratios["tokens a second over Trainer's"] = report["speed"]["ratio"]
    if "optimizers" in parts:
        budget = arguments.tokens * OPTIMIZERS_SHARE
        report["optimizers"] = muon_against_adamw(folder / "data", folder / "tokenizer", folder, budget)
        ratios["AdamW's CPU time over Muon's"] = report["optimizers"]["ratio"]
    return report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--tokens", type=float, default=TOKENS, help="millions")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # As pt lm train does.
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measured(Path(scratch), arguments, arguments.only), indent=2))


if __name__ == "__main__":
    main()
