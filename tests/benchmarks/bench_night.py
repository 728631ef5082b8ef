"""What a night teaches: a style of sixty turns, and what is none.

    python tests/benchmarks/bench_night.py [--kinds style noise "signed noise"] [--count 60] [--seeds 1]
                                           [--suite default] [--minutes 30]

Prints JSON; what each night came to goes to stderr, too. The day is generated: sixty messages, the base
model's own first sentences as edits, with a sign-off (`style`), shuffled among the messages (`noise`), or
both. `shown`: share of held-out messages whose answer, decoded greedily by llama.cpp, has the sign-off,
before and after. `cpu_s` is of the process and of all its threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

from night_days import SIGN_OFF, Kind, write_day

from device_sim.companion.models.llama import smollm2
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.models import ModelEngine
from device_sim.night.report import read_report
from personality_common.terminal.progress import SILENT


def night(kind: Kind, seed: int, count: int, suite: str, minutes: float) -> dict[str, object]:
    """One day and its night, in a store that is thrown away."""
    engine = ModelEngine(smollm2())
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        write_day(store, kind, lambda said: engine.answers(None, said, 48), count=count, seed=seed)
        start = time.process_time()
        config = NightConfig(store, suite=suite, budget_minutes=minutes, seed=seed, min_free=0)
        lived = run_night(config, engine, SILENT)
        assert lived is not None
        examples = read_report(store).examples
        shown = [
            sum(SIGN_OFF.casefold() in answer.casefold() for answer in answers) / max(len(answers), 1)
            for answers in ([e.before for e in examples], [e.after for e in examples])
        ]
        return {
            "kind": kind,
            "seed": seed,
            "accepted": lived.accepted,
            "failed": [check.id for check in lived.checks if check.failed],
            "shown": shown,
            "held_out": len(examples),
            "sets": {s.name: [s.n, s.before, s.after, s.low] for s in lived.sets},
            "lost": len(lived.lost),
            "won": len(lived.won),
            "tokens": lived.training.tokens if lived.training else 0,
            "peak_bytes": lived.training.peak_bytes if lived.training else 0,
            "cpu_s": time.process_time() - start,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=["style", "noise"])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--suite", default="default")
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    nights = []
    for kind in given.kinds:
        for seed in range(given.seeds):
            nights.append(night(kind, seed, given.count, given.suite, given.minutes))
            print(json.dumps(nights[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"nights": nights}))


if __name__ == "__main__":
    main()
