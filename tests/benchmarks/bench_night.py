"""What a night teaches: a style of sixty turns, and what is none.

    python tests/benchmarks/bench_night.py [--kinds style noise "signed noise" contradictions few person]
                                           [--count 60] [--seeds 1] [--first-seed 0] [--suite short]
                                           [--minutes 30]

Prints JSON; what each night came to goes to stderr, too. The day is generated: sixty messages, the base
model's own first sentences as edits, with a sign-off (`style`), shuffled among the messages (`noise`), or
both (`night_days.Kind` has all kinds).

shown: share of held-out messages whose answer, decoded greedily by llama.cpp, has the sign-off.
perplexity: of paragraphs of this project's documentation, before and after; no chat, and nobody's.
domains: of the capability suite, tasks lost and won.
cpu_s: of the process and of all its threads. What the base answers to the suite, how likely it finds an
answer, and vectors, are made once for all nights.
ratios: of nights of style, answers with the sign-off after over before, one more of each; perplexity before
over after.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from night_days import SIGN_OFF, Kind, write_day, write_person
from numpy.typing import NDArray

from device_sim.companion.events import DEFAULT_USER
from device_sim.companion.log import read_events
from device_sim.companion.models.llama import smollm2
from device_sim.night.beginning import new_items
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.data import collect
from device_sim.night.engine import Prompted, Said
from device_sim.night.gate.findings import CHANGED
from device_sim.night.measuring import read_measured
from device_sim.night.models import ModelEngine
from device_sim.night.planning import split_of
from device_sim.night.report import read_report
from device_sim.night.state import AFTER_FILE, BEFORE_FILE, Night, Settings, folder_of, write_night
from personality_common.registry.record import now
from personality_common.terminal.progress import SILENT

DOCS: Final = Path(__file__).parents[2] / "docs"
PARAGRAPHS: Final = 40
ANOTHER: Final = 100_000
"""Between the seeds of two people."""


@cache
def paragraphs() -> list[str]:
    """English text that no model here was trained on."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    found = [" ".join(part.split()) for text in texts for part in text.split("\n\n") if part[:1].isalpha()]
    return [part for part in found if 300 <= len(part) <= 900][::3][:PARAGRAPHS]


def perplexity(engine: ModelEngine, adapter: Any) -> float:
    from device_sim.finetuning.examples import Row
    from device_sim.finetuning.torch_base import row_losses

    rows = [Row(tuple(engine.plain.answer_ids(text)), 1) for text in paragraphs()]
    with engine.base_model.adapted(adapter) as model:
        losses = row_losses(model, rows)
    sizes = [len(row.ids) - 1 for row in rows]
    return math.exp(sum(n * loss for n, loss in zip(sizes, losses, strict=True)) / sum(sizes))


def changed(store: Path, number: int = 1) -> dict[str, list[int]]:
    """Domain -> tasks of the capability suite that were lost and won."""
    folder = folder_of(store, number)
    before, after = (read_measured(folder / name).sets["capability"] for name in (BEFORE_FILE, AFTER_FILE))
    found: dict[str, list[int]] = {}
    for one, other in zip(before, after, strict=True):
        counts = found.setdefault(one.group, [0, 0])
        counts[0] += one.score - other.score >= CHANGED
        counts[1] += other.score - one.score >= CHANGED
    return found


class BaseOnce(ModelEngine):
    """How likely the base finds an answer after a message, and vectors, are computed once for all nights."""

    def __init__(self, model: Path) -> None:
        super().__init__(model)
        self._losses: dict[Said, float] = {}
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if new := [text for text in dict.fromkeys(texts) if text not in self._vectors]:
            self._vectors.update(zip(new, super().embed(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])

    def losses(self, adapter: Path | None, said: Sequence[Said]) -> list[float]:
        if adapter is not None:
            return super().losses(adapter, said)
        if new := [one for one in dict.fromkeys(said) if one not in self._losses]:
            self._losses.update(zip(new, super().losses(None, new), strict=True))
        return [self._losses[one] for one in said]


def take(store: Path, engine: ModelEngine, seed: int) -> None:
    """The files of a night that took the day, without a training: no adapter is active."""
    data = collect(read_events(store / "events"), DEFAULT_USER)
    turns = tuple(sorted({turn for item in data.items for turn in item.turns}))
    settings = Settings("smollm2", DEFAULT_USER, "short", 1.0, seed, 1)
    write_night(
        store,
        Night(
            1, "done", now(), settings, engine.base, data.until, {}, new_items([], data),
            split_of([], data, seed, engine.embed), turns, turns, ended=now(),
        ),
    )  # fmt: skip


def night(engine: BaseOnce, kind: Kind, seed: int, count: int, suite: str, minutes: float) -> dict[str, Any]:
    """One day and its night, in a store that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"

        def answer(said: Sequence[str]) -> list[str]:
            return engine.answers(None, [Prompted(one) for one in said], 48)

        if kind == "person":
            write_person(store, answer, count=count, seed=seed)
            take(store, engine, seed)
            write_person(store, answer, count=count, seed=seed + ANOTHER)
        else:
            write_day(store, kind, answer, count=count, seed=seed)
        start = time.process_time()
        config = NightConfig(store, suite=suite, budget_minutes=minutes, seed=seed, min_free=0)
        lived = run_night(config, engine, SILENT)
        assert lived is not None
        found: dict[str, Any] = {
            "kind": kind,
            "seed": seed,
            "accepted": lived.accepted,
            "failed": [check.id for check in lived.checks if check.failed],
            "reasons": list(lived.reasons),
            "checks": {check.id: [check.measured, check.limit] for check in lived.checks},
            "cpu_s": time.process_time() - start,
        }
        if lived.training is None:
            return found
        examples = read_report(store).examples
        shown = [
            sum(SIGN_OFF.casefold() in answer.casefold() for answer in answers) / max(len(answers), 1)
            for answers in ([e.before for e in examples], [e.after for e in examples])
        ]
        registry = engine.registry(store, create=False)
        assert registry is not None
        return found | {
            "shown": shown,
            "held_out": len(examples),
            "sets": {s.name: [s.n, s.before, s.after, s.low] for s in lived.sets},
            "domains": changed(store, lived.number),
            "perplexity": [perplexity(engine, None), perplexity(engine, registry.load(lived.version or ""))],
            "lost": len(lived.lost),
            "won": len(lived.won),
            "tokens": lived.training.tokens,
            "epochs": [epoch.validation_loss for epoch in lived.training.epochs],
            "train_s": lived.training.seconds,
            "peak_bytes": lived.training.peak_bytes,
        }


def ratios(nights: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of the nights of style that trained; none where there are none."""
    styles = [one for one in nights if one["kind"] == "style" and "shown" in one]
    if not styles:
        return {}
    before, after = (sum(one["shown"][i] * one["held_out"] for one in styles) + 1 for i in (0, 1))
    return {
        "sign-off shown, after over before": after / before,
        "perplexity, before over after": statistics.geometric_mean(
            one["perplexity"][0] / one["perplexity"][1] for one in styles
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=["style"])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--suite", default="short")
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    nights = []
    engine = BaseOnce(smollm2())
    for kind in given.kinds:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            nights.append(night(engine, kind, seed, given.count, given.suite, given.minutes))
            print(json.dumps(nights[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"ratios": ratios(nights), "nights": nights}))


if __name__ == "__main__":
    main()
