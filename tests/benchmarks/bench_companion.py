"""How soon the companion answers, and what the mood in its prompt changes.

    python tests/benchmarks/bench_companion.py [--rounds 3] [--bundle BUNDLE]

Prints JSON. Without a bundle, one is trained and exported first. Seconds and milliseconds are of CPU, over
all threads, so that what else the machine does is not in them. `cold_cpu_s`: from the start of `pt chat` to
the first word, a new process each, on an empty store, and on one that remembers, without a bundle and with;
`cold_s`: by the clock. `overhead_cpu_ms`: of a turn, all but the model: mood, search, privacy filter, prompt,
log, route and memory, with 1,000 turns remembered; beside it without mood, and without memory and route
either. `mood`: mean log-probability per token of answers in a mood, minus that of answers in another, with
the first mood in the prompt, and with moods shuffled among the prompts; natural logarithms. `embedding`: of
what the model itself answers, greedily, to four questions, by MiniLM: how far (1 - cosine) an answer is from
the one without a mood, from those with another mood, and from those with the same tokens reordered; its
cosine to the answer in its own mood minus that to the others'; and the share of the 24 ways to deal the
four moods among the prompts whose cosine is as large, which is 1/24 at least.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_sim.companion.config import CompanionConfig
from device_sim.companion.events import Turn, new_conversation
from device_sim.companion.log import EventLog
from device_sim.companion.memory.memory import build
from device_sim.companion.memory.sayings import remembered
from device_sim.companion.models.llama import LlamaModel, smollm2
from device_sim.companion.models.model import ChatModel, Message, Piece, Sampling
from device_sim.companion.opening import open_companion
from device_sim.companion.prompt import SYSTEM, build_prompt
from device_sim.companion.store import hold_store
from personality_common.terminal.progress import SILENT
from personality_common.text.encoder import load_encoder
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import PretrainConfig
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.pipeline import pretrain

DATA = Path(__file__).resolve().parents[2] / "fixtures" / "conversations.jsonl"
REMEMBERED = 1_000
TURNS = 30
QUESTION = "How was your day?"
QUESTIONS = (QUESTION, "How do you feel today?", "How did your weekend go?", "Tell me about your evening.")
ANSWER_TOKENS = 32
MOODS: dict[str, tuple[tuple[str, ...], str]] = {
    "joy": (("joyful", "excited", "cheerful"), "It was wonderful, I could dance all night!"),
    "sadness": (("melancholic", "sad", "lonely"), "It was hard. I cried a little and went home alone."),
    "anger": (("angry", "irritated", "hostile"), "Terrible! Everybody got on my nerves, leave me alone."),
    "calm": (("calm", "serene", "patient"), "It was quiet. I took my time and breathed slowly."),
}


class Silent:
    """A model that says one word at once, so that what is left is ours."""

    name, context_length = "silent", 4096
    system: str | None = None

    def __init__(self, model: ChatModel) -> None:
        self.count = model.count
        self.log_probabilities = model.log_probabilities

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        yield Piece("Yes.", "done")


def cold(store: Path, message: str, bundle: Path | None = None) -> tuple[float, float]:
    """Seconds of CPU, and by the clock."""
    command = [sys.executable, "-m", "personality_common.cli", "chat", "--store", str(store)]
    command += ["--bundle", str(bundle)] if bundle else []
    start = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(message.encode() + b"\n")
        chat.stdin.close()
        assert chat.stdout.read(1)
        seconds = time.monotonic() - start
        # Of user and system, in ticks; the name before them may have spaces in it.
        fields = Path(f"/proc/{chat.pid}/stat").read_text().rpartition(")")[2].split()
        chat.kill()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), seconds


def talk(store: Path, config: CompanionConfig, model: ChatModel, turns: int) -> list[float]:
    """Milliseconds of CPU of each turn, but for what loads something."""
    times = []
    with open_companion(replace(config, store=store), SILENT) as companion:
        companion.parts = replace(companion.parts, model=Silent(model))
        for turn in range(turns + 1):
            start = time.process_time()
            list(companion.answer(f"Message {turn} is about bread, boats and the birds of {1000 + turn}."))
            times.append(1000 * (time.process_time() - start))
    return times[1:]


def fill(store: Path, turns: int) -> None:
    """What was said before, over many conversations."""
    with hold_store(store, create=True) as held, EventLog(held.events) as log:
        for turn in range(turns):
            text = f"In the year {turn} my neighbour of number {turn * 7} kept {turn % 90} hens and a goat."
            log.append(Turn(new_conversation(), "user", text))
        build(held.memory, load_encoder("minilm"), remembered(log.read()))


def matching_minus_others(model: ChatModel, shift: int) -> float:
    """Nats per token, 0 where there is no mood; shift: of the mood in the prompt, 0 is the answer's own."""
    names = list(MOODS)
    found = []
    for i, own in enumerate(names):
        tokens = MOODS[names[(i + shift) % len(names)]][0]
        prompt = build_prompt(model, QUESTION, room=2000, system=model.system or SYSTEM, mood=tokens)
        worth = {
            name: statistics.fmean(model.log_probabilities(prompt.messages, MOODS[name][1])) for name in names
        }
        found.append(worth[own] - statistics.fmean(v for name, v in worth.items() if name != own))
    return statistics.fmean(found)


