"""Whether the model reads its memory: facts told on a day, asked the next, with the memory and an adapter.

    python tests/benchmarks/bench_reading.py [--first-seed 100] [--seeds 2]
    python tests/benchmarks/bench_reading.py --readings FILE [--first-seed 120] [--seeds 4]
    python tests/benchmarks/bench_reading.py --night [--first-seed 120] [--seeds 4]

Prints JSON, and to stderr a line for each question: how near the nearest memory was, and each arm's answer.
Users, what they say and what they ask are those of `pt simulate --companion`. Arms of the model as it
shipped: none, no memory; system, memories in the system prompt; question, before the question; served, the
latter where a memory is near and the former elsewhere, as `pt chat` asks. With --night a night is lived of
the day, which the user judges, by `pt night run --suite short`, and its candidate is asked, whether the gate
takes it or not, instead of system and question: adapter, without memory; both, as served. With --readings
the adapter is of a night's invented people alone, which has seen nothing of the user: trained, and written
to FILE, where there is none.

answered: questions whose answer has the value, ten a user. found: those whose value is among the memories.
tasks: short questions of the capability suite (facts, arithmetic) that are right, with five memories that
have nothing to do with them; leaks: of these answers, those with a value that the user told; strange_leaks:
the same of questions in the first person that nothing of what was told answers (reading_strange.txt).
Of a night: cpu_s and wall_s from its start to its verdict, without the day; peak_bytes of its training;
domains and perplexity as in bench_night.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench_night import changed, perplexity
from night_days import write_user

from device_sim.adapters.codec import ADAPTER_FILE
from device_sim.adapters.learned import LEARNED
from device_sim.capability.suite import Task, default_suite
from device_sim.companion.companion import MEMORIES
from device_sim.companion.memory.memory import Memory
from device_sim.companion.models.llama import LlamaModel, smollm2
from device_sim.companion.models.model import ChatModel, Message, Sampling
from device_sim.companion.prompt import NEAR, SYSTEM, build_prompt, is_question
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.desk import READINGS, replays
from device_sim.night.engine import Prompted
from device_sim.night.models import ModelEngine
from device_sim.night.reading import readings
from device_sim.week.user import User, knows
from personality_common.prompt import memories_block
from personality_common.registry.versions import VERSIONS_DIR
from personality_common.terminal.progress import SILENT
from personality_common.text.encoder import load_encoder
from personality_common.text.identity import Encoder

TURNS: Final = 24
DAYS: Final = 7
STRANGE: Final = Path(__file__).with_name("reading_strange.txt")
ANSWER: Final = 48
"""Tokens."""


class Arm(NamedTuple):
    """A model, and where memories stand: (its question, memories, score of the best) -> messages."""

    model: ChatModel
    prompt: Callable[[str, Sequence[str], float], Sequence[Message]]

    def answer(self, messages: Sequence[Message], max_tokens: int) -> str:
        sampling = Sampling(max_tokens, temperature=0.0)
        return "".join(piece.text for piece in self.model.stream(messages, sampling))


def ways(model: LlamaModel) -> dict[str, Callable[[str, Sequence[str], float], Sequence[Message]]]:
    """Where memories stand, by name."""
    system = model.system or SYSTEM

    def served(said: str, memories: Sequence[str], score: float) -> Sequence[Message]:
        return build_prompt(model, said, room=4000, system=system, memories=memories, score=score).messages

    return {
        "none": lambda said, memories, score: served(said, (), 0.0),
        "system": lambda said, memories, score: [
            Message("system", f"{system}\n\n{memories_block(memories)}"), Message("user", said),
        ],
        "question": lambda said, memories, score: served(said, memories, NEAR),
        "served": served,
    }  # fmt: skip


def night(engine: ModelEngine, user: User, folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The candidate of a night over the user's first day, and what the gate says of it."""
    store = folder / "store"
    write_user(store, user, lambda said: engine.answers(None, [Prompted(one) for one in said], ANSWER))
    config = NightConfig(store, suite="short", seed=user.seed, min_free=0)
    start, began = time.process_time(), time.monotonic()
    lived = run_night(config, engine, SILENT)
    assert lived is not None
    found: dict[str, Any] = {
        "seed": user.seed,
        "accepted": lived.accepted,
        "failed": {check.id: [check.measured, check.limit] for check in lived.checks if check.failed},
        "lost": len(lived.lost),
        "won": len(lived.won),
        "leaks": len(lived.leaks),
        "sets": {s.name: [s.n, s.before, s.after, s.low] for s in lived.sets},
        "cpu_s": time.process_time() - start,
        "wall_s": time.monotonic() - began,
    }
    if lived.training is None or lived.version is None:
        return None, found
    adapter = store / LEARNED / VERSIONS_DIR / lived.version / ADAPTER_FILE
    registry = engine.registry(store, create=False)
    assert registry is not None
    found |= {
        "tokens": lived.training.tokens,
        "train_s": lived.training.seconds,
        "peak_bytes": lived.training.peak_bytes,
        "domains": changed(store),
        "perplexity": [perplexity(engine, None), perplexity(engine, registry.load(lived.version))],
    }
    return adapter, found


