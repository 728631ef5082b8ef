"""Questions about facts that the model words itself (`pt night run --augment`): how many are trained.

    python tests/benchmarks/bench_augment.py [--first-seed 200] [--seeds 20]

Prints JSON, and to stderr a line for each night. A night is the first day of a user of `pt simulate
--companion`, who tells five facts and edits answers, divided as a night is; nothing is trained, and no number
of questions is too large. Last comes a day with facts of other forms, which no such user tells. The base sees
a question alone, never its value: the same kind of fact has the same questions, whoever tells it.

nights, facts: how many; made: questions, and answers that were none; kept; refused: by reason; different: of
those that were kept, how many are not the same words.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from night_days import write_user

from device_sim.companion.events import Route, Turn, new_conversation
from device_sim.companion.log import EventLog, read_events
from device_sim.companion.models.llama import smollm2
from device_sim.companion.store import hold_store, open_store
from device_sim.night.augmenting import ANSWER_TOKENS, Augmentation, augment
from device_sim.night.data import collect
from device_sim.night.engine import Prompted
from device_sim.night.models import ModelEngine
from device_sim.night.planning import split_of
from device_sim.week.user import User

TURNS: Final = 24
DAYS: Final = 7
MOST: Final = 1_000
OTHERS: Final = (
    "My cat is called Mia.", "My dog is called Bodo.", "My boat is called Argo.", "I am 31 years old.",
    "My phone number is 555 0134.", "My address is 14 Linden Street.", "My favourite book is Emma.",
    "My favourite sport is rowing.", "My favourite city is Porto.", "My favourite animal is the otter.",
)  # fmt: skip


def worded(engine: ModelEngine, user: User, facts: Sequence[str], folder: Path) -> Augmentation:
    """What the base makes of a user's first day, on which further facts are told."""
    write_user(folder, user, lambda said: ["I see."] * len(said))
    with hold_store(folder, create=True) as held, EventLog(held.events) as log:
        for said in facts:
            conversation = new_conversation()
            turn = log.append(Turn(conversation, "user", said))
            log.append(Turn(conversation, "assistant", "I see."))
            log.append(Route(turn.id, "memory", {"memory": 1.0}))
    data = collect(read_events(open_store(folder).events), "default")
    parts = split_of([], data, user.seed, engine.embed)
    train = [item for item in data.items if item.id in set(parts.train)]
    others = [item for item in data.items if item.id not in set(parts.train)]

    def ask(said: Sequence[str]) -> list[str]:
        return engine.answers(None, [Prompted(one) for one in said], ANSWER_TOKENS)

    return augment(train, others, MOST, ask, engine.embed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first-seed", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    engine = ModelEngine(smollm2())
    days: list[tuple[str, int, Sequence[str]]] = [
        ("users", seed, ()) for seed in range(given.first_seed, given.first_seed + given.seeds)
    ]
    figures: dict[str, Counter[str]] = {}
    different: dict[str, set[str]] = {}
    for name, seed, facts in [*days, ("others", given.first_seed, OTHERS)]:
        with tempfile.TemporaryDirectory() as made:
            found = worded(engine, User(seed, DAYS, TURNS), facts, Path(made) / "store")
        count = figures.setdefault(name, Counter())
        count.update(nights=1, facts=len(found.facts))
        for fact in found.facts:
            count.update(made=fact.made, kept=fact.kept)
            count.update({f"refused: {why}": n for why, n in fact.refused.items()})
        kept = [question for questions in found.questions.values() for question in questions]
        different.setdefault(name, set()).update(question.casefold() for question in kept)
        print(json.dumps({"day": name, "seed": seed, "kept": kept}), file=sys.stderr, flush=True)
    print(json.dumps({name: {**count, "different": len(different[name])} for name, count in figures.items()}))


if __name__ == "__main__":
    main()