def embedding_shift(model: ChatModel) -> dict[str, float]:
    """What a mood in the prompt changes in the answers that the model gives; see the module's text."""
    encoder = load_encoder("minilm")

    def told(question: str, tokens: Sequence[str]) -> NDArray[np.float32]:
        prompt = build_prompt(model, question, room=2000, system=model.system or SYSTEM, mood=tokens)
        text = "".join(p.text for p in model.stream(prompt.messages, Sampling(ANSWER_TOKENS, 0.0)))
        row: NDArray[np.float32] = encoder.encode([text])[0]
        return row

    moods = [tokens for tokens, _ in MOODS.values()]
    examples = encoder.encode([answer for _, answer in MOODS.values()])
    apart: dict[str, list[float]] = {"none": [], "another mood": [], "another order": []}
    nearness = []
    for question in QUESTIONS:
        plain = told(question, ())
        rows = np.stack([told(question, tokens) for tokens in moods])
        for tokens, row in zip(moods, rows, strict=True):
            orders = (tokens[::-1], (*tokens[1:], tokens[0]))
            apart["none"].append(1 - float(row @ plain))
            apart["another mood"] += [1 - float(row @ other) for other in rows if other is not row]
            apart["another order"] += [1 - float(row @ told(question, order)) for order in orders]
        nearness.append(rows @ examples.T)
    near = np.mean(nearness, axis=0)
    n = len(moods)
    dealt = [near[range(n), order].mean() for order in itertools.permutations(range(n))]
    return {f"from {name}": statistics.fmean(found) for name, found in apart.items()} | {
        "to its own mood": float(dealt[0] - near.mean()) * n / (n - 1),
        "ways to deal the moods that do as well": float(np.mean(np.array(dealt) >= dealt[0])),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    model = LlamaModel(smollm2())
    own = matching_minus_others(model, 0)
    shuffled = statistics.fmean(matching_minus_others(model, shift) for shift in (1, 2, 3))
    shift = embedding_shift(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.bundle or make_bundle(folder)
        fill(folder / "full", REMEMBERED)
        configs = {
            "all": CompanionConfig(bundle=bundle),
            "without mood": CompanionConfig(),
            "without mood, memory, route": CompanionConfig(no_memory=True),
        }
        overhead = {}
        for kind, config in configs.items():
            shutil.copytree(folder / "full", folder / kind)
            overhead[kind] = statistics.median(talk(folder / kind, config, model, TURNS))
        starts = {
            "empty": [cold(folder / f"empty-{n}", "Hello! How are you?") for n in range(options.rounds)],
            "remembers": [cold(folder / "all", "What did I say of hens?") for n in range(options.rounds)],
            "bundle, empty": [
                cold(folder / f"mood-{n}", "Hello! How are you?", bundle) for n in range(options.rounds)
            ],
            "bundle, remembers": [
                cold(folder / "all", "What did I say of hens?", bundle) for n in range(options.rounds)
            ],
        }
    figures = {
        "mood": {"own": own, "shuffled": shuffled},
        "embedding": shift,
        "overhead_cpu_ms": overhead,
        "cold_cpu_s": {kind: [cpu for cpu, _ in found] for kind, found in starts.items()},
        "cold_s": {kind: [clock for _, clock in found] for kind, found in starts.items()},
        # Of likelihoods per token: above 1, a mood in the prompt favours answers in that mood.
        "ratios": {
            "mood own over shuffled": math.exp(own - shuffled),
            "embedding: another mood over another order": shift["from another mood"]
            / max(1e-3, shift["from another order"]),
        },
    }
    print(json.dumps(figures))


def make_bundle(folder: Path) -> Path:
    pretrain(PretrainConfig(DataConfig(str(DATA)), folder / "run", device="cpu"), SILENT)
    export(ExportConfig(folder / "run", folder / "bundle", only=("model", "encoder")), SILENT)
    return folder / "bundle"


if __name__ == "__main__":
    main()
