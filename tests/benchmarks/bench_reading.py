"""Whether the model reads its memory: facts told on a day, asked the next, with the memory alone.

    python tests/benchmarks/bench_reading.py [--first-seed 100] [--seeds 2]

Prints JSON, and to stderr a line for each question: how near the nearest memory was, and each arm's answer.
Users, what they say and what they ask are those of `pt simulate --companion`. Arms: none, no memory (tasks
alone); system, memories in the system prompt; question, before the question; served, the latter where a
memory is near and the former elsewhere, as `pt chat` asks.

answered: questions whose answer has the value, ten a user. found: those whose value is among the memories.
tasks: short questions of the capability suite (facts, arithmetic) that are right, with five memories that
have nothing to do with them; leaks: of these answers, those with a value that the user told.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from device_sim.capability.suite import default_suite
from device_sim.companion.companion import MEMORIES
from device_sim.companion.memory.memory import Memory
from device_sim.companion.models.llama import LlamaModel, smollm2
from device_sim.companion.models.model import Message, Sampling
from device_sim.companion.prompt import NEAR, SYSTEM, build_prompt, is_question
from device_sim.week.user import User, knows
from personality_common.prompt import memories_block
from personality_common.text.encoder import load_encoder

TURNS: Final = 24
DAYS: Final = 7
ANSWER: Final = 48
"""Tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    model, encoder = LlamaModel(smollm2()), load_encoder("minilm")
    system = model.system or SYSTEM

    def plain(said: str, memories: Sequence[str]) -> list[Message]:
        return list(build_prompt(model, said, room=4000, system=system).messages)

    def in_system(said: str, memories: Sequence[str]) -> list[Message]:
        block = memories_block(memories)
        return [Message("system", f"{system}\n\n{block}"), Message("user", said)]

    def before(said: str, memories: Sequence[str]) -> list[Message]:
        found = build_prompt(model, said, room=4000, system=system, memories=memories, score=NEAR)
        return list(found.messages)

    ways: dict[str, Callable[[str, Sequence[str]], list[Message]]] = {
        "none": plain, "system": in_system, "question": before,
    }  # fmt: skip
    tasks = [
        t for t in default_suite().tasks if t.domain in ("facts", "arithmetic") and is_question(t.prompt)
    ]
    with_memory = [way for way in ways if way != "none"]
    figures = {way: Counter[str]() for way in [*ways, "served"]}
    of: dict[str, Any] = {"questions": 0, "found": 0, "tasks": 0}

    def answer(way: str, said: str, memories: Sequence[str], max_tokens: int) -> str:
        pieces = model.stream(ways[way](said, memories), Sampling(max_tokens, temperature=0.0))
        return "".join(piece.text for piece in pieces)

    for seed in range(given.first_seed, given.first_seed + given.seeds):
        user = User(seed, DAYS, TURNS)
        with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "memory", encoder) as memory:
            for i, message in enumerate(user.day(1)):
                memory.add(f"{i:03}", message.said, "me", f"2026-01-01T00:00:{i:02}Z", "user")

            for fact in user.facts:
                for asked in fact.ask:
                    hits = memory.search(asked, "me", MEMORIES)
                    memories = [hit.text for hit in hits]
                    of["questions"] += 1
                    of["found"] += any(knows(text, fact.value) for text in memories)
                    said = {way: answer(way, asked, memories, ANSWER) for way in with_memory}
                    right = {way: knows(text, fact.value) for way, text in said.items()}
                    right["served"] = right["question" if hits[0].score >= NEAR else "system"]
                    for way, good in right.items():
                        figures[way]["answered"] += good
                    row = {"seed": seed, "asked": asked, "score": hits[0].score, "right": right, "said": said}
                    print(json.dumps(row), file=sys.stderr, flush=True)
            for task in tasks[(seed - given.first_seed) % given.seeds :: given.seeds]:
                hits = memory.search(task.prompt, "me", MEMORIES)
                memories = [hit.text for hit in hits]
                of["tasks"] += 1
                said = {way: answer(way, task.prompt, memories, task.max_tokens) for way in ways}
                right = {way: task.rules.score(text) == 1 for way, text in said.items()}
                leaks = {way: any(knows(text, f.value) for f in user.facts) for way, text in said.items()}
                right["served"] = right["question" if hits[0].score >= NEAR else "system"]
                leaks["served"] = leaks["question" if hits[0].score >= NEAR else "system"]
                for way in figures:
                    figures[way]["tasks"] += right[way]
                    figures[way]["leaks"] += leaks[way]
                row = {
                    "seed": seed,
                    "task": task.prompt,
                    "score": hits[0].score,
                    "right": right,
                    "leaks": leaks,
                }
                print(json.dumps(row | {"said": said}), file=sys.stderr, flush=True)
    print(json.dumps({"of": of, **figures}))


if __name__ == "__main__":
    main()
