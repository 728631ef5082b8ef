"""False accepts and rejects of the night's gate, of a naive one, and of one that reuses its training sample.

    python tests/benchmarks/bench_gate.py [--nights 10000]

Prints JSON: share of nights that each gate accepts, by what is true of them. Sets have the sizes that nights
have: 12 to 200 held out, 250 of general text and of earlier nights, 144 tasks of nine domains, 60 probes; of
facts two questions each, asked without the memory and beside it, and 40 that they do not answer; or none.
Tasks and probes change sides both ways, whatever is true, as often as in real nights (`CHURN`): greedy
answers do, when a model is touched. Gains are in nats, of deviation .3, normal or of other shapes of that
deviation; of chrF .35, and the mean that of the gain, .15 at most. The ratio is the naive gate's false
accepts over this gate's, nothing learned, 60 held out.

naive: accepts when the mean gain is above 0 and at most one task more is lost than won.
reused: as naive, but its held-out part was trained on, which is worth .3 nats there and nothing elsewhere.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import GateState, Kind, NightEvidence, Paired
from device_sim.night.gate.judge import judge
from device_sim.night.measuring import DECODED, IN_VAIN

SD: Final = 0.3
CHRF_SD: Final = 0.35
CHURN: Final = 0.06
"""Each way; a night of a style, as it is trained now, lost 8 of 144 tasks and won 8."""
UNASKED_CHURN: Final = 0.02
"""The same of what the memory does not answer: the base answers one of 24 with it."""
REUSED: Final = 0.3
DESIGN: Final = GateConfig().minimum_effect + 0.3 * SD
"""What 200 held-out examples are to find: .3 of a deviation above the minimum."""
DOMAINS: Final = tuple(f"domain {i % 9}" for i in range(144))
LIFE: Final = 30
"""Nights of a life."""

Array = NDArray[np.float64]
Shape = Callable[[np.random.Generator, int], Array]


def skewed(rng: np.random.Generator, n: int) -> Array:
    """Many small gains and few large losses: a lognormal turned round, mean 0, variance 1."""
    s = 0.75
    drawn = np.exp(s * s / 2) - rng.lognormal(0, s, n)
    return np.asarray(drawn / np.sqrt((np.exp(s * s) - 1) * np.exp(s * s)), np.float64)


SHAPES: Final[dict[str, Shape]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "t3": lambda rng, n: rng.standard_t(3, n) / np.sqrt(3),
    "skewed": skewed,
}


@dataclass(frozen=True)
class Truth:
    """What is true of a night; `lost` is a net share of tasks, beside what changes anyway.

    Of a night with `facts` questions `learned` is the net share that is answered more without the memory,
    `unread` the one that is answered less beside it. `alike`: both questions of a fact change sides together.
    `unasked`: net share of what the memory does not answer that is answered with it all the same.
    """

    name: str
    useful: bool
    gain: float = 0.0
    held_out: int = 60
    shape: str = "normal"
    general: float = 0.0
    earlier: float = 0.0
    lost: float = 0.0
    lost_probes: float = 0.0
    lost_domain: float = 0.0
    churn: float = CHURN
    facts: int = 0
    learned: float = 0.0
    unread: float = 0.0
    alike: bool = False
    unasked: float = 0.0


def nats(rng: np.random.Generator, name: str, kind: Kind, n: int, mean: float, shape: str) -> Paired:
    gains = mean + SD * SHAPES[shape](rng, n)
    return Paired(name, kind, (0.0,) * n, tuple(gains.tolist()))


def wording(rng: np.random.Generator, n: int, gain: float) -> Paired:
    gains = float(np.clip(gain, -0.15, 0.15)) + CHRF_SD * rng.standard_normal(n)
    return Paired("wording", "wording", (0.0,) * n, tuple(gains.tolist()))


def tasks(
    rng: np.random.Generator, kind: Kind, n: int, lost: float, churn: float, of_domain: float = 0.0
) -> Paired:
    """Tasks that are lost or won as they come; of the first domain more are lost."""
    chance = np.full(n, max(lost, 0.0) + churn)
    groups = DOMAINS if kind == "capability" else ()
    if of_domain:
        chance[[group == DOMAINS[0] for group in groups]] += of_domain
    draw = rng.random(n)
    before = (draw < chance).astype(float)
    won = (draw >= chance) & (draw < chance + churn - min(lost, 0.0))
    return Paired(kind, kind, tuple(before.tolist()), tuple(won.astype(float).tolist()), groups=groups)


def facts(rng: np.random.Generator, truth: Truth) -> tuple[Paired, ...]:
    """What was told, asked without the memory and beside it; a share that is lost below 0 is won.

    Where it is learned nothing of it was answered before without the memory, and nothing can be lost.
    """
    found = []
    alone = 0.0 if truth.learned else truth.churn
    kinds: tuple[tuple[Kind, float, float], ...] = (
        ("personal", -truth.learned, alone),
        ("remembered", truth.unread, truth.churn),
    )
    for kind, lost, churn in kinds if truth.facts else ():
        one = tasks(rng, kind, truth.facts // 2 if truth.alike else truth.facts, lost, churn)
        found.append(Paired(kind, kind, one.before * 2, one.after * 2) if truth.alike else one)
    if truth.facts:
        found.append(tasks(rng, "unasked", IN_VAIN, truth.unasked, UNASKED_CHURN))
    return tuple(found)


def night(rng: np.random.Generator, truth: Truth) -> NightEvidence:
    kept = (
        *facts(rng, truth),
        nats(rng, "general", "general", 250, truth.general, truth.shape),
        nats(rng, "night-1", "earlier", 250, truth.earlier, truth.shape),
        wording(rng, min(truth.held_out, DECODED), truth.gain),
        tasks(rng, "capability", 144, truth.lost, truth.churn, truth.lost_domain),
        tasks(rng, "style", 30, truth.lost_probes, truth.churn),
        tasks(rng, "safety", 30, truth.lost_probes, truth.churn),
    )
    return NightEvidence(
        nats(rng, "tonight", "target", truth.held_out, truth.gain, truth.shape), kept, (), 144
    )


def naive(night: NightEvidence, reused: float = 0.0) -> bool:
    (suite,) = (paired for paired in night.kept if paired.kind == "capability")
    return float(np.mean(night.target.gains)) + reused > 0 and sum(suite.gains) >= -1


def accepted(truth: Truth, nights: int, seed: int) -> dict[str, float]:
    """Share of nights that each gate accepts."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(3)
    for _ in range(nights):
        evidence = night(rng, truth)
        counts += [judge(evidence, GateState()).accepted, naive(evidence), naive(evidence, REUSED)]
    return dict(zip(("gate", "naive", "reused"), (counts / nights).tolist(), strict=True))


