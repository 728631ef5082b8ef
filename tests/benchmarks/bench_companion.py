"""How soon the companion answers, and what the mood in its prompt changes.

    python tests/benchmarks/bench_companion.py [--rounds 5]

Prints JSON. `cold_s`: from the start of `pt chat` to the first word, a new process each, on an empty store.
`overhead_ms`: of a turn, all but the model: privacy filter, prompt, and log. `mood`: mean log-probability per
token of answers in a mood, minus that of answers in another, with the first mood in the prompt, and with
moods shuffled among the prompts; natural logarithms.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from device_sim.companion.companion import Companion, Parts
from device_sim.companion.log import EventLog
from device_sim.companion.models.llama import LlamaModel, smollm2
from device_sim.companion.models.model import ChatModel, Message, Piece, Sampling
from device_sim.companion.privacy.filter import Filter
from device_sim.companion.privacy.tags import take_tags
from device_sim.companion.prompt import SYSTEM, build_prompt
from device_sim.companion.store import hold_store

QUESTION = "How was your day?"
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


def cold() -> float:
    """Seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "personality_common.cli", "chat", "--store", f"{folder}/store"]
        start = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as chat:  # fmt: skip # noqa: E501
            assert chat.stdin is not None
            assert chat.stdout is not None
            chat.stdin.write(b"Hello! How are you?\n")
            chat.stdin.close()
            assert chat.stdout.read(1)
            seconds = time.monotonic() - start
            chat.kill()
    return seconds


def overhead(model: ChatModel, turns: int) -> float:
    """Milliseconds of a turn, median."""
    times = []
    with (
        tempfile.TemporaryDirectory() as folder,
        hold_store(Path(folder) / "s", create=True) as store,
        EventLog(store.events) as log,
    ):
        companion = Companion(log, Parts(Silent(model), Filter("mask"), take_tags))
        for turn in range(turns):
            start = time.monotonic()
            list(companion.answer(f"This is message {turn}, about bread, boats and birds."))
            times.append(time.monotonic() - start)
    return 1000 * statistics.median(times)


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    model = LlamaModel(smollm2())
    own = matching_minus_others(model, 0)
    shuffled = statistics.fmean(matching_minus_others(model, shift) for shift in (1, 2, 3))
    figures = {
        "mood": {"own": own, "shuffled": shuffled},
        "overhead_ms": overhead(model, 20),
        "cold_s": [cold() for _ in range(rounds)],
        # Of likelihoods per token: above 1, a mood in the prompt favours answers in that mood.
        "ratios": {"mood own over shuffled": math.exp(own - shuffled)},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