def of_readings(engine: ModelEngine, path: Path) -> dict[str, Any]:
    """Train an adapter on a night's readings and on what is replayed beside them, and on nothing else."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:

        def answered(wanted: list[str]) -> dict[str, str]:
            told = engine.answers(None, [Prompted(said) for said in wanted], ANSWER)
            return {said: answer for said, answer in zip(wanted, told, strict=True) if answer.strip()}

        trained = engine.train(
            readings(READINGS, 0), [], replays("chat", True, 0, answered), path, Path(folder) / "work",
            seed=0, minutes=60.0, reporter=SILENT,
        )  # fmt: skip
    losses = [epoch.train_loss for epoch in trained.epochs]
    return {"tokens": trained.tokens, "losses": losses, "cpu_s": time.process_time() - start}


def ask(
    user: User,
    arms: Mapping[str, Arm],
    tasks: Sequence[Task],
    strange: Sequence[str],
    encoder: Encoder,
    folder: Path,
) -> dict[str, Counter[str]]:
    """Counts of each arm, and under `of` of how many."""
    figures = {name: Counter[str]() for name in [*arms, "of"]}
    with Memory(folder / "memory", encoder) as memory:
        for i, message in enumerate(user.day(1)):
            memory.add(f"{i:03}", message.said, "me", f"2026-01-01T00:00:{i:02}Z", "user")

        def answers(asked: str, max_tokens: int) -> tuple[float, list[str], dict[str, str]]:
            hits = memory.search(asked, "me", MEMORIES)
            texts, score = [hit.text for hit in hits], hits[0].score
            said: dict[str, str] = {}
            known: dict[tuple[int, tuple[Message, ...]], str] = {}
            for name, arm in arms.items():
                messages = tuple(arm.prompt(asked, texts, score))
                key = (id(arm.model), messages)  # greedy: the same messages have the same answer
                if key not in known:
                    known[key] = arm.answer(messages, max_tokens)
                said[name] = known[key]
            return score, texts, said

        for fact in user.facts:
            for asked in fact.ask:
                score, memories, said = answers(asked, ANSWER)
                figures["of"]["questions"] += 1
                figures["of"]["found"] += any(knows(text, fact.value) for text in memories)
                for name, text in said.items():
                    figures[name]["answered"] += knows(text, fact.value)
                row = {"seed": user.seed, "asked": asked, "value": fact.value, "score": score, "said": said}
                print(json.dumps(row), file=sys.stderr, flush=True)
        for task in tasks:
            score, _, said = answers(task.prompt, task.max_tokens)
            figures["of"]["tasks"] += 1
            for name, text in said.items():
                figures[name]["tasks"] += task.rules.score(text) == 1
                figures[name]["leaks"] += any(knows(text, fact.value) for fact in user.facts)
            row = {"seed": user.seed, "task": task.prompt, "score": score, "said": said}
            print(json.dumps(row), file=sys.stderr, flush=True)
        for asked in strange:
            score, _, said = answers(asked, ANSWER)
            figures["of"]["strange"] += 1
            for name, text in said.items():
                figures[name]["strange_leaks"] += any(knows(text, fact.value) for fact in user.facts)
            row = {"seed": user.seed, "strange": asked, "score": score, "said": said}
            print(json.dumps(row), file=sys.stderr, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--night", action="store_true")
    parser.add_argument("--readings", type=Path)
    given = parser.parse_args()
    path, encoder = smollm2(), load_encoder("minilm")
    model, engine = LlamaModel(path), ModelEngine(path)
    way = ways(model)
    tasks = [
        t for t in default_suite().tasks if t.domain in ("facts", "arithmetic") and is_question(t.prompt)
    ]
    strange = STRANGE.read_text(encoding="utf-8").splitlines()
    figures: dict[str, Counter[str]] = {}
    nights = []
    if given.readings and not given.readings.exists():
        nights.append(of_readings(engine, given.readings))
        print(json.dumps(nights[-1]), file=sys.stderr, flush=True)
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        user = User(seed, DAYS, TURNS)
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            if given.night or given.readings:
                arms = {"none": Arm(model, way["none"]), "memory": Arm(model, way["served"])}
                file = given.readings
                if given.night:
                    file, found = night(engine, user, folder)
                    nights.append(found)
                    print(json.dumps(found), file=sys.stderr, flush=True)
                if file is not None:
                    learned = LlamaModel(path, adapters={"tonight": file}).with_scales({"tonight": 1.0})
                    arms |= {"adapter": Arm(learned, way["none"]), "both": Arm(learned, way["served"])}
            else:
                arms = {name: Arm(model, prompt) for name, prompt in way.items()}
            share = slice(seed - given.first_seed, None, given.seeds)
            for name, counts in ask(user, arms, tasks[share], strange, encoder, folder).items():
                figures.setdefault(name, Counter()).update(counts)
    print(json.dumps({**figures, "nights": nights}))


if __name__ == "__main__":
    main()
