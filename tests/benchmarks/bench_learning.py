"""How much of what there is to gain each user gets from each learner, over lives, and what noise does.

    python tests/benchmarks/bench_learning.py                      three lives of three users, a few minutes
    python tests/benchmarks/bench_learning.py --data FILE --full   the tables of BENCHMARKS.md, a quarter hour
    python tests/benchmarks/bench_learning.py --data FILE --noise  200 lives of each negative control, as long

Of each vocabulary (`own`: that ships; `words`: the 325 commonest words of the data of four letters or more)
a run is trained first. Every life has the texts, the user and the draws of its seed; 600 texts (300 without
--full) are held out and only measured on, and budgets are kept on the run's own reference sample.

gain: mean over lives of the held-out reward of the top 8 above that of the head that shipped.
of oracle: mean gain over the oracle's mean gain.
of best: over that of a head that is told the taste, and keeps the same budgets: its bias goes along the taste
without whatever is below a cut, the cut that gains most of 0, .25, .5 and .75 root mean squares.
overlap: on held-out texts, mean over lives: in the last night, and in the night in which it is least.
not worse: share of lives with a gain of 0 or more. opened: share of lives whose gate opened.

Prints JSON; its `ratios` are `of oracle` of users who can be learned from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import re
import statistics
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from device_sim.users.nights import NightsConfig, Texts, live, top_reward
from device_sim.users.users import NO_SIGNAL, SimulatedUser, make_user
from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.head import Head
from grpo.learner import CUT
from grpo.learners import LEARNERS, LearnerName, make_learner
from grpo.reference import Reference
from personality_common.contract import VOCAB_SIZE
from personality_common.terminal.progress import SILENT
from pretrain.data.conversations import DataConfig, read_texts
from pretrain.personality.config import PretrainConfig
from pretrain.personality.pipeline import pretrain
from pretrain.personality.run import load_run, load_run_encoder

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
CUTS: Final = (0.0, 0.25, CUT, 0.75)
VOCABULARIES: Final = ("own", "words")
NOISE_LIVES: Final = 200


class Case(NamedTuple):
    """Lives of one kind of user with one learner."""

    vocabulary: str
    user: str
    learner: LearnerName
    nights: int
    interactions: int = 50


QUICK: Final = [Case("own", user, "posterior", 7) for user in ("profile", "thumbs", "random")]
WEEK_USERS: Final = ("profile", "thumbs", "drifting", "contrary", "contextual", *NO_SIGNAL)
FULL: Final = [
    *(Case(v, user, name, 7) for v in VOCABULARIES for name in LEARNERS for user in WEEK_USERS),
    *(Case(v, user, "posterior", 30) for v in VOCABULARIES for user in ("profile", "thumbs", "random")),
    *(Case(v, "thumbs:shown=1", "posterior", 30, 20) for v in VOCABULARIES),
    *(Case("own", user, "grpo", 30) for user in ("profile", "thumbs", "random")),
]
NOISE: Final = [Case("own", user, "posterior", 30) for user in NO_SIGNAL]


class World(NamedTuple):
    """What all lives with a vocabulary share."""

    tokens: Tensor
    training: Texts
    held_out: Texts
    reference: Reference


@cache
def world(folder: Path, data: str, held_out: int) -> World:
    torch.set_num_threads(1)
    run = load_run(folder)
    encoder = load_run_encoder(run, "cpu", torch.float32, SILENT)
    texts, _ = read_texts(DataConfig(data, max_samples=4000))
    embeddings = torch.from_numpy(encoder.encode(texts))
    tokens = torch.from_numpy(encoder.encode(run.vocabulary.tokens))
    assert run.reference is not None

    @torch.no_grad()
    def latents(base: Tensor) -> Tensor:
        found: Tensor = run.model.backbone(run.projector(base) if run.projector else base)
        return found

    shipped = Head(run.model.projection.weight.detach(), run.model.output_bias.detach())
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    everything = Texts(latents(embeddings), embeddings)
    reference = Reference(latents(run.reference), shipped, GRPOConfig())
    return World(tokens, everything[order[held_out:]], everything[order[:held_out]], reference)


def life(arguments: tuple[Case, int, Path, str, int]) -> dict[str, Any]:
    case, seed, folder, data, held_out_texts = arguments
    tokens, training, held_out, reference = world(folder, data, held_out_texts)
    user = make_user(case.user, tokens, training.embeddings, seed)
    learner = make_learner(case.learner, reference)
    kept, opened = learner.start(), False

    def night(latents: Tensor, groups: Groups, head: Head, shipped: Head) -> Head:
        nonlocal kept, opened
        kept, moved = learner.move(latents, groups, kept)
        opened = moved.gate.open
        return kept.head

    spend = NightsConfig(case.nights, case.interactions, seed=seed)
    with torch.inference_mode():
        nights = live(user, training, held_out, reference.shipped, reference.config, spend, night)
        last = case.nights - 1
        before = top_reward(user, held_out, reference.shipped, last)
        oracle = float((user.oracle(held_out.embeddings, last).double() - before).mean())
        best = max(
            float((top_reward(user, held_out, head, last) - before).mean())
            for head in (told(user, reference, cut, last) for cut in CUTS)
        )
    return {
        "gain": nights[-1].rise,
        "oracle": oracle,
        "best": best,
        "overlap": [n.overlap for n in nights],
        "opened": opened,
    }


def told(user: Any, reference: Reference, cut: float, night: int) -> Head:
    """A head that knows the taste."""
    assert isinstance(user, SimulatedUser)
    taste = user.taste(night).double()
    size = float(taste.square().mean().sqrt())
    strong = taste.sign() * (taste.abs() - cut * size).clamp(min=0)
    return reference.furthest(strong, 4 * reference.spread)[1]


def summary(case: Case, lives: list[dict[str, Any]]) -> dict[str, Any]:
    gains, overlaps = [one["gain"] for one in lives], [one["overlap"] for one in lives]
    mean = statistics.mean(gains)
    by_night = [statistics.mean(row) for row in zip(*overlaps, strict=True)]
    found = {
        "lives": len(lives),
        "gain": mean,
        "gain_error": statistics.stdev(gains) / math.sqrt(len(gains)),
        "overlap_last": by_night[-1],
        "overlap_least": min(by_night),
        "not_worse": statistics.mean(gain >= 0 for gain in gains),
        "opened": statistics.mean(one["opened"] for one in lives),
    }
    if case.user not in NO_SIGNAL:
        found["of_oracle"] = mean / statistics.mean(one["oracle"] for one in lives)
        found["of_best"] = mean / statistics.mean(one["best"] for one in lives)
    return {name: round(value, 4) for name, value in found.items()}


def commonest_words(texts: list[str]) -> list[str]:
    words = Counter(word for text in texts for word in re.findall(r"[a-z]{4,}", text.lower()))
    return [word for word, _ in words.most_common(VOCAB_SIZE)]


def train(folder: Path, vocabulary: str, data: str) -> None:
    config = PretrainConfig(DataConfig(data), folder, device="cpu")
    if vocabulary == "words":
        tokens = folder.with_suffix(".json")
        tokens.write_text(json.dumps({"tokens": commonest_words(read_texts(DataConfig(data))[0])}))
        config = dataclasses.replace(config, tokens=tokens)
    pretrain(config, SILENT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(FIXTURE))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 100 to 102, or 100 to 119")
    parser.add_argument("--runs", type=Path, help="folder of the runs; made where missing")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    large = options.full or options.noise
    fresh = range(1000, 1000 + NOISE_LIVES) if options.noise else range(100, 120 if large else 103)
    seeds = options.seeds or fresh
    cases = NOISE if options.noise else FULL if options.full else QUICK
    held_out = 600 if large else 300
    jobs = [(case, seed) for case in cases for seed in seeds]
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        for vocabulary in dict.fromkeys(case.vocabulary for case, _ in jobs):
            if not (runs / vocabulary / "run.json").exists():
                train(runs / vocabulary, vocabulary, options.data)
        tasks = [(case, seed, runs / case.vocabulary, options.data, held_out) for case, seed in jobs]
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
            lives = []
            for number, lived in enumerate(pool.imap(life, tasks, chunksize=4)):
                lives.append(lived)
                if number % 50 == 49:
                    print(f"{number + 1} of {len(tasks)} lives", file=sys.stderr)
    results: dict[str, Any] = {}
    ratios = {}
    for case in cases:
        own = [lived for (of, _), lived in zip(jobs, lives, strict=True) if of == case]
        name = f"{case.vocabulary}, {case.user}, {case.learner}, {case.nights} x {case.interactions}"
        results[name] = found = summary(case, own)
        if "of_oracle" in found:
            ratios[f"{name}: share of the oracle's gain"] = found["of_oracle"]
    print(json.dumps({**results, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