def life(rng: np.random.Generator, gain: float, held_out: int, nights: int) -> int | None:
    """The first night that is accepted, 1 the first; the same examples come again, as earlier nights'.

    Of an example's gain .8 of the variance is the example's own, whichever night's candidate it meets.
    """
    state, past = GateState(), []
    harmless = night(rng, Truth("", True)).kept
    harmless = tuple(p for p in harmless if p.kind != "earlier")
    still = tuple(Paired(p.name, p.kind, p.before, p.before) for p in harmless)
    for number in range(1, nights + 1):
        past.append((f"night-{number}", np.sqrt(0.8) * rng.standard_normal(held_out)))
        sets = [
            Paired(
                name, "earlier", (0.0,) * held_out,
                tuple((gain + SD * (own + np.sqrt(0.2) * rng.standard_normal(held_out))).tolist()),
            )
            for name, own in past[-8:]
        ]  # fmt: skip
        tonight = Paired(sets[-1].name, "target", sets[-1].before, sets[-1].after)
        decision = judge(NightEvidence(tonight, (*still, *sets[:-1]), (), 144), state)
        if decision.accepted:
            return number
        state = decision.state
    return None


def lives(gain: float, held_out: int, count: int, seed: int, nights: int = LIFE) -> list[int | None]:
    rng = np.random.default_rng(seed)
    return [life(rng, gain, held_out, nights) for _ in range(count)]


