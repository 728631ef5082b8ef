"""What the demo size of `pt lm` has learned after a few minutes of one core, and what preparation is worth.

    python tests/benchmarks/bench_lm.py [--seeds 0 1 2] [--tokens 1.0] [--prompts 200] [--without]

Prints JSON. Answers are decoded by llama.cpp from the exported Q8_0 file, greedily, under the grammar of the
tools on offer: about values that training never saw, in phrasings that it never saw, and where no tool fits.
Prompts are none of the mix's own. With `--without`, the same again from weights of chance alone. The ratio is
the exact calls over those of a model that guesses one tool of three and knows its values.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from personality_common.terminal.progress import SILENT
from pretrain.lm.answers import is_valid_call
from pretrain.lm.calls import INVOKE, NONE, Tool, grammar
from pretrain.lm.chat import Document
from pretrain.lm.config import DataConfig, ExportConfig, TokenizerConfig, TrainConfig
from pretrain.lm.data.build import build_data
from pretrain.lm.data.tools import argument_type, tool_documents, tools
from pretrain.lm.export.folder import export
from pretrain.lm.llama import Llama
from pretrain.lm.pipeline import make_tokenizer, train_lm

OFFERS = {
    tool.name: Tool(tool.name, tool.description, {k: argument_type(v) for k, v in tool.arguments.items()})  # type: ignore[misc]
    for tool in tools()
}
MOST_TOKENS = 200


def ask(llama: Llama, document: Document) -> dict[str, bool]:
    """What is right about the answer to the one question of an example."""
    offered, _, wanted = document.turns[:3]
    names = [json.loads(line)["name"] for line in offered.text.splitlines()]
    prompt = llama.encode_prompt(Document("", "", "", None, document.turns[:2]))
    said = llama.generate(prompt, MOST_TOKENS, grammar([OFFERS[name] for name in names]))
    called = said.ids[:1] == [INVOKE]
    return {
        "exact": called and said.text == wanted.text,
        "abstained": said.ids[:1] == [NONE],
        "valid": not called or is_valid_call(said.text, offered.text),
    }


def measure(file: Path, prompts: int) -> dict[str, Any]:
    """Shares, by what is held out."""
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
        "valid": round(sum(valid) / len(valid), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tokens", type=float, default=1.0, help="millions")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--without", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.process_time()
        build_data(DataConfig(None, folder / "data"), SILENT)
        make_tokenizer(folder / "data", folder / "tokenizer", TokenizerConfig(spaces=True), SILENT)
        made = time.process_time() - started
        for seed in arguments.seeds:
            for prepare in (True, False) if arguments.without else (True,):
                run, out = (folder / f"{kind}-{seed}-{prepare}" for kind in ("run", "export"))
                started = time.process_time()
                train_lm(
                    TrainConfig(
                        folder / "data", folder / "tokenizer", run,
                        tokens=arguments.tokens, batch_size=4, lr=0.006, seed=seed, prepare=prepare,
                    ),
                    SILENT,
                )  # fmt: skip
                seconds = round(time.process_time() - started, 1)
                export(ExportConfig(run, out, ("gguf",), ("q8_0",)), SILENT)
                row = {"seed": seed, "prepared": prepare, "CPU s of training": seconds}
                rows.append(row | measure(out / "model-q8_0.gguf", arguments.prompts))
    exact = [row["values exact"] for row in rows if row["prepared"]]
    report = {
        "tokens": arguments.tokens,
        "CPU s of data and tokenizer": round(made, 1),
        "rows": rows,
        "ratios": {"values exact": max(sum(exact) / len(exact), 1e-3) * 3},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