def share(found: Sequence[int | None], by: int) -> float:
    """Of lives, with something accepted by a night."""
    return sum(first is not None and first <= by for first in found) / len(found)


def truths() -> Sequence[Truth]:
    minimum = GateConfig().minimum_effect
    config = GateConfig()
    shapes = [
        Truth(f"{name}, {n} held out, {shape}", useful, gain, n, shape)
        for name, useful, gain, n in (
            ("nothing learned", False, 0.0, 20),
            ("nothing learned", False, 0.0, 60),
            ("exactly the minimum", False, minimum, 200),
            ("the minimum and .3 deviations", True, DESIGN, 200),
        )
        for shape in SHAPES
    ]
    tolerance, unasked = config.remembered_tolerance, config.unasked_tolerance
    told: list[tuple[str, bool, dict[str, Any]]] = [
        ("none learned", False, {}),
        ("none learned, a quarter of all changes", False, {"churn": 0.125}),
        (".8 learned", True, {"learned": 0.8}),
        (".8 learned, .2 more read", True, {"learned": 0.8, "unread": -0.2}),
        (".8 learned, the tolerance unread", False, {"learned": 0.8, "unread": tolerance}),
        ("the same, both wordings alike", False, {"learned": 0.8, "unread": tolerance, "alike": True}),
        (".8 learned, the tolerance told unasked", False, {"learned": 0.8, "unasked": unasked}),
        (".8 learned, a quarter told unasked", False, {"learned": 0.8, "unasked": 0.25}),
    ]
    return [
        *shapes,
        Truth("worse by .1", False, -0.1),
        Truth("better by .1", True, 0.1),
        Truth("better by .3", True, 0.3),
        Truth("better by .3, a quarter of the tasks change", True, 0.3, churn=0.125),
        Truth("better by .5, 12 held out", True, 0.5, 12),
        Truth("better by .5, general text at its tolerance", False, 0.5, general=-config.general_tolerance),
        Truth("better by .5, earlier nights at theirs", False, 0.5, earlier=-config.earlier_tolerance),
        Truth("better by .5, suite at its", False, 0.5, lost=config.capability_tolerance),
        Truth("better by .5, probes at theirs", False, 0.5, lost_probes=config.probe_tolerance),
        Truth("better by .5, general text loses .2", False, 0.5, general=-0.2),
        Truth("better by .5, half of one domain lost", False, 0.5, lost_domain=0.5),
        *(
            Truth(f"better by .5, {n // 2} facts, {what}", useful, 0.5, facts=n, **how)
            for n in (6, 10)
            for what, useful, how in told
        ),
        Truth("nothing learned, 60 held out, 5 facts", False, 0.0, facts=10),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nights", type=int, default=1_000)
    nights = parser.parse_args().nights
    every = truths()
    count = max(100, nights // 10)
    with ProcessPoolExecutor(2) as pool:
        null, weak = (pool.submit(lives, gain, 20, count, seed) for seed, gain in enumerate((0.0, DESIGN)))
        shares = list(pool.map(accepted, every, [nights] * len(every), range(len(every))))
    rows = [
        {"truth": truth.name, "useful": truth.useful, **found}
        for truth, found in zip(every, shares, strict=True)
    ]
    by_night = {n: share(weak.result(), n) for n in (1, 3, 7, 14, 30)}
    (nothing,) = (
        found
        for truth, found in zip(every, shares, strict=True)
        if truth.name == "nothing learned, 60 held out, normal"
    )
    report: dict[str, Any] = {
        "nights": nights,
        "rows": rows,
        "lives": count,
        "lives of 30 nights in which nothing is learned, with one accepted": share(null.result(), LIFE),
        "lives of 20 held out a night, .3 deviations above the minimum, accepted by night": by_night,
        "ratios": {
            "naive false accepts over the gate's": nothing["naive"] / max(nothing["gate"], 1 / nights)
        },
    }  # fmt: skip
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
